import { createHash } from "node:crypto";
import { closeSync, mkdtempSync, openSync, readdirSync, readSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  CompleteSnapshotCommand,
  GetSnapshotBlockCommand,
  ListChangedBlocksCommand,
  ListSnapshotBlocksCommand,
  PutSnapshotBlockCommand,
  StartSnapshotCommand,
} from "@aws-sdk/client-ebs";
import { DescribeSnapshotsCommand, ModifySnapshotAttributeCommand } from "@aws-sdk/client-ec2";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { BLOCK_BYTES } from "../blocks.ts";
import { block, checksum, putCommand, startAws, startSnapshot } from "../testing.ts";

let aws: Awaited<ReturnType<typeof startAws>>;
const directory = mkdtempSync(join(tmpdir(), "ebs-test-"));

beforeAll(async () => {
  aws = await startAws({ blobDir: directory });
});
afterAll(async () => {
  await aws.close();
  expect(readdirSync(directory)).toEqual([]);
  rmSync(directory, { recursive: true });
});
beforeEach(() => {
  aws.simulator.reset();
  Object.assign(aws.state.behaviour, {
    visibleAfterMs: 0,
    blocksWritableAfterMs: 0,
    completeMs: 0,
    pendingSnapshots: 100,
  });
});

test("a snapshot is written, completed with its checksum, and read back as a disk", async () => {
  const ebs = aws.ebs();
  const id = await startSnapshot(ebs);
  for (const index of [7, 0, 2047]) {
    const answer = await ebs.send(putCommand(id, index, block(index)));
    expect(answer.Checksum).toBe(checksum(block(index)));
  }
  const digests = [0, 7, 2047].map((index) => createHash("sha256").update(block(index)).digest());
  const done = await ebs.send(
    new CompleteSnapshotCommand({
      SnapshotId: id,
      ChangedBlocksCount: 3,
      Checksum: checksum(Buffer.concat(digests)),
      ChecksumAlgorithm: "SHA256",
      ChecksumAggregationMethod: "LINEAR",
    }),
  );
  expect(done.Status).toBe("completed");

  const listed = await ebs.send(new ListSnapshotBlocksCommand({ SnapshotId: id }));
  expect(listed.Blocks?.map((entry) => entry.BlockIndex)).toEqual([0, 7, 2047]);
  expect(listed).toMatchObject({ VolumeSize: 1, BlockSize: 524_288 });
  expect(listed.ExpiryTime).toBeInstanceOf(Date);
  const got = await ebs.send(
    new GetSnapshotBlockCommand({ SnapshotId: id, BlockIndex: 7, BlockToken: listed.Blocks?.[1]?.BlockToken }),
  );
  expect(Buffer.compare(Buffer.from(await got.BlockData!.transformToByteArray()), block(7))).toBe(0);
  expect(got.Checksum).toBe(checksum(block(7)));

  const path = join(directory, "disk.raw");
  await aws.state.readSnapshot("us-east-1", id, path);
  expect(statSync(path).size).toBe(1024 ** 3);
  expect(Buffer.compare(readBlock(path, 7), block(7))).toBe(0);
  expect(Buffer.compare(readBlock(path, 1), Buffer.alloc(BLOCK_BYTES))).toBe(0);
  rmSync(path);
});

test("what is wrong with a block is refused, and nothing of it is counted", async () => {
  const ebs = aws.ebs();
  const id = await startSnapshot(ebs);
  const input = putCommand(id, 0, block(0)).input;
  const wrong = [
    { Checksum: checksum(block(1)) },
    { BlockData: block(0).subarray(1), DataLength: 524_288, Checksum: checksum(block(0).subarray(1)) },
    { DataLength: 524_287 },
    { BlockIndex: 2048 },
  ];
  for (const change of wrong) {
    await expect(ebs.send(new PutSnapshotBlockCommand({ ...input, ...change }))).rejects.toMatchObject({
      name: "ValidationException",
      $metadata: { httpStatusCode: 400 },
    });
  }
  expect(aws.state.snapshots("us-east-1")[0]?.puts.size).toBe(0);
  await expect(ebs.send(putCommand("snap-00000000000000000", 0, block(0)))).rejects.toMatchObject({
    name: "ResourceNotFoundException",
    Reason: "SNAPSHOT_NOT_FOUND",
  });
  await expect(aws.ebs("eu-west-1").send(putCommand(id, 0, block(0)))).rejects.toMatchObject({
    name: "ResourceNotFoundException",
  });
});

test("a snapshot with another count or another checksum is not completed", async () => {
  const ebs = aws.ebs();
  const id = await startSnapshot(ebs);
  await ebs.send(putCommand(id, 0, block(0)));
  await ebs.send(putCommand(id, 0, block(1)));
  await expect(ebs.send(new CompleteSnapshotCommand({ SnapshotId: id, ChangedBlocksCount: 2 }))).rejects.toMatchObject({
    name: "ValidationException",
    Reason: "INVALID_PARAMETER_VALUE",
  });
  const sealed = {
    SnapshotId: id,
    ChangedBlocksCount: 1,
    ChecksumAlgorithm: "SHA256",
    ChecksumAggregationMethod: "LINEAR",
  } as const;
  await expect(
    ebs.send(new CompleteSnapshotCommand({ ...sealed, Checksum: checksum(block(1)) })),
  ).rejects.toMatchObject({ name: "ValidationException" });
  expect(aws.state.snapshots()[0]).toMatchObject({ state: "pending" });
  expect(aws.state.snapshots()[0]?.puts.get(0)).toBe(2);
  await ebs.send(new CompleteSnapshotCommand({ SnapshotId: id, ChangedBlocksCount: 1 }));
  await expect(ebs.send(putCommand(id, 1, block(1)))).rejects.toMatchObject({ name: "ValidationException" });
});

