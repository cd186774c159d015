import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { deflateRawSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { quietCall } from "../../lib/call.ts";
import { SlipwayError } from "../../lib/errors.ts";
import { KiB, MiB } from "../../lib/units.ts";
import { BLOCK_BYTES, type BlockSource, blockCount, type ReadOptions } from "../block-source.ts";
import { type ByteSource, openBytes } from "../byte-source.ts";
import { type OpenDiskOptions, openDisk } from "../open-disk.ts";
import { makeDisk, randomOf, writeArtifact } from "../testing/make.ts";
import { layOutQcow2, makeQcow2, type QcowFile } from "../testing/make-qcow2.ts";
import { readClusterMap } from "./cluster-map.ts";
import { decompressCluster, zstdFrameBytes } from "./decompress.ts";
import { readQcowBlocks } from "./read-blocks.ts";
import { readOrder } from "./read-order.ts";

const folder = mkdtempSync(join(tmpdir(), "slipway-qcow2-"));
afterAll(() => rmSync(folder, { recursive: true }));
const call = quietCall();
let files = 0;
const artifactOf = (file: Buffer) => writeArtifact(join(folder, `${files++}.qcow2`), "qcow2", file);

async function readAll(disk: BlockSource, options: Partial<ReadOptions> = {}) {
  const whole = Buffer.alloc(disk.bytes);
  const blocks: number[] = [];
  for await (const block of disk.read({ ...call, ...options })) {
    expect(block.data.length).toBe(Math.min(BLOCK_BYTES, disk.bytes - block.index * BLOCK_BYTES));
    expect(block.data.some((byte) => byte !== 0)).toBe(true);
    expect(Buffer.from(block.sha256).equals(createHash("sha256").update(block.data).digest())).toBe(true);
    expect(blocks).not.toContain(block.index);
    blocks.push(block.index);
    whole.set(block.data, block.index * BLOCK_BYTES);
    block.release();
  }
  return { disk: whole, blocks };
}

async function read(file: Buffer, options: Partial<OpenDiskOptions> = {}, reading: Partial<ReadOptions> = {}) {
  const disk = await openDisk(artifactOf(file), { wants: "raw", ...options }, call);
  try {
    return await readAll(disk, reading);
  } finally {
    await disk.close();
  }
}

async function failure(work: Promise<unknown>): Promise<SlipwayError> {
  const error = await work.then(
    () => "success",
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(SlipwayError);
  expect((error as SlipwayError).subject).toBeTypeOf("string");
  expect((error as SlipwayError).next).toBeTypeOf("string");
  return error as SlipwayError;
}

describe("a qcow2 file", () => {
  test("of any version, cluster size, compression and order gives the disk back", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          version: fc.constantFrom<2 | 3>(2, 3),
          clusterBits: fc.integer({ min: 9, max: 21 }),
          compress: fc.constantFrom(undefined, "deflate" as const, "zstd" as const),
          zeros: fc.constantFrom("absent" as const, "zero" as const, "zero-allocated" as const, "stored" as const),
          shuffle: fc.option(fc.nat(), { nil: undefined }),
          sectors: fc.integer({ min: 1, max: 9000 }),
          share: fc.constantFrom(0, 0.5, 0.9, 1),
          seed: fc.nat(),
          wants: fc.constantFrom<"raw" | "vhd">("raw", "vhd"),
        }),
        async ({ version, sectors, share, seed, wants, ...layout }) => {
          const disk = makeDisk(sectors * 512, { seed, zeros: share });
          // Version 2 has neither zero clusters nor zstd.
          const old = version === 2 && (layout.compress === "zstd" || layout.zeros.startsWith("zero"));
          const file = makeQcow2(disk, { ...layout, version: old ? 3 : version });
          const zeros: number[] = [];
          const back = await read(file, { wants, memory: 64 * MiB }, { onZero: (index) => void zeros.push(index) });
          expect(back.disk.subarray(0, disk.length).equals(disk)).toBe(true);
          const all = [...back.blocks, ...zeros].toSorted((one, other) => one - other);
          expect(all).toEqual([...Array(blockCount(back.disk.length)).keys()]);
        },
      ),
      { numRuns: 60 },
    );
  }, 120_000);

  test("that is scattered over more blocks than memory holds is read all the same", async () => {
    const disk = makeDisk(24 * MiB, { zeros: 0.1, seed: 4 });
    for (const compress of [undefined, "deflate"] as const) {
      const file = makeQcow2(disk, { shuffle: 5, compress });
      expect((await read(file, { memory: 32 * MiB })).disk.equals(disk)).toBe(true);
    }
  }, 60_000);

  test("that ends inside its last cluster has zeros there", async () => {
    const disk = Buffer.alloc(3 * 64 * KiB);
    disk.fill(7, 0, 2 * 64 * KiB + 1000);
    const { file } = layOutQcow2(disk);
    const cut = file.subarray(0, file.length - 64 * KiB + 1000);
    expect((await read(cut)).disk.equals(disk)).toBe(true);
  });

  test("that holds nothing has no blocks", async () => {
    const back = await read(makeQcow2(Buffer.alloc(3 * MiB)));
    expect(back.blocks).toEqual([]);
    expect(back.disk.length).toBe(3 * MiB);
  });

  test("takes an aborted read, and a second one", async () => {
    const disk = makeDisk(20 * MiB, { zeros: 0 });
    const source = await openDisk(artifactOf(makeQcow2(disk, { compress: "deflate" })), { wants: "raw" }, call);
    for await (const _ of source.read(call)) break;
    const stop = new AbortController();
    const reading = (async () => {
      for await (const _ of source.read(quietCall(stop.signal))) stop.abort();
    })();
    await expect(reading).rejects.toMatchObject({ code: "cancelled" });
    expect((await readAll(source)).disk.equals(disk)).toBe(true);
    await source.close();
  }, 60_000);

  test("is resumed: only what is wanted comes, from a file that is still the same", async () => {
    const disk = makeDisk(48 * MiB, { zeros: 0.1, seed: 3 });
    const source = await openDisk(artifactOf(makeQcow2(disk)), { wants: "raw" }, call);
    const units = new Map<number, Uint8Array>();
    const first = await readAll(source, { onUnit: (unit, digest) => void units.set(unit, digest) });
    expect(units.size).toBe(3);

    const again: number[] = [];
    const wanted = (index: number) => index >= 80;
    const second = await readAll(source, { wanted, knownUnits: units, onUnit: (unit) => void again.push(unit) });
    expect(second.blocks.toSorted()).toEqual(first.blocks.filter(wanted).toSorted());
    expect(again).toEqual([2]);

    const wrong = new Map(units).set(1, Buffer.alloc(32));
    const error = await failure(readAll(source, { wanted: () => false, knownUnits: wrong }));
    expect(error.code).toBe("corrupt");
    await source.close();
  }, 60_000);
});

