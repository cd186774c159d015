/** Credentials that end and quotas that are reached in the middle of the work, for every cloud by its own client. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { AWS_PUBLISHER, type Rehearsal, startRehearsal } from "../../rehearsal/src/index.ts";
import { memoryJournal } from "../images/journal.ts";
import { quietCall } from "../lib/call.ts";
import { GiB } from "../lib/units.ts";
import type { ImageSpec } from "../model.ts";
import { openRegistry } from "../registries/index.ts";
import { containerImage } from "../registries/testing/image.ts";
import { type AwsOptions, openAws } from "./aws/aws.ts";
import type { AwsCredentials } from "./aws/signature.ts";
import { AWS_SPEC, HURRIED } from "./aws/testing/harness.ts";
import { openAzure } from "./azure/azure.ts";
import { SPEC as AZURE_SPEC, vhdDisk } from "./azure/testing/harness.ts";
import type { Cloud } from "./cloud.ts";
import { openGcp } from "./gcp/gcp.ts";
import { SPEC as GCP_SPEC } from "./gcp/testing/harness.ts";
import { fakeDisk } from "./testing/disks.ts";
import { inProduction } from "./wrappers.ts";

const call = quietCall();
const NON_ZERO = [0, 1, 2, 3, 5, 6, 9, 12, 14];

let rehearsal: Rehearsal;
beforeAll(async () => {
  rehearsal = await startRehearsal();
});
afterAll(() => rehearsal.close());
beforeEach(() => {
  rehearsal.load({});
  for (const simulator of Object.values(rehearsal.simulators)) simulator.reset();
});

const puts = () => rehearsal.proxies.aws.counts().operations["ebs:PutSnapshotBlock@us-east-1"] ?? 0;

function aws(credentials: AwsOptions["credentials"]): Cloud {
  const { ec2, ebs, sts } = rehearsal.urls;
  return inProduction(
    openAws({
      ...{ account: AWS_PUBLISHER.account, homeRegion: AWS_SPEC.homeRegion, endpoints: { ec2, ebs, sts } },
      ...{ credentials, ca: rehearsal.caPem, pace: HURRIED, inFlight: 1 },
    }),
  );
}

/** Temporary keys, a new one whenever it is asked for. */
function temporary(): { source: () => Promise<AwsCredentials>; given: AwsCredentials[] } {
  const given: AwsCredentials[] = [];
  return {
    given,
    async source() {
      const key = { accessKeyId: `ASIATEMPORARY00${given.length}`, secretAccessKey: "s".repeat(40), sessionToken: "t" };
      rehearsal.simulators.aws.accounts.add({ ...AWS_PUBLISHER, ...key });
      given.push(key);
      return { ...key, expiration: new Date(Date.now() + 3_600_000) };
    },
  };
}

function azure(inFlight = 1): { cloud: Cloud; spec: ImageSpec } {
  const { azure: urls } = rehearsal.urls;
  const account = rehearsal.credentials.azure;
  const spec = AZURE_SPEC;
  const cloud = openAzure({
    ...{ subscriptionId: account.subscriptionId, resourceGroup: account.resourceGroup, gallery: "Fedora" },
    ...{ location: spec.homeRegion, storageAccount: account.storageAccount, container: "vhds", ca: rehearsal.caPem },
    credentials: { tenantId: account.tenantId, clientId: account.clientId, clientSecret: account.clientSecret },
    endpoints: { authority: urls.authority, management: urls.management, blob: urls.blob },
    definition: { publisher: "Fedora", offer: "Cloud" },
    targetRegions: spec.regions.map((name) => ({ name, replicas: 1, storageType: "Standard_LRS" as const })),
    ...{ pace: { pollFirst: 1, pollMost: 4, pageRetry: 1 }, inFlight },
  });
  return { cloud: inProduction(cloud), spec };
}

function gcp(): Cloud {
  const { gcp: url } = rehearsal.urls;
  const { project, bucket, serviceAccount } = rehearsal.credentials.gcp;
  const key = serviceAccount as { client_email: string; private_key: string };
  return inProduction(
    openGcp({
      ...{ project, bucket, storageLocation: "us", ca: rehearsal.caPem },
      credentials: { clientEmail: key.client_email, privateKey: key.private_key },
      endpoints: { storage: url, compute: url, resourceManager: url, token: `${url}/token` },
      pace: { pollFirst: 1, pollMost: 4, partRetry: 1 },
    }),
  );
}

