import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { AWS_PUBLISHER } from "../../../../rehearsal/src/aws/index.ts";
import { BLOCK_BYTES, type BlockSource, blockCount } from "../../../images/block-source.ts";
import { memoryJournal } from "../../../images/journal.ts";
import { quietCall } from "../../../lib/call.ts";
import { MiB } from "../../../lib/units.ts";
import type { ImageSpec, StagedDisk } from "../../../model.ts";
import type { Cloud } from "../../cloud.ts";
import { describeCloud } from "../../testing/contract.ts";
import { digestsOf, fakeDisk, tapped } from "../../testing/disks.ts";
import type { AwsOptions } from "../aws.ts";
import { connect } from "../connection.ts";
import { describeBucket } from "../testing/bucket-contract.ts";
import { AWS_IMPORT_LOSABLE, HURRIED } from "../testing/harness.ts";
import { AWS_BUCKET, awsHarness } from "../testing/simulated.ts";
import { openImportBucket } from "./bucket.ts";
import { gatherer, partBytesOf } from "./parts.ts";

const call = quietCall();

describeCloud("aws, simulated, through a bucket", () => importHarness());

describeBucket("simulated", async () => {
  const harness = await awsHarness();
  const { state } = harness.simulator;
  const { Content } = await import("../../../../rehearsal/src/aws/s3/objects.ts");
  const there = state.objects.bucket(AWS_BUCKET.name)!;
  const connection = connect({ ...harness.options, connections: 1, pace: HURRIED });
  return {
    bucket: openImportBucket(connection, AWS_BUCKET.region, { bucket: AWS_BUCKET.name }),
    read: async (key) => there.objects.get(key)!.content.slice(),
    put: async (key, data) => void state.objects.put(there, key, new Content([Buffer.from(data)]), {}),
    async close() {
      await connection.close();
      await harness.close();
    },
  };
});