describe("what a header may say", () => {
  const cases: { name: string; code: string; change: (header: Buffer) => void }[] = [
    { name: "no mark", code: "corrupt", change: (header) => header.fill(0, 0, 4) },
    { name: "version 1", code: "unsupported", change: (header) => header.writeUInt32BE(1, 4) },
    { name: "version 4", code: "unsupported", change: (header) => header.writeUInt32BE(4, 4) },
    { name: "a backing file", code: "unsupported", change: (header) => header.writeBigUInt64BE(400n, 8) },
    { name: "the length of a backing file's name", code: "unsupported", change: (h) => h.writeUInt32BE(9, 16) },
    { name: "AES", code: "unsupported", change: (header) => header.writeUInt32BE(1, 32) },
    { name: "LUKS", code: "unsupported", change: (header) => header.writeUInt32BE(2, 32) },
    { name: "dirty", code: "invalid", change: (header) => header.writeBigUInt64BE(1n, 72) },
    { name: "corrupt", code: "corrupt", change: (header) => header.writeBigUInt64BE(2n, 72) },
    { name: "an external data file", code: "unsupported", change: (header) => header.writeBigUInt64BE(4n, 72) },
    { name: "subclusters", code: "unsupported", change: (header) => header.writeBigUInt64BE(16n, 72) },
    { name: "an unknown feature", code: "unsupported", change: (header) => header.writeBigUInt64BE(1n << 40n, 72) },
    { name: "zstd without its bit", code: "corrupt", change: (header) => header.writeUInt8(1, 104) },
    { name: "the bit without zstd", code: "corrupt", change: (header) => header.writeBigUInt64BE(8n, 72) },
    { name: "unknown compression", code: "unsupported", change: (header) => header.writeUInt8(2, 104) },
    { name: "a header of 8 bytes", code: "corrupt", change: (header) => header.writeUInt32BE(8, 100) },
    { name: "clusters of 256 bytes", code: "corrupt", change: (header) => header.writeUInt32BE(8, 20) },
    { name: "clusters of 4 MiB", code: "corrupt", change: (header) => header.writeUInt32BE(22, 20) },
    { name: "clusters of 2^4294967295 bytes", code: "corrupt", change: (h) => h.writeUInt32BE(0xffffffff, 20) },
    { name: "a disk of 2^63 bytes", code: "invalid", change: (header) => header.writeBigUInt64BE(1n << 63n, 24) },
    { name: "no bytes", code: "invalid", change: (header) => header.writeBigUInt64BE(0n, 24) },
    { name: "half a sector", code: "invalid", change: (header) => header.writeBigUInt64BE(1000n, 24) },
    { name: "a larger disk than its tables", code: "corrupt", change: (h) => h.writeBigUInt64BE(1n << 35n, 24) },
    { name: "an L1 table of 32 GiB", code: "corrupt", change: (header) => header.writeUInt32BE(0xffffffff, 36) },
    { name: "no L1 table", code: "corrupt", change: (header) => header.writeUInt32BE(0, 36) },
    { name: "an L1 table in the header", code: "corrupt", change: (header) => header.writeBigUInt64BE(0n, 40) },
    { name: "an L1 table between clusters", code: "corrupt", change: (h) => h.writeBigUInt64BE(131_080n, 40) },
    { name: "an L1 table outside", code: "corrupt", change: (header) => header.writeBigUInt64BE(1n << 40n, 40) },
    {
      name: "an L1 table at 2^64 − 64 KiB",
      code: "corrupt",
      change: (h) => h.writeBigUInt64BE(2n ** 64n - 65536n, 40),
    },
    { name: "refcounts over the L1 table", code: "corrupt", change: (header) => header.writeBigUInt64BE(131_072n, 48) },
    { name: "refcounts over everything", code: "corrupt", change: (header) => header.writeUInt32BE(1 << 30, 56) },
  ];
  test.each(cases)("$name: $code", async ({ code, change }) => {
    const file = makeQcow2(makeDisk(MiB, { zeros: 0 }));
    change(file);
    expect(await failure(read(file))).toMatchObject({ code });
  });
});

