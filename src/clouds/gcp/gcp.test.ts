import { createServer } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { memoryJournal } from "../../images/journal.ts";
import { quietCall } from "../../lib/call.ts";
import { codeOf } from "../../lib/errors.ts";
import type { Cloud } from "../cloud.ts";
import { describeCloud } from "../testing/contract.ts";
import { fakeDisk } from "../testing/disks.ts";
import { coverOf, type Part, partName, partOf } from "./parts.ts";
import { type GcpHarness, gcpHarness, SPEC } from "./testing/harness.ts";

describeCloud("gcp", gcpHarness);

const call = quietCall();

describe("gcp", () => {
  let harness: GcpHarness;
  let cloud: Cloud;
  beforeEach(async () => {
    harness = await gcpHarness();
    cloud = harness.cloud;
  });
  afterEach(() => harness.close());

  async function registered(spec = SPEC, seed = "disk") {
    const staged = await cloud.upload(fakeDisk(spec.diskBytes, [0, 7], seed), spec, memoryJournal(), call);
    return { staged, image: await cloud.register(staged, spec, call) };
  }

  test("more parts than one request joins become one archive", async () => {
    // Every other block, so that no two share a part.
    const blocks = Array.from({ length: 70 }, (_, index) => index * 2);
    const staged = await cloud.upload(fakeDisk(SPEC.diskBytes, blocks), SPEC, memoryJournal(), call);
    expect(harness.simulator.objects()).toMatchObject([{ components: 72, name: `slipway/${SPEC.diskKey}.tar.gz` }]);
    expect((await cloud.register(staged, SPEC, call)).name).toBe(SPEC.name);
  }, 60_000);

  test("an image says what it is of and what it can, and is in no family", async () => {
    await registered();
    const [image] = harness.simulator.images();
    expect(image).toMatchObject({ status: "READY", family: undefined, diskBytes: SPEC.diskBytes });
    expect(image?.policy.bindings).toEqual([]);
    expect(image?.body).toMatchObject({
      architecture: "X86_64",
      storageLocations: ["us"],
      labels: { "slipway-key": SPEC.key, "slipway-family": SPEC.family },
    });
    expect(image?.body.guestOsFeatures).toContainEqual({ type: "UEFI_COMPATIBLE" });
  }, 60_000);

  test("the witness sees what everybody sees: nothing before the offer and after the withdrawal", async () => {
    const { client_email: clientEmail, private_key: privateKey } = harness.simulator.outsider;
    const watched = harness.open({ witness: { clientEmail, privateKey } });
    const { image } = await registered();
    const gone = { ...image, id: image.id.replace(/[^/]+$/, "never-made") };
    const seen = () => watched.witness!([image, gone], call);
    expect(cloud.witness).toBe(undefined);
    expect(await seen()).toEqual([false, false]);
    await cloud.offer([image], SPEC, { to: "public" }, call);
    expect(await seen()).toEqual([true, false]);
    await cloud.withdraw([image], SPEC, call);
    expect(await seen()).toEqual([false, false]);
  }, 60_000);

  test("a witness with a key that Google does not know is no witness that saw nothing", async () => {
    const { client_email: clientEmail } = harness.simulator.outsider;
    const { private_key: privateKey } = harness.simulator.serviceAccount;
    const watched = harness.open({ witness: { clientEmail, privateKey } });
    const { image } = await registered();
    await expect(watched.witness!([image], call)).rejects.toMatchObject({ code: "unauthenticated" });
  }, 60_000);

  test("an offered image is in its family and open to everybody with an account; the old one names its successor", async () => {
    const old = await registered();
    const spec = { ...SPEC, name: `${SPEC.name}-1`, key: "anewerimagekey", diskKey: "anewerdiskkey" };
    const { image } = await registered(spec, "newer");
    await cloud.offer([old.image], SPEC, { to: "public" }, call);
    await cloud.offer([image], spec, { to: "public" }, call);
    await cloud.setState(old.image, "deprecated", call);
    const [first, second] = harness.simulator.images();
    expect(second).toMatchObject({ family: SPEC.family });
    expect(second?.policy.bindings).toEqual([{ role: "roles/compute.imageUser", members: ["allAuthenticatedUsers"] }]);
    expect(first?.deprecated).toMatchObject({
      state: "DEPRECATED",
      replacement: expect.stringMatching(`${spec.name}$`),
    });
  }, 60_000);

  test("an archive that is none is refused with Google's reason, and the operation is its request id", async () => {
    const { staged } = await registered();
    const other = { ...SPEC, name: "another-name", key: "anotherkey" };
    await cloud.tidy(staged, SPEC, call);
    const error = await failure(cloud.register(staged, other, call));
    expect(error).toMatchObject({ code: "not-found", operation: "images.insert" });
    expect(String((error as { requestId?: string }).requestId)).toMatch(/^operation-/);
  }, 60_000);

  test("a bucket that is not there is said, and is not taken for an object that is not", async () => {
    const lost = harness.open({ bucket: "nobodys" });
    await expect(lost.find(SPEC, SPEC.homeRegion, call)).rejects.toMatchObject({
      ...{ code: "not-found", message: expect.stringContaining("bucket does not exist") },
    });
  });

  test("a full project is a quota, found by check and by the call", async () => {
    await harness.close();
    harness = await gcpHarness({ imageLimit: 0 });
    const findings = await harness.cloud.check([SPEC], call);
    expect(findings).toContainEqual(expect.objectContaining({ code: "quota", severity: "error" }));
    const staged = await harness.cloud.upload(fakeDisk(SPEC.diskBytes, [0]), SPEC, memoryJournal(), call);
    expect(codeOf(await failure(harness.cloud.register(staged, SPEC, call)))).toBe("quota");
  }, 60_000);

  test("a cloud that accepts and says nothing is unavailable after the deadline", async () => {
    const silent = createServer(() => {});
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    const { port } = silent.address() as { port: number };
    const url = `https://127.0.0.1:${port}`;
    const lost = harness.open({
      endpoints: { storage: url, compute: url, token: `${url}/token`, resourceManager: url },
      pace: { callDeadline: 200 },
    });
    expect(codeOf(await failure(lost.find(SPEC, "us", call)))).toBe("unavailable");
    const [finding] = await lost.check([SPEC], call);
    expect(finding).toMatchObject({ severity: "error", code: "unavailable" });
    silent.close();
  }, 60_000);
});

