import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32, gunzipSync, inflateRawSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TarDisk } from "../decode/tar.ts";
import { makeDisk } from "../testing/make.ts";
import { crc32c, joinCrc } from "./crc.ts";
import { type GzipSum, gzipHead, gzipPiece, gzipTail, joinSums } from "./gzip-pieces.ts";
import { type Extent, sparseTarHead, sparseTarTail } from "./sparse-tar.ts";

describe("checksums", () => {
  test("of a whole are those of its parts, joined", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 3000 }), fc.uint8Array({ maxLength: 3000 }), (a, b) => {
        const both = Buffer.concat([a, b]);
        expect(joinCrc("crc32", crc32(a), crc32(b), b.length)).toBe(crc32(both));
        expect(joinCrc("crc32c", crc32c(a), crc32c(b), b.length)).toBe(crc32c(both));
      }),
    );
  });

  test("CRC-32C is the one of RFC 3720", () => {
    expect(crc32c(Buffer.alloc(32))).toBe(0x8a9136aa);
    expect(crc32c(Buffer.alloc(32, 0xff))).toBe(0x62a8ab43);
    expect(crc32c(Buffer.from("123456789"))).toBe(0xe3069283);
  });
});

/** Pieces of 64 KiB, the all-zero ones left out: small stand-ins for blocks. */
async function pack(disk: Buffer, pieceBytes = 64 * 1024): Promise<{ archive: Buffer; extents: Extent[] }> {
  const extents: Extent[] = [];
  const pieces: { deflated: Uint8Array; sum: GzipSum }[] = [];
  for (let at = 0; at < disk.length; at += pieceBytes) {
    const data = disk.subarray(at, at + pieceBytes);
    if (data.every((byte) => byte === 0)) continue;
    const last = extents.at(-1);
    if (last && last.at + last.bytes === at) extents[extents.length - 1] = { ...last, bytes: last.bytes + data.length };
    else extents.push({ at, bytes: data.length });
    pieces.push(await gzipPiece(data));
  }
  const headData = sparseTarHead(disk.length, extents);
  const head = await gzipHead(headData);
  const sum = pieces.reduce((total, piece) => joinSums(total, piece.sum), head.sum);
  const tail = await gzipTail(sparseTarTail(headData.length, extents), sum);
  return { archive: Buffer.concat([head.deflated, ...pieces.map((piece) => piece.deflated), tail]), extents };
}

function unpack(archive: Buffer): Buffer {
  const parts: Buffer[] = [];
  const reader = new TarDisk({
    begin() {},
    write: (data) => void parts.push(Buffer.from(data)),
    skip: (bytes) => void parts.push(Buffer.alloc(bytes)),
  });
  reader.push(gunzipSync(archive));
  reader.end();
  return Buffer.concat(parts);
}

describe("an archive made of pieces", () => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "slipway-encode-"));
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  test("holds the disk, whatever is in it, and is the same every time", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 40 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.integer(),
        async (pieces, zeros, seed) => {
          const disk = makeDisk(pieces * 64 * 1024, { zeros, seed });
          const { archive } = await pack(disk);
          expect(unpack(archive).equals(disk)).toBe(true);
          expect((await pack(disk)).archive.equals(archive)).toBe(true);
        },
      ),
      { numRuns: 25 },
    );
  }, 120_000);

  test("is one gzip member and nothing after it", async () => {
    const { archive } = await pack(makeDisk(4 * 1024 * 1024));
    const { engine } = inflateRawSync(archive.subarray(10), { info: true }) as unknown as {
      engine: { bytesWritten: number };
    };
    expect(engine.bytesWritten).toBe(archive.length - 18);
  });

  test("satisfies gzip and tar, with holes at both ends and more of them than a header holds", async () => {
    const disk = Buffer.alloc(8 * 1024 * 1024);
    for (let piece = 1; piece < 127; piece += 2) disk.fill(piece, piece * 65536, piece * 65536 + 65536);
    const { archive, extents } = await pack(disk);
    expect(extents.length).toBeGreaterThan(4 + 2 * 21);
    const file = join(directory, "disk.tar.gz");
    writeFileSync(file, archive);
    execFileSync("gzip", ["-t", file]);
    const listed = execFileSync("tar", ["-tvzf", file], { encoding: "utf8" }).trim().split("\n");
    expect(listed).toHaveLength(1);
    expect(listed[0]).toMatch(/^-rw-r--r--.* 8388608 .*disk\.raw$/);
    execFileSync("tar", ["-xzf", file, "-C", directory]);
    expect(readFileSync(join(directory, "disk.raw")).equals(disk)).toBe(true);
  }, 60_000);

  test.each([
    ["nothing but zeros", Buffer.alloc(1024 * 1024)],
    ["no zeros at all", Buffer.alloc(1024 * 1024, 7)],
  ])("a disk of %s", async (_, disk) => {
    const { archive } = await pack(disk);
    expect(unpack(archive).equals(disk)).toBe(true);
  });

  test("a disk of 10 GiB says its size as GNU tar does", () => {
    const GiB = 2 ** 30;
    const head = sparseTarHead(10 * GiB, [
      { at: 0, bytes: 512 },
      { at: 9 * GiB, bytes: 512 },
    ]);
    const seen: [string, number][] = [];
    const reader = new TarDisk({
      begin: (bytes) => void seen.push(["begin", bytes]),
      write: (data) => void seen.push(["write", data.length]),
      skip: (bytes) => void seen.push(["skip", bytes]),
    });
    reader.push(Buffer.concat([head, Buffer.alloc(1024, 1), Buffer.alloc(1024)]));
    reader.end();
    expect(seen.filter(([, bytes]) => bytes > 0)).toEqual([
      ["begin", 10 * GiB],
      ["write", 512],
      ["skip", 9 * GiB - 512],
      ["write", 512],
      ["skip", GiB - 512],
    ]);
  });

  test("a map that makes no sense is refused", () => {
    expect(() => sparseTarHead(1024, [{ at: 512, bytes: 1024 }])).toThrow(RangeError);
    expect(() =>
      sparseTarHead(4096, [
        { at: 512, bytes: 1024 },
        { at: 1024, bytes: 512 },
      ]),
    ).toThrow(RangeError);
  });
});