describe("tables that lie are corrupt", () => {
  const COPIED = 1n << 63n;
  const COMPRESSED = 1n << 62n;
  const write = (file: Buffer, at: number, value: bigint) => file.writeBigUInt64BE(value, at);
  const cases: { name: string; change: (qcow: QcowFile) => void }[] = [
    { name: "an L2 table outside", change: ({ file, l1At }) => write(file, l1At, COPIED | (1n << 40n)) },
    { name: "an L2 table between clusters", change: (q) => write(q.file, q.l1At, COPIED | BigInt(q.l2At + 512)) },
    { name: "an L2 table that is the L1 table", change: (q) => write(q.file, q.l1At, COPIED | BigInt(q.l1At)) },
    { name: "an L2 table that is the refcount table", change: (q) => write(q.file, q.l1At, BigInt(q.clusterBytes)) },
    { name: "an L2 table that is data", change: (q) => write(q.file, q.l1At, COPIED | BigInt(q.dataAt)) },
    { name: "one L2 table used twice", change: (q) => write(q.file, q.l1At + 8, COPIED | BigInt(q.l2At)) },
    { name: "reserved bits in L1", change: (q) => write(q.file, q.l1At, COPIED | BigInt(q.l2At) | 4n) },
    { name: "high bits in L1", change: (q) => write(q.file, q.l1At, (1n << 60n) | BigInt(q.l2At)) },
    { name: "a cluster outside", change: (q) => write(q.file, q.l2At, COPIED | (1n << 50n)) },
    { name: "a cluster at the end", change: (q) => write(q.file, q.l2At, COPIED | BigInt(q.file.length)) },
    { name: "a cluster between clusters", change: (q) => write(q.file, q.l2At, COPIED | BigInt(q.dataAt + 512)) },
    { name: "a cluster in the header", change: (q) => write(q.file, q.l2At, COPIED | 512n) },
    { name: "a cluster that is the L1 table", change: (q) => write(q.file, q.l2At, COPIED | BigInt(q.l1At)) },
    { name: "a cluster that is its own table", change: (q) => write(q.file, q.l2At, COPIED | BigInt(q.l2At)) },
    { name: "one cluster used twice", change: (q) => q.file.copy(q.file, q.l2At + 8, q.l2At, q.l2At + 8) },
    { name: "reserved bits in L2", change: (q) => write(q.file, q.l2At, COPIED | BigInt(q.dataAt) | 2n) },
    {
      name: "a compressed cluster beyond the end",
      change: (q) => write(q.file, q.l2At, COMPRESSED | (255n << 54n) | BigInt(q.file.length - 512)),
    },
    { name: "a compressed cluster in the header", change: (q) => write(q.file, q.l2At, COMPRESSED | 700n) },
    { name: "a compressed cluster outside", change: (q) => write(q.file, q.l2At, COMPRESSED | (1n << 50n)) },
    { name: "a compressed cluster in a table", change: (q) => write(q.file, q.l2At, COMPRESSED | BigInt(q.l1At + 9)) },
    {
      name: "compressed clusters over each other",
      change: (q) => {
        write(q.file, q.l2At, COMPRESSED | (9n << 54n) | BigInt(q.dataAt));
        write(q.file, q.l2At + 8, COMPRESSED | (9n << 54n) | BigInt(q.dataAt + 512));
      },
    },
    {
      name: "compressed clusters at one place",
      change: (q) => {
        for (let entry = 0; entry < 16; entry++) {
          write(q.file, q.l2At + entry * 8, COMPRESSED | BigInt(q.dataAt + 200));
        }
      },
    },
    { name: "a compressed cluster of noise", change: (q) => write(q.file, q.l2At, COMPRESSED | BigInt(q.dataAt)) },
  ];
  // Two L2 tables, each of 8192 clusters: 513 MiB, nearly all of it absent.
  const small = makeDisk(MiB, { zeros: 0, seed: 2 });
  test.each(cases)("$name", async ({ change }) => {
    const qcow = layOutQcow2(small, { bytes: MiB });
    change(qcow);
    if (qcow.file.readBigUInt64BE(qcow.l1At + 8) !== 0n) {
      qcow.file.writeUInt32BE(2, 36);
      qcow.file.writeBigUInt64BE(BigInt(513 * MiB), 24);
    }
    expect(await failure(read(qcow.file))).toMatchObject({ code: "corrupt" });
  });

  test("in version 2 a zero cluster too", async () => {
    const qcow = layOutQcow2(small, { version: 2 });
    write(qcow.file, qcow.l2At, 1n);
    expect(await failure(read(qcow.file))).toMatchObject({ code: "corrupt" });
  });

  test("and bits that flip anywhere never hang, and never pass for the disk", async () => {
    const random = randomOf(11);
    for (const compress of ["deflate", "zstd"] as const) {
      const disk = makeDisk(300 * KiB, { zeros: 0.2, seed: 6 });
      const good = makeQcow2(disk, { compress, clusterBits: 12 });
      for (let flips = 0; flips < 60; flips++) {
        const file = Buffer.from(good);
        // Header and tables more often than their size alone would have it.
        const at = Math.floor(random() * (flips % 2 ? file.length : 5 * 4096));
        file[at]! ^= 1 << Math.floor(random() * 8);
        const artifact = { ...artifactOf(file), sha256: createHash("sha256").update(good).digest("hex") };
        const reading = (async () => {
          const source = await openDisk(artifact, { wants: "raw" }, call);
          await readAll(source).finally(() => source.close());
        })();
        const { code } = await failure(reading);
        expect(["corrupt", "invalid", "unsupported"], `byte ${at}`).toContain(code);
      }
    }
  }, 60_000);
});