test("the same client token is the same snapshot; with another request it is a conflict", async () => {
  const ebs = aws.ebs();
  const first = await startSnapshot(ebs, "once");
  expect(await startSnapshot(ebs, "once")).toBe(first);
  expect(await startSnapshot(aws.ebs("eu-west-1"), "once")).not.toBe(first);
  await expect(startSnapshot(ebs, "once", 2)).rejects.toMatchObject({ name: "ConflictException" });
  expect(aws.state.snapshots("us-east-1")).toHaveLength(1);
});

test("a new snapshot is unknown to both sides for a while", async () => {
  Object.assign(aws.state.behaviour, { visibleAfterMs: 5000, blocksWritableAfterMs: 9000 });
  const ebs = aws.ebs();
  const id = await startSnapshot(ebs);
  const describe = new DescribeSnapshotsCommand({ SnapshotIds: [id] });
  await expect(ebs.send(putCommand(id, 0, block(0)))).rejects.toMatchObject({ name: "ResourceNotFoundException" });
  await expect(aws.ec2().send(describe)).rejects.toMatchObject({ name: "InvalidSnapshot.NotFound" });
  aws.clock.now += 5000;
  expect((await aws.ec2().send(describe)).Snapshots).toMatchObject([{ State: "pending" }]);
  aws.clock.now += 4000;
  await ebs.send(putCommand(id, 0, block(0)));
});

test("a snapshot nobody writes to is given up after its timeout", async () => {
  const ebs = aws.ebs();
  const { SnapshotId } = await ebs.send(new StartSnapshotCommand({ VolumeSize: 1, Timeout: 10 }));
  const id = SnapshotId ?? "";
  aws.clock.now += 9 * 60_000;
  await ebs.send(putCommand(id, 0, block(0)));
  aws.clock.now += 9 * 60_000;
  expect(aws.state.snapshots()[0]?.state).toBe("pending");
  aws.clock.now += 60_000;
  await expect(ebs.send(putCommand(id, 1, block(1)))).rejects.toMatchObject({
    name: "ValidationException",
    Reason: "INVALID_SNAPSHOT_ID",
  });
  expect(aws.state.snapshots()[0]?.state).toBe("error");
});

test("only completed and not public snapshots are read, page by page, with their tokens", async () => {
  const ebs = aws.ebs();
  const id = await startSnapshot(ebs);
  for (let index = 0; index < 120; index++) await ebs.send(putCommand(id, index, block(0)));
  expect(aws.state.blocks.size).toBe(1);
  await expect(ebs.send(new ListSnapshotBlocksCommand({ SnapshotId: id }))).rejects.toMatchObject({
    name: "ValidationException",
  });
  await ebs.send(new CompleteSnapshotCommand({ SnapshotId: id, ChangedBlocksCount: 120 }));
  const page = await ebs.send(new ListSnapshotBlocksCommand({ SnapshotId: id, MaxResults: 100 }));
  const rest = await ebs.send(new ListSnapshotBlocksCommand({ SnapshotId: id, NextToken: page.NextToken }));
  expect([page.Blocks?.length, rest.Blocks?.length, rest.NextToken]).toEqual([100, 20, undefined]);
  await expect(
    ebs.send(new GetSnapshotBlockCommand({ SnapshotId: id, BlockIndex: 1, BlockToken: page.Blocks?.[0]?.BlockToken })),
  ).rejects.toMatchObject({ Reason: "INVALID_BLOCK_TOKEN" });
  await aws
    .ec2()
    .send(new ModifySnapshotAttributeCommand({ SnapshotId: id, CreateVolumePermission: { Add: [{ Group: "all" }] } }));
  await expect(ebs.send(new ListSnapshotBlocksCommand({ SnapshotId: id }))).rejects.toMatchObject({
    name: "ValidationException",
    Reason: "INVALID_SNAPSHOT_ID",
  });
});

test("a child snapshot inherits its parent's blocks and lists what changed", async () => {
  const ebs = aws.ebs();
  const parent = await startSnapshot(ebs);
  for (const index of [0, 1]) await ebs.send(putCommand(parent, index, block(index)));
  await ebs.send(new CompleteSnapshotCommand({ SnapshotId: parent, ChangedBlocksCount: 2 }));
  const { SnapshotId } = await ebs.send(new StartSnapshotCommand({ VolumeSize: 1, ParentSnapshotId: parent }));
  const child = SnapshotId ?? "";
  await ebs.send(putCommand(child, 1, block(9)));
  await ebs.send(new CompleteSnapshotCommand({ SnapshotId: child, ChangedBlocksCount: 1 }));
  const all = await ebs.send(new ListSnapshotBlocksCommand({ SnapshotId: child }));
  expect(all.Blocks?.map((entry) => entry.BlockIndex)).toEqual([0, 1]);
  const changed = await ebs.send(new ListChangedBlocksCommand({ FirstSnapshotId: parent, SecondSnapshotId: child }));
  expect(changed.ChangedBlocks).toMatchObject([{ BlockIndex: 1 }]);
});

test("more pending snapshots than the quota are refused", async () => {
  aws.state.behaviour.pendingSnapshots = 1;
  await startSnapshot(aws.ebs());
  await expect(startSnapshot(aws.ebs())).rejects.toMatchObject({ name: "ServiceQuotaExceededException" });
});

function readBlock(path: string, index: number): Buffer {
  const file = openSync(path, "r");
  const data = Buffer.alloc(BLOCK_BYTES);
  readSync(file, data, 0, BLOCK_BYTES, index * BLOCK_BYTES);
  closeSync(file);
  return data;
}