describe("credentials that end in the middle of an upload", () => {
  test("AWS: new ones are asked for, and no block is sent twice", async () => {
    const keys = temporary();
    const cloud = aws(keys.source);
    rehearsal.set({ name: "end", fault: "expire", match: { operation: "PutSnapshotBlock" }, after: 7, times: 1 });
    const disk = fakeDisk(AWS_SPEC.diskBytes, NON_ZERO);
    await cloud.upload(disk, AWS_SPEC, memoryJournal(), call);
    expect(keys.given).toHaveLength(2);
    // The refused one again, and no other.
    expect(puts()).toBe(AWS_SPEC.diskBytes / 524_288 + 1);
    // EC2's client takes the new ones too.
    const staged = (await cloud.find(AWS_SPEC, AWS_SPEC.homeRegion, call)).staged!;
    rehearsal.set({ name: "end-ec2", fault: "expire", match: { operation: "RegisterImage" }, times: 1 });
    await cloud.register(staged, AWS_SPEC, call);
    expect(keys.given).toHaveLength(3);
    await cloud.close();
  });

  test("AWS: a key that nobody renews stops it clearly, and a new one goes on where it stopped", async () => {
    const cloud = aws(AWS_PUBLISHER);
    rehearsal.set({ name: "end", fault: "expire", match: { operation: "PutSnapshotBlock" }, after: 7, times: 1 });
    const journal = memoryJournal();
    const disk = () => fakeDisk(AWS_SPEC.diskBytes, NON_ZERO, "one");
    const stopped = await cloud.upload(disk(), AWS_SPEC, journal, call).catch((error: unknown) => error);
    expect(stopped).toMatchObject({
      ...{ code: "unauthenticated", cloud: "aws", operation: "PutSnapshotBlock", region: "us-east-1" },
      ...{ requestId: expect.any(String), next: expect.stringContaining("access key") },
    });
    const before = puts();
    expect(before).toBe(8);
    const renewed = { ...AWS_PUBLISHER, accessKeyId: "AKIARENEWEDRENEWED00" };
    rehearsal.simulators.aws.accounts.add(renewed);
    const again = aws(renewed);
    await again.upload(disk(), AWS_SPEC, journal, call);
    expect(puts() - before).toBe(AWS_SPEC.diskBytes / 524_288 - 7);
    await Promise.all([cloud.close(), again.close()]);
  });

  test.each([1, 8])(
    "Azure: refused pages, %i at a time, are sent with a new token, and no acknowledged one again",
    async (inFlight) => {
      const { cloud, spec } = azure(inFlight);
      rehearsal.set({ name: "end", fault: "expire", match: { operation: "Put Page" }, after: 2, times: 1 });
      await cloud.upload(vhdDisk(spec, NON_ZERO, "one"), spec, memoryJournal(), call);
      const written = rehearsal.simulators.azure.state.pageWrites();
      expect(new Set(written.map(({ offset }) => offset)).size).toBe(written.length);
      // Again at once: then it is not the token.
      rehearsal.set({ name: "again", fault: "expire", match: { service: ["management", "blob"] } });
      await expect(cloud.find(spec, spec.homeRegion, call)).rejects.toMatchObject({ code: "unauthenticated" });
      await cloud.close();
    },
  );

  test("Azure: a small call is repeated by the step, with a new token", async () => {
    const { cloud, spec } = azure();
    rehearsal.set({ name: "end", fault: "expire", match: { service: "management" }, times: 1 });
    const find = () => cloud.find(spec, spec.homeRegion, call);
    await expect(find()).rejects.toMatchObject({ code: "unavailable", next: expect.stringContaining("new token") });
    expect(await find()).toEqual({});
    await cloud.close();
  });

  test("Google Cloud: a new token is asked for on the way", async () => {
    const cloud = gcp();
    const spec = { ...GCP_SPEC, diskBytes: GiB };
    rehearsal.set({ name: "end", fault: "expire", match: { operation: "objects.insert" }, after: 1, times: 1 });
    const staged = await cloud.upload(fakeDisk(spec.diskBytes, NON_ZERO), spec, memoryJournal(), call);
    rehearsal.set({ name: "end-images", fault: "expire", match: { operation: "images.insert" }, times: 1 });
    await cloud.register(staged, spec, call);
    expect(rehearsal.proxies.gcp.counts().operations["token:token@"]).toBe(3);
    await cloud.close();
  });

  test("a registry: a new token is asked for on the way", async () => {
    const { username, password } = rehearsal.credentials.registry;
    const registry = openRegistry({
      ...{ url: new URL(rehearsal.urls.registry).host, ca: rehearsal.caPem, retryDelaysMs: [1] },
      credentials: { username, password },
    });
    rehearsal.set({ name: "end", fault: "expire", match: { method: ["PUT", "PATCH"] }, after: 1, times: 1 });
    const pushed = await registry.push("fedora", containerImage({ layers: [1000, 2000] }), call);
    expect(await registry.find("fedora", pushed.digest, call)).toBeDefined();
    await registry.close();
  });
});