describe("a file that is another one later", () => {
  const disk = makeDisk(12 * MiB, { zeros: 0.1, seed: 8 });

  /** Shows one content to who looks at a part, another to who reads it all. */
  function twoFaced(parts: Buffer, whole: Buffer): ByteSource {
    return {
      url: "memory:disk.qcow2",
      stat: async () => ({ bytes: whole.length, ranged: true }),
      read: async (offset, length) => Buffer.from(parts.subarray(offset, offset + length)),
      async *stream(offset, _call, end = whole.length) {
        // Odd pieces, as a network brings them.
        for (let at = offset; at < end; at += 65_521) yield whole.subarray(at, Math.min(at + 65_521, end));
      },
      async close() {},
    };
  }

  async function readTwoFaced(parts: Buffer, whole: Buffer, mapOf = parts, slots = 64) {
    const map = await readClusterMap(twoFaced(mapOf, whole), { bytes: whole.length, ranged: true }, 64 * MiB, call);
    const sha256 = createHash("sha256").update(whole).digest("hex");
    const reading = {
      map,
      source: twoFaced(parts, whole),
      fileBytes: whole.length,
      sha256,
      diskEnd: disk.length,
      slots,
    };
    const back = Buffer.alloc(disk.length);
    for await (const block of readQcowBlocks(reading, new Uint8Array(blockCount(disk.length)).fill(1), call)) {
      back.set(block.data, block.index * BLOCK_BYTES);
      block.release();
    }
    return back;
  }

  test("is corrupt where its tables changed", async () => {
    const qcow = layOutQcow2(disk);
    expect((await readTwoFaced(qcow.file, qcow.file)).equals(disk)).toBe(true);
    const swapped = Buffer.from(qcow.file);
    qcow.file.copy(swapped, qcow.l2At, qcow.l2At + 8, qcow.l2At + 16);
    qcow.file.copy(swapped, qcow.l2At + 8, qcow.l2At, qcow.l2At + 8);
    expect(await failure(readTwoFaced(qcow.file, swapped))).toMatchObject({ code: "corrupt" });
  });

  test("is corrupt where a block is read a second time", async () => {
    const qcow = layOutQcow2(disk, { shuffle: 3, compress: "deflate" });
    const map = await readClusterMap(
      twoFaced(qcow.file, qcow.file),
      { bytes: qcow.file.length, ranged: true },
      64 * MiB,
      call,
    );
    const { putOff, starts, clusters } = readOrder(map, new Uint8Array(24).fill(1), 8);
    expect(putOff.size).toBe(16);
    expect((await readTwoFaced(qcow.file, qcow.file, qcow.file, 8)).equals(disk)).toBe(true);
    const [block] = putOff;
    const changed = Buffer.from(qcow.file);
    const at = map.at[clusters[starts[block!]!]!]!;
    changed[at + 40]! ^= 1;
    expect(await failure(readTwoFaced(changed, qcow.file, qcow.file, 8))).toMatchObject({ code: "corrupt" });
  });
});

