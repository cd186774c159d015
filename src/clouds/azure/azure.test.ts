import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { memoryJournal, type UploadJournal } from "../../images/journal.ts";
import { quietCall } from "../../lib/call.ts";
import { codeOf, SlipwayError } from "../../lib/errors.ts";
import { MiB } from "../../lib/units.ts";
import type { CloudImage, ImageSpec } from "../../model.ts";
import type { Cloud, RegionOutcome } from "../cloud.ts";
import { describeCloud } from "../testing/contract.ts";
import { fakeDisk } from "../testing/disks.ts";
import { resourceId } from "./azure.ts";
import {
  ACCOUNT,
  type AzureHarness,
  azureHarness,
  GALLERY,
  OUTSIDER,
  PUBLIC_GALLERY,
  SPEC,
  vhdDisk,
} from "./testing/harness.ts";

describeCloud("azure", azureHarness);

const call = quietCall();
const BLOB = `${SPEC.diskKey}.vhd`;
let harness: AzureHarness;
let cloud: Cloud;

async function begin(simulated: Parameters<typeof azureHarness>[0] = {}): Promise<void> {
  await harness?.close();
  harness = await azureHarness(simulated);
  cloud = harness.cloud;
}

describe("azure", () => {
  beforeEach(() => begin());
  afterEach(() => harness.close());

  describe("uploading a page blob", () => {
    test("neighbours share a write of up to 4 MiB, and a zero block is never sent", async () => {
      const disk = vhdDisk(SPEC, [0, 1, 2, 3, 4, 5, 6, 7, 12], "disk");
      await cloud.upload(disk, SPEC, memoryJournal(), call);
      const writes = harness.simulator.state.pageWrites("vhds", BLOB);
      expect(Math.max(...writes.map((write) => write.bytes))).toBeLessThanOrEqual(4 * MiB);
      expect(writes.length).toBeLessThan(10);
      expect(writes.reduce((sum, write) => sum + write.bytes, 0)).toBe(9 * 512 * 1024 + 512);
    });

    test.each([
      [503, "ServerBusy"],
      [500, "InternalError"],
      [500, "OperationTimedOut"],
      [400, "Md5Mismatch"],
    ])("a page that is answered %i %s is sent again", async (status, code) => {
      harness.answer("Put Page", 3, status, code);
      const staged = await cloud.upload(vhdDisk(SPEC, [0, 3, 9], "disk"), SPEC, memoryJournal(), call);
      expect(staged.diskBytes).toBe(SPEC.diskBytes);
      expect(harness.count("Put Page")).toBeGreaterThanOrEqual(6);
    });

    test("a page is given up after six attempts, and the error says so", async () => {
      harness.answer("Put Page", 1000, 503, "ServerBusy");
      const error = await failure("throttled", cloud.upload(vhdDisk(SPEC, [0], "disk"), SPEC, memoryJournal(), call));
      expect(error.tried).toMatch(/^6 attempts/);
    });

    test("a page that is refused for good is not sent again", async () => {
      harness.answer("Put Page", 1000, 403, "AuthorizationPermissionMismatch");
      const error = await failure("forbidden", cloud.upload(vhdDisk(SPEC, [], "disk"), SPEC, memoryJournal(), call));
      expect(error.subject).toBe("Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write");
      expect(harness.count("Put Page")).toBe(1);
    });

    test("a blob of that name that is not ours is left as it is", async () => {
      await harness.open({ tagsOwner: "CoreOS" }).upload(vhdDisk(SPEC, [2], "theirs"), SPEC, memoryJournal(), call);
      const before = harness.simulator.state.blob("vhds", BLOB)?.etag;
      await failure("already-exists", cloud.upload(vhdDisk(SPEC, [0], "disk"), SPEC, memoryJournal(), call));
      expect(harness.simulator.state.blob("vhds", BLOB)?.etag).toBe(before);
      expect(await Array.fromAsync(cloud.list([], call))).toEqual([]);
    });

    test("a writer whose blob somebody made anew is refused at its next page", async () => {
      const journal = memoryJournal();
      let second: Promise<unknown> | undefined;
      const slow = vhdDisk(SPEC, [0, 2, 4, 6, 8, 10, 12], "disk");
      const paused = {
        ...slow,
        async *read(options: Parameters<typeof slow.read>[0]) {
          let count = 0;
          for await (const block of slow.read(options)) {
            if (++count === 3) {
              await until(() => harness.simulator.state.pageWrites().length >= 2);
              // Another process with a journal of its own: to it the blob is a half-made leftover.
              second = harness.open().upload(vhdDisk(SPEC, [0, 2], "disk"), SPEC, memoryJournal(), call);
              await second;
            }
            yield block;
          }
        },
      };
      await failure("conflict", cloud.upload(paused, SPEC, journal, call));
      const found = await cloud.find(SPEC, "eastus", call);
      expect(found.staged).toEqual(await second);
    });

    test("what an attempt wrote and nobody acknowledged does not survive as data", async () => {
      const journal = memoryJournal();
      const stop = new AbortController();
      const stale = vhdDisk(SPEC, [3, 4, 5], "stale");
      const stopped = {
        ...stale,
        async *read(options: Parameters<typeof stale.read>[0]) {
          yield* stale.read(options);
          while (harness.simulator.state.pageWrites().length < 2)
            await new Promise((resolve) => setTimeout(resolve, 1));
          stop.abort();
          throw new SlipwayError("cancelled", "stopped");
        },
      };
      await failure("cancelled", cloud.upload(stopped, SPEC, forgetful(journal), quietCall(stop.signal)));
      const staged = await cloud.upload(vhdDisk(SPEC, [4], "right"), SPEC, journal, call);
      const [zero, cleared] = await Array.fromAsync(cloud.readBack(staged, [0, 3], call));
      expect(cleared?.sha256).toEqual(zero?.sha256);
      expect(harness.simulator.state.blobNames()).toEqual([`vhds/${BLOB}`]);
    });

    test("a container that is not there is named, not taken for a blob that is not there", async () => {
      const nowhere = harness.open({ container: "elsewhere" });
      await failure("not-found", nowhere.upload(vhdDisk(SPEC, [0], "disk"), SPEC, memoryJournal(), call));
    });

    test("a disk that is no whole number of pages is refused by the bare driver", async () => {
      await failure("invalid", cloud.upload(fakeDisk(MiB + 1, [0]), SPEC, memoryJournal(), call));
      expect(harness.count("Put Blob")).toBe(0);
    });
  });

  describe("registering a version", () => {
    test("the definition is made as Fedora's website opens its images", async () => {
      await registered();
      const { properties } = harness.simulator.state.definition(GALLERY, SPEC.definition!);
      expect(properties).toMatchObject({
        osType: "Linux",
        osState: "Generalized",
        hyperVGeneration: "V2",
        architecture: "x64",
        identifier: { publisher: "Fedora", offer: "Cloud", sku: SPEC.definition },
        features: [{ name: "SecurityType", value: "TrustedLaunchSupported" }],
      });
    });

    test("Arm64 has no trusted launch, and its disk controllers are as configured", async () => {
      const arm = { ...SPEC, arch: "aarch64", definition: "Fedora-Cloud-44-Arm64" };
      cloud = harness.open({ definition: { publisher: "Fedora", offer: "Cloud", diskControllerTypes: "SCSI, NVMe" } });
      await registered(arm);
      const wants = harness.open({ definition: { publisher: "Fedora", offer: "Cloud", acceleratedNetworking: true } });
      const lacks = (await wants.check([arm], call)).filter((one) => one.subject === arm.definition);
      expect(lacks).toMatchObject([{ severity: "warning", message: expect.stringContaining("IsAccelerated") }]);
      const { properties } = harness.simulator.state.definition(GALLERY, arm.definition);
      expect(properties).toMatchObject({
        architecture: "Arm64",
        features: [{ name: "DiskControllerTypes", value: "SCSI, NVMe" }],
      });
    });

    test("a definition of another architecture is named and not used", async () => {
      await registered();
      const arm = { ...SPEC, arch: "aarch64", key: "armkey", version: "44.20251014.0" };
      const staged = await cloud.upload(vhdDisk(arm, [0], "disk"), arm, memoryJournal(), call);
      const error = await failure("conflict", cloud.register(staged, arm, call));
      expect(error.message).toMatch(/Fedora-Cloud-44-x64.*architecture is x64.*Arm64/);
      const findings = await cloud.check([arm], call);
      expect(findings).toContainEqual(expect.objectContaining({ severity: "error", subject: "Fedora-Cloud-44-x64" }));
    });

    test("the witness gets what everybody gets: nothing before the offer and after the withdrawal", async () => {
      const outsider = harness.open({ witness: OUTSIDER });
      const image = await registered();
      const gone = { ...image, id: image.id.replace(/[^/]+$/, "9.9.9") };
      const elsewhere = { ...image, region: "brazilsouth" };
      const seen = () => outsider.witness!([image, gone, elsewhere], call);
      expect(cloud.witness).toBe(undefined);
      expect(await seen()).toEqual([false, false, false]);
      await cloud.offer([image], SPEC, { to: "public" }, call);
      expect(await seen()).toEqual([true, false, false]);
      await cloud.withdraw([image], SPEC, call);
      expect(await seen()).toEqual([false, false, false]);
    });

    test("a witness has no way into the publisher's subscription and storage, and a wrong one has seen nothing", async () => {
      const image = await registered();
      const { subscriptionId } = ACCOUNT;
      const intruder = harness.open({ ...OUTSIDER, subscriptionId });
      const refused = expect.stringMatching(/^(unauthenticated|forbidden)$/);
      await expect(intruder.find(SPEC, "eastus", call)).rejects.toMatchObject({ code: refused });
      const credentials = { ...OUTSIDER.credentials, clientSecret: "not the right one" };
      const wrong = harness.open({ witness: { ...OUTSIDER, credentials } });
      await expect(wrong.witness!([image], call)).rejects.toMatchObject({ code: "unauthenticated" });
    });

    test("the version is excluded from latest, ends as the release does, and carries key and facts", async () => {
      const image = await registered();
      expect(image.id).toBe(`/CommunityGalleries/${PUBLIC_GALLERY}/Images/Fedora-Cloud-44-x64/Versions/44.20251013.0`);
      const version = theVersion();
      expect(version).toMatchObject({ excludeFromLatest: true, provisioning: "Succeeded", blockDeletion: false });
      expect(version.endOfLife).toMatch(/^2027-05-13/);
      expect(version.tags).toMatchObject({
        "slipway-key": SPEC.key,
        "slipway-owner": "slipway",
        "slipway-disk": SPEC.diskKey,
        ComposeID: "Fedora-Cloud-44-20251013.0",
      });
      expect([...version.replicas.keys()]).toEqual(["eastus"]);
    });

    test("without a public gallery the id is the resource's", async () => {
      const { publicGalleryName: _, ...options } = harness.options;
      const { openAzure } = await import("./azure.ts");
      cloud = openAzure(options);
      const image = await registered();
      expect(image.id).toBe(resourceId(options, { definition: SPEC.definition!, version: SPEC.version! }));
      expect(image.id).toMatch(
        new RegExp(
          `^/subscriptions/${ACCOUNT.subscriptionId}/resourceGroups/fedora-cloud/providers/Microsoft.Compute/`,
        ),
      );
      await cloud.offer([image], SPEC, { to: "public" }, call);
      await cloud.setState(image, "deprecated", call);
      await cloud.close();
    });

    test("a version that is being made already is followed, not put again", async () => {
      await begin({ importMs: 40, replicationMs: 40 });
      const staged = await cloud.upload(vhdDisk(SPEC, [0], "disk"), SPEC, memoryJournal(), call);
      const stop = new AbortController();
      const first = cloud.register(staged, SPEC, quietCall(stop.signal));
      await until(() => harness.simulator.state.versions().length > 0);
      stop.abort();
      await failure("cancelled", first);
      expect(theVersion().provisioning).toBe("Creating");
      const image = await harness.open().register(staged, SPEC, call);
      expect(image.state).toBe("candidate");
      expect(harness.count("PUT version")).toBe(1);
    });

    test("a failed version of ours says why, and is made again by the next attempt", async () => {
      const staged = await cloud.upload(vhdDisk(SPEC, [0], "disk"), SPEC, memoryJournal(), call);
      harness.simulator.setRegion("eastus", "fails");
      await expect(cloud.register(staged, SPEC, call)).rejects.toThrow(/Azure/);
      expect(theVersion().provisioning).toBe("Failed");
      expect((await cloud.find(SPEC, "eastus", call)).image).toBeUndefined();
      expect(await Array.fromAsync(cloud.list([], call))).toContainEqual(
        expect.objectContaining({ kind: "image", complete: false }),
      );
      harness.simulator.setRegion("eastus", "up");
      expect((await cloud.register(staged, SPEC, call)).key).toBe(SPEC.key);
      expect(harness.simulator.state.versions()).toHaveLength(1);
    });

    test.each([
      { name: "a version of two numbers", change: { version: "44.1" } },
      { name: "a number that is no 32-bit one", change: { version: "44.20251013.4294967296" } },
      { name: "a definition that climbs out of the gallery", change: { definition: "../../other" } },
      { name: "a home that is not the gallery's", change: { homeRegion: "westeurope" } },
      { name: "a tag that Azure does not take", change: { tags: { "a/b": "c" } } },
    ])("is refused as invalid before it is asked for: $name", async ({ change }) => {
      const staged = { key: SPEC.diskKey, region: "eastus", id: "https://x/vhds/y.vhd", diskBytes: SPEC.diskBytes };
      const error = await failure("invalid", cloud.register(staged, { ...SPEC, ...change }, call));
      expect(error.next).toBeTruthy();
      expect(harness.count("PUT version")).toBe(0);
    });
  });

  describe("replicating", () => {
    test("all regions are one change, with replicas and storage as configured", async () => {
      cloud = harness.open({
        targetRegions: SPEC.regions.map((name) => ({ name, replicas: 3, storageType: "Standard_ZRS" })),
      });
      const image = await registered();
      await replicated(image);
      expect(harness.count("PATCH version")).toBe(1);
      expect(theVersion().targetRegions).toHaveLength(3);
      expect(JSON.stringify(theVersion().targetRegions)).toMatch(/Standard_ZRS/);
    });

    test("a region that fails is an outcome with its reason, the others land, and later it heals", async () => {
      const image = await registered();
      harness.simulator.setRegion("westeurope", "fails");
      const outcomes = await replicated(image);
      expect(codes(outcomes)).toEqual({ eastus: "ok", westeurope: "unavailable", australiaeast: "ok" });
      expect((await cloud.find(SPEC, "australiaeast", call)).image).toBeDefined();
      expect((await cloud.find(SPEC, "westeurope", call)).image).toBeUndefined();

      harness.simulator.setRegion("westeurope", "up");
      expect(codes(await replicated(image))).toEqual({ eastus: "ok", westeurope: "ok", australiaeast: "ok" });
    });

    test("a region that hangs is told of after the deadline, the others as they land", async () => {
      const image = await registered();
      harness.simulator.setRegion("westeurope", "hangs");
      const patient = harness.open({ pace: { pollFirst: 1, pollMost: 2, pollDeadline: 60 } });
      expect(codes(await replicated(image, patient))).toEqual({
        eastus: "ok",
        westeurope: "unavailable",
        australiaeast: "ok",
      });
    });

    test("a refused region costs the others nothing", async () => {
      const regions = ["eastus", "westeurope", "atlantis", "australiaeast"];
      cloud = harness.open({
        targetRegions: regions.map((name) => ({ name, replicas: 1, storageType: "Standard_LRS" })),
      });
      const image = await registered();
      const outcomes = await Array.fromAsync(cloud.replicate(image, { ...SPEC, regions }, regions, call));
      expect(codes(outcomes)).toEqual({ eastus: "ok", westeurope: "ok", atlantis: "invalid", australiaeast: "ok" });
    });

    test("a replication under way is followed, not asked for again", async () => {
      const image = await registered();
      harness.simulator.setRegion("westeurope", "hangs");
      const hasty = harness.open({ pace: { pollFirst: 1, pollMost: 2, pollDeadline: 20 } });
      await replicated(image, hasty);
      const asked = harness.count("PATCH version");
      harness.simulator.setRegion("westeurope", "up");
      expect(codes(await replicated(image))).toEqual({ eastus: "ok", westeurope: "ok", australiaeast: "ok" });
      expect(harness.count("PATCH version") - asked).toBeLessThanOrEqual(1);
      expect(harness.count("PUT version")).toBe(1);
    });
  });

  describe("states", () => {
    test("offering puts it into latest, deprecating takes it out and keeps its end of life", async () => {
      const image = await registered();
      await cloud.offer([image], SPEC, { to: "public" }, call);
      expect(harness.simulator.state.latest(GALLERY, SPEC.definition!, "eastus")?.name).toBe(SPEC.version);
      await cloud.setState(image, "deprecated", call);
      expect(harness.simulator.state.latest(GALLERY, SPEC.definition!, "eastus")).toBeUndefined();
      expect(theVersion().endOfLife).toMatch(/^2027-05-13/);
      await cloud.setState(image, "candidate", call);
      expect((await cloud.find(SPEC, "eastus", call)).image?.state).toBe("candidate");
    });

    test("a deprecated version has an end of life, even when nobody said one", async () => {
      const { endOfLife: _, ...spec } = SPEC;
      const image = await registered(spec);
      expect(theVersion().endOfLife).toBeUndefined();
      await cloud.setState(image, "deprecated", call);
      expect(theVersion().endOfLife).toBeDefined();
    });

    test("a second offer asks for nothing", async () => {
      const image = await registered();
      await cloud.offer([image], SPEC, { to: "public" }, call);
      const asked = harness.count("PATCH version");
      await harness.open().offer([image], SPEC, { to: "public" }, call);
      expect(harness.count("PATCH version")).toBe(asked);
    });

    test("one image for some accounts cannot be said", async () => {
      const image = await registered();
      await failure("unsupported", cloud.offer([image], SPEC, { to: "accounts", accounts: ["x"] }, call));
    });

    test("what is tagged delete=never stays", async () => {
      const image = await registered({ ...SPEC, tags: { ...SPEC.tags, delete: "never" } });
      const [resource] = await Array.fromAsync(cloud.list([], call));
      await failure("conflict", cloud.remove(resource!, call));
      await failure("conflict", cloud.setState(image, "removed", call));
      expect(harness.simulator.state.versions()).toHaveLength(1);
    });

    test("another owner's versions are neither listed nor changed", async () => {
      const image = await registered();
      const others = harness.open({ tagsOwner: "CoreOS" });
      expect(await Array.fromAsync(others.list([], call))).toEqual([]);
      await failure("conflict", others.offer([image], SPEC, { to: "public" }, call));
      await failure("conflict", others.setState(image, "removed", call));
      expect(theVersion().excludeFromLatest).toBe(true);
    });

    test("a version that may not go before its end of life says so at once", async () => {
      cloud = harness.open({ blockDeletionBeforeEndOfLife: true });
      const image = await registered();
      const error = await failure("conflict", cloud.setState(image, "removed", call));
      expect(error.next).toMatch(/2027-05-13/);
      expect(harness.count("DELETE version")).toBe(0);
    });
  });

  describe("checking", () => {
    test("an expired secret says what to rotate, and the secret is nowhere", async () => {
      harness.simulator.expireSecret(true);
      const findings = await cloud.check([SPEC], call);
      expect(findings).toHaveLength(1);
      expect(findings[0]).toMatchObject({ severity: "error", code: "unauthenticated", subject: "client secret" });
      expect(findings[0]!.next).toMatch(new RegExp(`az ad app credential reset --id ${ACCOUNT.clientId}`));
      const error = await failure("unauthenticated", cloud.find(SPEC, "eastus", call));
      expect(everythingOf(error)).not.toContain(ACCOUNT.clientSecret);
    });

    test("a wrong tenant is named", async () => {
      const credentials = { ...ACCOUNT, tenantId: "00000000-1111-4222-8333-444455556666" };
      const [finding] = await harness.open({ credentials }).check([SPEC], call);
      expect(finding).toMatchObject({ code: "unauthenticated", subject: "tenant" });
    });

    test.each([
      { name: "gallery", change: { gallery: "Nope" } },
      { name: "container", change: { container: "nope" } },
      { name: "resource group", change: { resourceGroup: "nope" } },
    ])("a missing $name is an error", async ({ change }) => {
      const findings = await harness.open(change).check([SPEC], call);
      expect(findings.some((one) => one.severity === "error")).toBe(true);
    });

    test("a wrong public name, too many replicas and an unknown region are errors", async () => {
      const targetRegions = SPEC.regions.map((name) => ({ name, replicas: 40, storageType: "Standard_LRS" as const }));
      const findings = await harness
        .open({ publicGalleryName: "Fedora-0", targetRegions })
        .check([{ ...SPEC, regions: [...SPEC.regions, "nowhere"] }], call);
      const errors = findings.filter((one) => one.severity === "error").map((one) => one.subject);
      expect(errors.sort()).toEqual(["nowhere", "public_gallery_name", "replicas per version"]);
    });

    test("an authority that cannot be talked to is not taken for wrong credentials", async () => {
      const { ca: _, ...options } = harness.options;
      const { openAzure } = await import("./azure.ts");
      const stranger = openAzure(options);
      const error = await failure("unavailable", stranger.find(SPEC, "eastus", call));
      expect(error.next).toMatch(/\bca\b/);
      await stranger.close();
    });

    test("a cloud that does not answer is unavailable after the deadline", async () => {
      const deaf = harness.open({ pace: { callDeadline: 1 } });
      await failure("unavailable", deaf.find(SPEC, "eastus", call));
    });
  });
});