describe("choosing parts", () => {
  const part = (first: number, count: number): Part => {
    const name = `x/${partName(first, count, { crc32: 5, bytes: count * 524288 })}`;
    return partOf({ name, bytes: 1, crc32c: 1, created: undefined, metadata: {} })!;
  };
  const chosen = (parts: Part[], acked: number[]) =>
    coverOf(parts, (index) => acked.includes(index), 8)?.map(({ first, count }) => [first, count]);

  test("each acknowledged block once, whatever overlaps", () => {
    expect(chosen([part(0, 2), part(4, 1)], [0, 1, 4])).toEqual([
      [0, 2],
      [4, 1],
    ]);
    expect(chosen([part(0, 3), part(0, 1), part(1, 3)], [0, 1, 2, 3])).toEqual([
      [0, 1],
      [1, 3],
    ]);
  });

  test("a part with a block that was not acknowledged is not taken", () => {
    expect(chosen([part(0, 2), part(0, 1)], [0])).toEqual([[0, 1]]);
    expect(chosen([part(0, 2)], [0])).toBeUndefined();
  });

  test("nothing acknowledged needs no part", () => {
    expect(chosen([part(3, 1)], [])).toEqual([]);
  });
});

async function failure(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => expect.fail("it did not fail"),
    (error: unknown) => error,
  );
}
