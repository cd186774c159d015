/** A tar.gz goes to the bucket as it is: the same bytes, resumed in the middle, and read back to the last block. */
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { BLOCK_BYTES, type BlockSource, blockCount } from "../../images/block-source.ts";
import { memoryJournal } from "../../images/journal.ts";
import { openDisk } from "../../images/open-disk.ts";
import { makeGzip, makeTar, type TarMember } from "../../images/testing/make.ts";
import { quietCall } from "../../lib/call.ts";
import { GiB, MiB } from "../../lib/units.ts";
import type { StagedDisk } from "../../model.ts";
import type { Cloud } from "../cloud.ts";
import { inProduction } from "../wrappers.ts";
import { type GcpHarness, gcpHarness, SPEC } from "./testing/harness.ts";

const call = quietCall();

let harness: GcpHarness;
let cloud: Cloud;
let directory: string;
const opened: BlockSource[] = [];
beforeEach(async () => {
  harness = await gcpHarness();
  cloud = inProduction(harness.cloud);
  directory = await mkdtemp(join(tmpdir(), "slipway-packed-"));
});
afterEach(async () => {
  for (const disk of opened.splice(0)) await disk.close();
  await harness.close();
  await rm(directory, { recursive: true, force: true });
});

/** One GiB of which 3 MiB are noise, as sparse as tar makes it. */
function sparse(virtual = GiB): { member: TarMember; data: Buffer } {
  const data = randomBytes(3 * MiB);
  const extents = [
    [0, 2 * MiB],
    [7 * MiB, MiB],
    [virtual, 0],
  ] as const;
  return { member: { type: "S", data, sparse: { bytes: virtual, extents } }, data };
}

async function artifactOf(file: Buffer) {
  const url = join(directory, "disk.tar.gz");
  await writeFile(url, file);
  return { url, bytes: file.length, sha256: createHash("sha256").update(file).digest("hex"), format: "tar.gz" };
}

async function open(artifact: Awaited<ReturnType<typeof artifactOf>>, keep = cloud.accepts.keeps) {
  const disk = await openDisk(artifact, { wants: "raw", keep }, call);
  opened.push(disk);
  return disk;
}

const upload = (disk: BlockSource, journal = memoryJournal(), context = call) =>
  cloud.upload(disk, { ...SPEC, diskBytes: GiB }, journal, context);

async function objectBytes(): Promise<Buffer> {
  const [object, ...others] = harness.simulator.objects();
  expect(others).toEqual([]);
  const pieces: Buffer[] = [];
  for (const content of object!.contents) pieces.push(...(await Array.fromAsync(content.read(0, content.bytes))));
  return Buffer.concat(pieces);
}

async function readAll(staged: StagedDisk): Promise<string[]> {
  const digests: string[] = [];
  for await (const block of cloud.readBack(staged, Array(blockCount(staged.diskBytes)).keys(), call)) {
    digests[block.index] = Buffer.from(block.sha256).toString("hex");
  }
  return digests;
}

test("what Google gets is the compose's own file, and it unpacks to the disk", async () => {
  const { member, data } = sparse();
  const file = makeGzip(makeTar([member]));
  const artifact = await artifactOf(file);
  const staged = await upload(await open(artifact));
  expect((await objectBytes()).equals(file)).toBe(true);
  expect(staged).toMatchObject({ diskBytes: GiB, packedSha256: artifact.sha256 });
  const digests = await readAll(staged);
  expect(digests).toHaveLength(GiB / BLOCK_BYTES);
  const digest = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
  expect(digests[1]).toBe(digest(data.subarray(BLOCK_BYTES, 2 * BLOCK_BYTES)));
  expect(digests[14]).toBe(digest(data.subarray(2 * MiB, 2 * MiB + BLOCK_BYTES)));
  expect(digests[100]).toBe(digest(Buffer.alloc(BLOCK_BYTES)));
  expect((await cloud.register(staged, { ...SPEC, diskBytes: GiB }, call)).name).toBe(SPEC.name);
}, 60_000);

test("interrupted, it goes on where it stopped: no acknowledged piece is sent again", async () => {
  const artifact = await artifactOf(makeGzip(makeTar([sparse().member])));
  const journal = memoryJournal();
  const stop = new AbortController();
  const half = { ...quietCall(stop.signal), onProgress: () => stop.abort() };
  await expect(upload(await open(artifact), journal, half)).rejects.toThrow();
  const acked = Array.from({ length: 64 }, (_, index) => index).filter((index) => journal.acked(index));
  expect(acked.length).toBeGreaterThan(0);
  const before = harness.simulator.uploads().length;
  await upload(await open(artifact), journal);
  const again = harness.simulator.uploads().slice(before);
  for (const { name } of again) {
    const [, first, count] = /blocks-(\d+)-(\d+)-/.exec(name)!.map(Number);
    expect(acked.filter((index) => index >= first! && index < first! + count!)).toEqual([]);
  }
  expect(
    createHash("sha256")
      .update(await objectBytes())
      .digest("hex"),
  ).toBe(artifact.sha256);
}, 60_000);

test.each<[string, (good: Buffer) => Buffer, string]>([
  ["a second member", () => makeGzip(makeTar([sparse().member, { name: "more", data: Buffer.alloc(10) }])), "corrupt"],
  ["no end", () => makeGzip(makeTar([sparse().member], { end: false })), "corrupt"],
  ["a cut", (good) => good.subarray(0, good.length - 100), "corrupt"],
  ["garbage after it", (good) => Buffer.concat([good, Buffer.from("more")]), "corrupt"],
])(
  "an archive with %s gets into the bucket and no further",
  async (_, make, code) => {
    const file = make(makeGzip(makeTar([sparse().member])));
    const staged = await upload(await open(await artifactOf(file)));
    await expect(readAll(staged)).rejects.toMatchObject({ code });
  },
  60_000,
);

test("one that was exchanged in the bucket is not the artifact", async () => {
  const staged = await upload(await open(await artifactOf(makeGzip(makeTar([sparse().member])))));
  await expect(readAll({ ...staged, packedSha256: "0".repeat(64) })).rejects.toMatchObject({
    ...{ code: "corrupt", message: expect.stringContaining("not the artifact") },
  });
}, 60_000);

test("a file that is not what the compose says, and a disk of no whole GiB, are refused before they are joined", async () => {
  const good = await artifactOf(makeGzip(makeTar([sparse().member])));
  const other = await open({ ...good, sha256: "0".repeat(64) });
  await expect(upload(other)).rejects.toMatchObject({ code: "corrupt" });
  expect(harness.simulator.objects()).toEqual([]);
  const odd = await open(await artifactOf(makeGzip(makeTar([sparse(GiB + MiB).member]))));
  await expect(upload(odd)).rejects.toMatchObject({ code: "invalid" });
}, 60_000);

test("a cloud that does not keep it gets the disk unpacked", async () => {
  const disk = await open(await artifactOf(makeGzip(makeTar([sparse().member]))), []);
  expect(disk).toMatchObject({ bytes: GiB });
  expect(disk.packed).toBeUndefined();
});