async function registered(spec: ImageSpec = SPEC): Promise<CloudImage> {
  const staged = await cloud.upload(vhdDisk(spec, [0, 5], "disk"), spec, memoryJournal(), call);
  return cloud.register(staged, spec, call);
}

function replicated(image: CloudImage, by: Cloud = cloud): Promise<RegionOutcome[]> {
  return Array.fromAsync(by.replicate(image, SPEC, SPEC.regions, call));
}

async function until(there: () => boolean): Promise<void> {
  while (!there()) await new Promise((resolve) => setTimeout(resolve, 1));
}

function theVersion() {
  return harness.simulator.state.version(GALLERY, SPEC.definition!, SPEC.version!);
}

function codes(outcomes: readonly RegionOutcome[]): Record<string, string> {
  return Object.fromEntries(outcomes.map((one) => [one.region, "error" in one ? one.error.code : "ok"]));
}

function forgetful(journal: UploadJournal): UploadJournal {
  return {
    ...journal,
    get staged() {
      return journal.staged;
    },
    get ackedCount() {
      return 0;
    },
    ack() {},
  };
}

async function failure(code: string, promise: Promise<unknown>): Promise<SlipwayError> {
  const error = await promise.then(
    () => new Error("no error"),
    (thrown: unknown) => thrown,
  );
  if (codeOf(error) !== code) throw new Error(`expected ${code}: ${error}`, { cause: error });
  return error as SlipwayError;
}

/** An error with its causes and every property, as a log might show it. */
function everythingOf(error: unknown, depth = 0): string {
  if (typeof error !== "object" || error === null || depth > 6) return String(error);
  return Object.getOwnPropertyNames(error)
    .map((name) => everythingOf((error as Record<string, unknown>)[name], depth + 1))
    .join("\n");
}