describe("an import", () => {
  test("sends no zeros, leaves nothing in the bucket but the zeros it copied, and its snapshot is tagged", async () => {
    await using there = await importing();
    const spec = there.spec({ diskBytes: 40 * MiB });
    const disk = fakeDisk(spec.diskBytes, [1, 70]);
    let sent = 0;
    const staged = await there.cloud.upload(disk, spec, memoryJournal(), {
      ...call,
      onProgress: ({ sentBytes }) => {
        sent = Math.max(sent, sentBytes);
      },
    });
    expect(sent).toBe(16 * MiB);
    expect(await readAll(there.cloud, staged, spec.diskBytes)).toEqual(await digestsOf(disk, call));
    expect([...there.bucket.objects.keys()]).toEqual([`slipway/zeros-${8 * MiB}`]);
    const [snapshot] = there.state.snapshots(AWS_BUCKET.region);
    expect(Object.fromEntries(snapshot!.tags)).toMatchObject({ "slipway:disk-key": spec.diskKey, Name: spec.name });
  });

  test("a last part that is short, of zeros or not, is sent as it is", async () => {
    await using there = await importing();
    for (const [nonZero, key] of [[[0, 17], "data"] as const, [[0], "zeros"] as const]) {
      const bytes = 8 * MiB + BLOCK_BYTES + 512;
      const spec = there.spec({ diskBytes: bytes, diskKey: `short-${key}`, key: `short-${key}`, name: `short ${key}` });
      const disk = fakeDisk(bytes, [...nonZero]);
      const staged = await there.cloud.upload(disk, spec, memoryJournal(), call);
      expect(await readAll(there.cloud, staged, bytes)).toEqual(await digestsOf(disk, call));
    }
  });

  test("is resumed part by part: what was acknowledged is neither read nor sent again", async () => {
    await using there = await importing();
    const spec = there.spec({ diskBytes: 80 * MiB });
    const nonZero = Array.from({ length: blockCount(spec.diskBytes) }, (_, index) => index);
    const journal = memoryJournal();
    const stop = new AbortController();
    const dying = tapped(forwardDisk(spec.diskBytes, nonZero), async (count) => {
      while (count === 100 && journal.ackedCount < 48) await new Promise((done) => setTimeout(done, 1));
      if (count === 100) stop.abort();
    });
    await expect(there.cloud.upload(dying, spec, journal, quietCall(stop.signal))).rejects.toMatchObject({
      code: "cancelled",
    });
    const acked = journal.ackedCount;
    expect(acked % 16).toBe(0);
    const read: number[] = [];
    const disk = watched(forwardDisk(spec.diskBytes, nonZero), read);
    const staged = await (await there.reopen()).upload(disk, spec, journal, call);
    expect(read).toHaveLength(nonZero.length - acked);
    expect(await readAll(there.cloud, staged, spec.diskBytes)).toEqual(await digestsOf(disk, call));
  });

  test("is waited for by whoever comes next, and not begun twice", async () => {
    await using there = await importing();
    there.state.behaviour.importMs = 3_600_000;
    const spec = there.spec({ diskBytes: 8 * MiB });
    const disk = () => fakeDisk(spec.diskBytes, [1]);
    const stop = new AbortController();
    const first = there.cloud.upload(disk(), spec, memoryJournal(), quietCall(stop.signal));
    while (there.state.imports.size === 0) await new Promise((done) => setTimeout(done, 1));
    stop.abort();
    await expect(first).rejects.toMatchObject({ code: "cancelled" });

    const sent = there.sends();
    const second = (await there.reopen()).upload(disk(), spec, memoryJournal(), call);
    const [task] = there.state.imports.values();
    Object.assign(task!, { completesAt: 0 });
    expect(await second).toMatchObject({ id: task!.snapshotId });
    expect(there.state.imports.size).toBe(1);
    expect(there.sends()).toBe(sent);
  });

  test("that AWS gives up is begun again; one that it finds fault with is reported as it says", async () => {
    await using there = await importing();
    const spec = there.spec({ diskBytes: 8 * MiB });
    const disk = () => fakeDisk(spec.diskBytes, [1]);
    there.state.behaviour.importMs = 3_600_000;
    const going = there.cloud.upload(disk(), spec, memoryJournal(), call);
    while (there.state.imports.size === 0) await new Promise((done) => setTimeout(done, 1));
    there.state.behaviour.importMs = 0;
    const [task] = there.state.imports.values();
    Object.assign(task!, { status: "deleted", message: "ServerError: An internal error has occurred" });
    await going;
    expect(there.state.imports.size).toBe(2);

    const odd = there.spec({ ...{ diskBytes: 8 * MiB, key: "odd", diskKey: "odd", name: "odd" } });
    there.state.behaviour.importMs = 3_600_000;
    const failing = there.cloud.upload(disk(), odd, memoryJournal(), call);
    failing.catch(() => {});
    while (there.state.imports.size === 2) await new Promise((done) => setTimeout(done, 1));
    there.bucket.objects.delete("slipway/odd.raw");
    await expect(failing).rejects.toMatchObject({
      code: "invalid",
      message: expect.stringContaining("No valid S3 object found"),
      next: expect.stringContaining("leave out the target's import section"),
    });
  });

  test("without a role that may read the bucket is refused with what the role needs", async () => {
    await using there = await importing();
    there.state.importRoles.clear();
    const spec = there.spec({ diskBytes: 8 * MiB });
    const failing = there.cloud.upload(fakeDisk(spec.diskBytes, [1]), spec, memoryJournal(), call);
    await expect(failing).rejects.toMatchObject({
      code: "forbidden",
      subject: "vmimport",
      next: expect.stringContaining("vmie.amazonaws.com"),
    });
  });

  test("one too many waits for a place", async () => {
    await using there = await importing();
    there.state.behaviour.importsPerRegion = 0;
    const spec = there.spec({ diskBytes: 8 * MiB });
    const waiting = there.cloud.upload(fakeDisk(spec.diskBytes, [1]), spec, memoryJournal(), call);
    const refused = () => there.state.calls.get("s3") ?? there.bucket.objects.has(`slipway/${spec.diskKey}.raw`);
    while (!refused()) await new Promise((done) => setTimeout(done, 1));
    there.state.behaviour.importsPerRegion = 1;
    expect(await waiting).toMatchObject({ key: spec.diskKey });
  });

  test("never overwrites what somebody else keeps under the disk's name", async () => {
    await using there = await importing();
    const spec = there.spec({ diskBytes: 8 * MiB });
    const { state } = there;
    const { Content } = await import("../../../../rehearsal/src/aws/s3/objects.ts");
    state.objects.put(there.bucket, `slipway/${spec.diskKey}.raw`, new Content([Buffer.from("mine")]), {});
    const failing = there.cloud.upload(fakeDisk(spec.diskBytes, [1]), spec, memoryJournal(), call);
    await expect(failing).rejects.toMatchObject({ code: "already-exists", next: expect.stringContaining("prefix") });
    expect(there.bucket.objects.size).toBe(1);
  });

  test("that nobody took over is removed with its disk", async () => {
    await using there = await importing();
    there.state.behaviour.importMs = 3_600_000;
    const spec = there.spec({ diskBytes: 8 * MiB });
    const stop = new AbortController();
    const dying = there.cloud.upload(fakeDisk(spec.diskBytes, [1]), spec, memoryJournal(), quietCall(stop.signal));
    while (there.state.imports.size === 0) await new Promise((done) => setTimeout(done, 1));
    stop.abort();
    await expect(dying).rejects.toThrow();
    const [task] = there.state.imports.values();
    Object.assign(task!, { completesAt: 0 });
    while (there.state.snapshots(AWS_BUCKET.region).length === 0) await new Promise((done) => setTimeout(done, 1));

    const left = [`s3://${AWS_BUCKET.name}/slipway/${spec.diskKey}.raw`, task!.snapshotId];
    for await (const resource of there.cloud.list([AWS_BUCKET.region], call)) {
      expect(resource).toMatchObject({
        key: spec.diskKey,
        complete: false,
        id: left.shift(),
      });
      await there.cloud.remove(resource, call);
    }
    expect(there.state.snapshots(AWS_BUCKET.region)).toEqual([]);
    expect(left).toEqual([]);
    expect(there.bucket.objects.size).toBe(0);
  });

  test.each([
    [{ bucket: "nobodys-bucket" }, "not-found", "aws s3 mb"],
    [{ bucket: "elsewhere" }, "invalid", "us-east-1"],
    [{ bucket: "somebody-elses" }, "forbidden", "s3:ListBucket"],
  ])("check finds what is wrong with a bucket: %j", async (options, code, next) => {
    await using there = await importing({ import: options });
    there.state.objects.create("elsewhere", "eu-west-1", AWS_PUBLISHER.account);
    there.state.objects.create("somebody-elses", "us-east-1", "999988887777");
    const errors = (await there.cloud.check([there.spec()], call)).filter((one) => one.severity === "error");
    expect(errors).toMatchObject([{ code, subject: `bucket ${options.bucket}`, next: expect.stringContaining(next) }]);
  });

  test("check asks for what an import needs, and not for what EBS direct would", async () => {
    const key = {
      ...AWS_PUBLISHER,
      deny: ["ec2:ImportSnapshot", "ebs:StartSnapshot", "s3:ListBucketMultipartUploads"],
    };
    await using there = await importing({}, key);
    const errors = (await there.cloud.check([there.spec()], call)).filter((one) => one.severity === "error");
    expect(errors.map(({ subject }) => subject).sort()).toEqual([
      "ec2:ImportSnapshot",
      "s3:ListBucketMultipartUploads",
    ]);
  });
});