describe("a compressed cluster", () => {
  const place = { at: 4711, url: "x" };
  const data = makeDisk(64 * KiB, { zeros: 0 });
  const after = Buffer.from("what comes after it");

  test("may be followed by another one", async () => {
    const frame = zstdCompressSync(data);
    expect(zstdFrameBytes(Buffer.concat([frame, after]))).toBe(frame.length);
    const deflated = deflateRawSync(data, { windowBits: 12 });
    for (const [kind, packed] of [["zstd", frame] as const, ["deflate", deflated] as const]) {
      const back = await decompressCluster(kind, Buffer.concat([packed, after]), data.length, place);
      expect(back.equals(data)).toBe(true);
    }
  });

  test("that is cut, too short or too long is corrupt", async () => {
    for (const [kind, pack] of [["zstd", zstdCompressSync] as const, ["deflate", deflateRawSync] as const]) {
      const bad = [
        pack(data).subarray(0, 900),
        pack(data.subarray(1)),
        pack(Buffer.concat([data, after])),
        Buffer.alloc(512),
        Buffer.alloc(512, 0xff),
      ];
      for (const packed of bad) {
        expect(await failure(decompressCluster(kind, packed, data.length, place)), kind).toMatchObject({
          code: "corrupt",
        });
      }
    }
  });

  test("that wants a window of gigabytes is corrupt", async () => {
    // Magic; no single segment, so that a window byte follows: 2^21 KiB; one last block: 64 KiB of zeros.
    const hostile = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x03, 0x00, 0x08, 0x00]);
    const harmless = Buffer.from(hostile);
    harmless[5] = 11 << 3;
    expect((await decompressCluster("zstd", harmless, 64 * KiB, place)).equals(Buffer.alloc(64 * KiB))).toBe(true);
    expect(await failure(decompressCluster("zstd", hostile, 64 * KiB, place))).toMatchObject({ code: "corrupt" });
  });
});

describe("over HTTP", () => {
  let server: Server;
  let file: Buffer;
  let ranged = true;
  beforeAll(async () => {
    server = createServer((request, response) => {
      const range = ranged ? /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "") : null;
      const from = Number(range?.[1] ?? 0);
      const to = range?.[2] ? Math.min(Number(range[2]) + 1, file.length) : file.length;
      response.writeHead(range ? 206 : 200, {
        ...(range ? { "content-range": `bytes ${from}-${to - 1}/${file.length}` } : {}),
        ...{ "content-length": to - from, etag: '"1"' },
      });
      response.end(file.subarray(from, to));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  });
  afterAll(() => new Promise((resolve) => server.close(resolve)));

  test.each([true, false])("with ranges: %s", async (withRanges) => {
    ranged = withRanges;
    const disk = makeDisk(6 * MiB, { zeros: 0.4 });
    file = makeQcow2(disk, { compress: "deflate", clusterBits: 13, shuffle: 1 });
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/disk.qcow2`;
    const sha256 = createHash("sha256").update(file).digest("hex");
    const artifact = { url, bytes: file.length, sha256, format: "qcow2" };
    const source = await openDisk(artifact, { wants: "raw", source: { backoffMs: 1 } }, call);
    expect((await readAll(source)).disk.equals(disk)).toBe(true);
    await source.close();
    await openBytes(url).close();
  });
});
