import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { quietCall } from "../lib/call.ts";
import { SlipwayError } from "../lib/errors.ts";
import { GiB, KiB, MiB } from "../lib/units.ts";
import { openBytes } from "./byte-source.ts";
import { openDisk } from "./open-disk.ts";
import { makeDisk, makeXz, writeArtifact } from "./testing/make.ts";
import { miniStream, padded, readXzIndex, type XzBlock } from "./xz-index.ts";

const folder = mkdtempSync(join(tmpdir(), "slipway-xz-"));
afterAll(() => rmSync(folder, { recursive: true }));
const call = quietCall();

async function indexOf(file: Buffer, maxBytes = GiB) {
  const path = join(folder, "file.xz");
  writeFileSync(path, file);
  const source = openBytes(path);
  try {
    return await readXzIndex(source, file.length, maxBytes, call);
  } finally {
    await source.close();
  }
}

test("streams, padding and gaps are found, and tile the file", async () => {
  const disk = makeDisk(MiB);
  const file = await makeXz(disk, { streamBytes: 300 * KiB, padding: 12 });
  const index = await indexOf(file);
  expect(index.bytes).toBe(MiB);
  expect(index.streams.flatMap(({ blocks }) => blocks.map(({ bytes }) => bytes))).toEqual([
    ...[300 * KiB, 300 * KiB, 300 * KiB],
    124 * KiB,
  ]);
  const ends = index.streams.flatMap(({ blocks }) =>
    blocks.map((block) => [block.at, block.at + padded(block.unpadded)]),
  );
  const parts = [...ends, ...index.gaps.map(({ start, end }) => [start, end])].sort((a, b) => a[0]! - b[0]!);
  let at = 0;
  for (const [start, end] of parts) {
    expect(start).toBe(at);
    at = end!;
  }
  expect(at).toBe(file.length);
  for (const { start, end, sha256 } of index.gaps) {
    expect(createHash("sha256").update(file.subarray(start, end)).digest().equals(Buffer.from(sha256))).toBe(true);
  }
});

describe("an index that lies", () => {
  const lies: { name: string; lie: (block: XzBlock) => XzBlock[]; code?: string }[] = [
    { name: "one sector more", lie: (block) => [{ ...block, bytes: block.bytes + 512 }] },
    { name: "one sector less", lie: (block) => [{ ...block, bytes: block.bytes - 512 }] },
    { name: "a longer block", lie: (block) => [{ ...block, unpadded: block.unpadded + 4 }] },
    { name: "a shorter block", lie: (block) => [{ ...block, unpadded: block.unpadded - 4 }] },
    { name: "other padding", lie: (block) => [{ ...block, unpadded: block.unpadded - 1 }] },
    { name: "a block twice", lie: (block) => [block, block] },
    {
      name: "one block as two",
      lie: (block) => [
        { ...block, unpadded: 64, bytes: 512 },
        { ...block, unpadded: block.unpadded - 64, bytes: block.bytes - 512 },
      ],
    },
    { name: "no block", lie: () => [] },
    { name: "a terabyte", lie: (block) => [{ ...block, bytes: 1024 * GiB }], code: "invalid" },
  ];

  test.each(lies)("about $name is found out", async ({ lie, code = "corrupt" }) => {
    const file = await makeXz(makeDisk(700 * KiB, { zeros: 0.3 }));
    const { streams } = await indexOf(file);
    const [stream] = streams;
    const block = stream!.blocks[0]!;
    const { suffix } = miniStream(stream!.flags, lie(block));
    const lying = Buffer.concat([file.subarray(0, block.at + padded(block.unpadded)), suffix]);
    const artifact = writeArtifact(join(folder, "lie.raw.xz"), "raw.xz", lying);
    const error = await (async () => {
      const disk = await openDisk(artifact, { wants: "raw" }, call);
      try {
        for await (const block of disk.read(call)) block.release();
      } finally {
        await disk.close();
      }
    })().catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(SlipwayError);
    expect(error).toMatchObject({ code, subject: artifact.url });
  });

  test("honest again, the same file is read", async () => {
    const file = await makeXz(makeDisk(700 * KiB));
    const { streams } = await indexOf(file);
    const { prefix, suffix } = miniStream(streams[0]!.flags, streams[0]!.blocks);
    const block = streams[0]!.blocks[0]!;
    const again = Buffer.concat([prefix, file.subarray(block.at, block.at + padded(block.unpadded)), suffix]);
    expect(again.equals(file)).toBe(true);
  });
});