describe("parts", () => {
  test("are of 8 MiB, and larger only where ten thousand of those would not do", () => {
    expect(partBytesOf(1)).toBe(8 * MiB);
    expect(partBytesOf(80_000 * MiB)).toBe(8 * MiB);
    expect(partBytesOf(80_000 * MiB + 1)).toBe(9 * MiB);
  });

  test("that find no memory are let go, and said to be missing", () => {
    const bytes = 20 * 8 * MiB;
    const gathering = gatherer(bytes, () => true);
    let released = 0;
    for (let part = 0; part < 20; part++) {
      const data = Buffer.alloc(BLOCK_BYTES, 1);
      const sha256 = createHash("sha256").update(data).digest();
      expect(gathering.add({ index: part * 16, data, sha256, release: () => released++ })).toBeUndefined();
    }
    const whole = [...gathering.end()];
    expect(whole.map((part) => part.number)).toEqual([12, 13, 14, 15, 16, 17, 18, 19, 20]);
    expect([released, gathering.incomplete]).toEqual([20, true]);
  });

  test("that were let go are read once more", async () => {
    await using there = await importing();
    const spec = there.spec({ diskBytes: 12 * 8 * MiB });
    // One block in each part: all stay open, because this source does not tell of zeros.
    const disk = fakeDisk(
      spec.diskBytes,
      Array.from({ length: 12 }, (_, part) => part * 16 + 3),
    );
    const staged = await there.cloud.upload(disk, spec, memoryJournal(), call);
    expect(await readAll(there.cloud, staged, spec.diskBytes)).toEqual(await digestsOf(disk, call));
  });
});

async function importHarness(changes: Partial<AwsOptions> = {}) {
  const harness = await awsHarness({ import: { bucket: AWS_BUCKET.name }, ...changes });
  const blocksPerPart = 16;
  return {
    ...harness,
    // Each block that holds something stands in a part of its own; the last part is zeros.
    spec: (overrides: Partial<ImageSpec> = {}) =>
      harness.spec({ diskBytes: 7 * blocksPerPart * BLOCK_BYTES, ...overrides }),
    disk: (spec: ImageSpec, nonZero: readonly number[], seed: string) =>
      forwardDisk(
        spec.diskBytes,
        nonZero.map((_, position) => position * blocksPerPart),
        seed,
      ),
    losable: AWS_IMPORT_LOSABLE,
    sends: () => harness.calls("UploadPart"),
  };
}

async function importing(changes: Partial<AwsOptions> = {}, key = AWS_PUBLISHER) {
  const harness = await importHarness({ credentials: key, ...changes });
  const { state, accounts } = harness.simulator;
  accounts.add(key);
  return {
    ...harness,
    state,
    get bucket() {
      return state.objects.bucket(AWS_BUCKET.name)!;
    },
    [Symbol.asyncDispose]: () => harness.close(),
  };
}

function forwardDisk(bytes: number, nonZero: readonly number[], seed = "disk") {
  return fakeDisk(bytes, nonZero, seed, undefined, true);
}

function watched(disk: BlockSource, read: number[]): BlockSource {
  return {
    ...disk,
    async *read(options) {
      for await (const block of disk.read(options)) {
        read.push(block.index);
        yield block;
      }
    },
  };
}

async function readAll(cloud: Cloud, staged: StagedDisk, bytes: number): Promise<string[]> {
  const digests: string[] = [];
  const wanted = Array.from({ length: blockCount(bytes) }, (_, index) => index);
  for await (const block of cloud.readBack(staged, wanted, call)) {
    digests[block.index] = Buffer.from(block.sha256).toString("hex");
  }
  return digests;
}