describe("a quota that is reached in the middle", () => {
  test("AWS: copies that came are kept, the rest says which quota, where and what to do; later it goes on", async () => {
    const cloud = aws(AWS_PUBLISHER);
    const spec = AWS_SPEC;
    const staged = await cloud.upload(fakeDisk(spec.diskBytes, NON_ZERO), spec, memoryJournal(), call);
    const home = await cloud.register(staged, spec, call);
    rehearsal.set({ name: "full", fault: "quota", match: { operation: "CopyImage", region: "ap-south-1" } });
    const first = await Array.fromAsync(cloud.replicate(home, spec, spec.regions, call));
    const failed = first.flatMap((outcome) => ("error" in outcome ? [outcome] : []));
    expect(failed).toEqual([
      {
        region: "ap-south-1",
        error: expect.objectContaining({
          ...{ code: "quota", cloud: "aws", operation: "CopyImage", region: "ap-south-1" },
          ...{ requestId: expect.any(String), next: expect.stringContaining("Service Quotas") },
        }),
      },
    ]);
    rehearsal.load({});
    const second = await Array.fromAsync(cloud.replicate(home, spec, spec.regions, call));
    expect(second.every((outcome) => "image" in outcome)).toBe(true);
    for (const region of spec.regions) expect(rehearsal.simulators.aws.state.images(region)).toHaveLength(1);
    await cloud.close();
  });

  test("AWS: public images: nobody is let in by halves, and an increase is what is left", async () => {
    const cloud = aws(AWS_PUBLISHER);
    const spec = { ...AWS_SPEC, regions: [AWS_SPEC.homeRegion] };
    const staged = await cloud.upload(fakeDisk(spec.diskBytes, NON_ZERO), spec, memoryJournal(), call);
    const home = await cloud.register(staged, spec, call);
    rehearsal.load({ world: { aws: { regions: { "us-east-1": { public_images: 0 } } } } });
    await expect(cloud.offer([home], spec, { to: "public" }, call)).rejects.toMatchObject({
      ...{ code: "quota", operation: "ModifyImageAttribute", region: "us-east-1" },
      next: expect.stringContaining("Service Quotas"),
    });
    expect((await cloud.find(spec, spec.homeRegion, call)).image?.state).toBe("candidate");
    rehearsal.load({ world: { aws: { regions: { "us-east-1": { public_images: 5 } } } } });
    await cloud.offer([home], spec, { to: "public" }, call);
    expect((await cloud.find(spec, spec.homeRegion, call)).image?.state).toBe("active");
    await cloud.close();
  });

  test("Azure: versions", async () => {
    const { cloud, spec } = azure();
    const staged = await cloud.upload(vhdDisk(spec, NON_ZERO, "one"), spec, memoryJournal(), call);
    rehearsal.load({ world: { azure: { versions: 0 } } });
    await expect(cloud.register(staged, spec, call)).rejects.toMatchObject({ code: "quota", cloud: "azure" });
    rehearsal.load({ world: { azure: { versions: 10_000 } } });
    await cloud.register(staged, spec, call);
    await cloud.close();
  });

  test("Google Cloud: images", async () => {
    const cloud = gcp();
    const staged = await cloud.upload(fakeDisk(GiB, NON_ZERO), GCP_SPEC, memoryJournal(), call);
    rehearsal.load({ world: { gcp: { images: 0 } } });
    await expect(cloud.register(staged, GCP_SPEC, call)).rejects.toMatchObject({ code: "quota", cloud: "gcp" });
    rehearsal.load({ world: { gcp: { images: 2000 } } });
    await cloud.register(staged, GCP_SPEC, call);
    await cloud.close();
  });
});
