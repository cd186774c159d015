import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { quietCall } from "../lib/call.ts";
import { SlipwayError } from "../lib/errors.ts";
import { KiB, MiB } from "../lib/units.ts";
import { BLOCK_BYTES, type BlockSource, blockCount, type ReadOptions } from "./block-source.ts";
import { DISK_FORMATS, type DiskArtifact, type OpenDiskOptions, openDisk } from "./open-disk.ts";
import {
  makeDisk,
  makeGzip,
  makeSparseTar,
  makeTar,
  makeVhd,
  makeXz,
  makeZstd,
  randomOf,
  writeArtifact,
} from "./testing/make.ts";
import { makeQcow2 } from "./testing/make-qcow2.ts";
import { buildVhdFooter, parseVhdFooter } from "./vhd.ts";

const folder = mkdtempSync(join(tmpdir(), "slipway-disks-"));
afterAll(() => rmSync(folder, { recursive: true }));
const call = quietCall();

let files = 0;
const artifactOf = (format: string, file: Buffer): DiskArtifact =>
  writeArtifact(join(folder, `${files++}.${format}`), format, file);

/** Reads a whole disk, checking every block against the promises of BlockSource. */
async function readAll(
  disk: BlockSource,
  options: Partial<ReadOptions> = {},
): Promise<{ disk: Buffer; blocks: number[] }> {
  const whole = Buffer.alloc(disk.bytes);
  const blocks: number[] = [];
  for await (const block of disk.read({ ...call, ...options })) {
    const expected = Math.min(BLOCK_BYTES, disk.bytes - block.index * BLOCK_BYTES);
    expect(block.data.length).toBe(expected);
    expect(block.data.some((byte) => byte !== 0)).toBe(true);
    expect(Buffer.from(block.sha256).equals(createHash("sha256").update(block.data).digest())).toBe(true);
    expect(blocks).not.toContain(block.index);
    blocks.push(block.index);
    whole.set(block.data, block.index * BLOCK_BYTES);
    block.release();
  }
  return { disk: whole, blocks };
}

async function openAndRead(
  artifact: DiskArtifact,
  wants: "raw" | "vhd" = "raw",
  options: Partial<OpenDiskOptions> = {},
) {
  // One worker unless the test says more: starting threads is what takes the time here.
  const disk = await openDisk(artifact, { wants, lanes: 1, ...options }, call);
  try {
    return (await readAll(disk)).disk;
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
  return error as SlipwayError;
}

const PACKERS: Record<string, (disk: Buffer) => Buffer | Promise<Buffer>> = {
  raw: (disk) => disk,
  "raw.xz": (disk) => makeXz(disk, { streamBytes: 700 * KiB, padding: 4 }),
  "raw.gz": makeGzip,
  "raw.zst": makeZstd,
  vhd: (disk) => makeVhd(disk),
  vhdfixed: (disk) => makeVhd(disk),
  "vhd.xz": (disk) => makeXz(makeVhd(disk)),
  "vhdfixed.xz": (disk) => makeXz(makeVhd(disk), { streamBytes: MiB }),
  "vhd.gz": (disk) => makeGzip(makeVhd(disk)),
  "vhdfixed.gz": (disk) => makeGzip(makeVhd(disk)),
  "tar.gz": (disk) => makeGzip(makeSparseTar(disk)),
  qcow2: (disk) => makeQcow2(disk, { compress: "deflate" }),
};

test("every format has a packer here", () => expect(Object.keys(PACKERS)).toEqual(DISK_FORMATS));

describe.each(DISK_FORMATS)("%s", (format) => {
  test("comes out as the disk that went in, raw and as VHD", async () => {
    const disk = makeDisk(5 * MiB + 512 * 3, { seed: 7 });
    const artifact = artifactOf(format, await PACKERS[format]!(disk));
    const vhd = format.startsWith("vhd");
    const padded = Buffer.concat([disk, Buffer.alloc(6 * MiB - disk.length)]);

    const raw = await openAndRead(artifact, "raw");
    expect(raw.equals(vhd ? padded : disk)).toBe(true);
    const asVhd = await openAndRead(artifact, "vhd");
    expect(asVhd.subarray(0, 6 * MiB).equals(padded)).toBe(true);
    expect(parseVhdFooter(asVhd.subarray(6 * MiB), "x")).toMatchObject({ kind: "fixed", bytes: 6 * MiB });
    expect((await openAndRead(artifact, "vhd")).equals(asVhd)).toBe(true);
  });

  test("with a wrong checksum or size is corrupt", async () => {
    const good = artifactOf(format, await PACKERS[format]!(makeDisk(2 * MiB)));
    expect(await failure(openAndRead({ ...good, sha256: "0".repeat(64) }))).toMatchObject({ code: "corrupt" });
    expect(await failure(openAndRead({ ...good, bytes: good.bytes + 1 }))).toMatchObject({ code: "corrupt" });
  });
});

test("xz in any cut, check and padding gives the disk back", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        sectors: fc.integer({ min: 1, max: 4000 }),
        seed: fc.nat(),
        zeros: fc.constantFrom(0, 0.5, 0.9, 1),
        streamBytes: fc.integer({ min: 40 * KiB, max: 2 * MiB }),
        padding: fc.constantFrom(0, 4, 512),
        check: fc.constantFrom("none", "crc32", "crc64", "sha256"),
        lanes: fc.integer({ min: 1, max: 3 }),
        wants: fc.constantFrom("raw", "vhd"),
      }),
      async ({ sectors, seed, zeros, streamBytes, padding, check, lanes, wants }) => {
        const disk = makeDisk(sectors * 512, { seed, zeros });
        const artifact = artifactOf("raw.xz", await makeXz(disk, { streamBytes, padding, check }));
        const read = await openAndRead(artifact, wants, { lanes, memory: 64 * MiB });
        expect(read.subarray(0, disk.length).equals(disk)).toBe(true);
      },
    ),
    { numRuns: 12 },
  );
});

describe("damage", () => {
  test("in an xz file is corrupt wherever it is, even when the digest agrees with it", async () => {
    const file = await makeXz(makeDisk(700 * KiB, { zeros: 0.3 }), { streamBytes: 300 * KiB, padding: 4 });
    const random = randomOf(5);
    const offsets = [0, 7, 9, 12, 13, 20, 40, file.length - 5, file.length - 9, file.length - 20];
    for (let n = 0; n < 12; n++) offsets.push(Math.floor(random() * file.length));
    for (const at of offsets) {
      const flipped = Buffer.from(file);
      flipped[at]! ^= 1 << Math.floor(random() * 8);
      expect(await failure(openAndRead(artifactOf("raw.xz", flipped))), `bit at ${at}`).toMatchObject({
        code: "corrupt",
      });
    }
  });

  test.each(["raw.xz", "raw.gz", "raw.zst", "vhdfixed", "vhdfixed.xz", "tar.gz"])(
    "%s cut off anywhere is corrupt",
    async (format) => {
      const file = await PACKERS[format]!(makeDisk(600 * KiB, { zeros: 0.3 }));
      const random = randomOf(9);
      const lengths = [1, 12, 30, file.length - 1, file.length - 5, file.length - 512];
      for (let n = 0; n < 2; n++) lengths.push(Math.floor(random() * file.length));
      for (const length of lengths) {
        const error = await failure(openAndRead(artifactOf(format, file.subarray(0, length))));
        expect(["corrupt", "invalid"], `cut at ${length}: ${error.message}`).toContain(error.code);
        if (format !== "vhdfixed") expect(error.code, `cut at ${length}: ${error.message}`).toBe("corrupt");
      }
    },
  );

  test("after the end of compressed data is corrupt", async () => {
    const disk = makeDisk(600 * KiB);
    for (const [format, pack] of [
      ["raw.gz", makeGzip],
      ["raw.zst", makeZstd],
    ] as const) {
      const file = Buffer.concat([pack(disk), Buffer.from("and then some")]);
      expect(await failure(openAndRead(artifactOf(format, file))), format).toMatchObject({ code: "corrupt" });
    }
    const xz = Buffer.concat([await makeXz(disk), Buffer.from("1234")]);
    expect(await failure(openAndRead(artifactOf("raw.xz", xz)))).toMatchObject({ code: "corrupt" });
  });

  test("no file at all is corrupt", async () => {
    for (const format of DISK_FORMATS) {
      const error = await failure(openAndRead(artifactOf(format, Buffer.alloc(0))));
      expect(["corrupt", "invalid"], format).toContain(error.code);
    }
  });
});

describe("bombs", () => {
  const bomb = Buffer.alloc(8 * MiB);
  test.each(["raw", "raw.xz", "raw.gz", "raw.zst", "vhdfixed.xz", "tar.gz", "qcow2"])(
    "%s beyond the limit is refused on opening",
    async (format) => {
      const artifact = artifactOf(format, await PACKERS[format]!(bomb));
      const error = await failure(openDisk(artifact, { wants: "raw", maxVirtualBytes: 4 * MiB }, call));
      expect(error).toMatchObject({ code: "invalid" });
      expect(error.next).toBeTypeOf("string");
    },
  );
});

describe("VHDs that no cloud takes", () => {
  const uuid = Buffer.alloc(16, 3);
  const withFooter = (disk: Buffer, change: (footer: Buffer) => void) => {
    const footer = buildVhdFooter(disk.length, uuid);
    change(footer);
    footer.writeUInt32BE(0, 64);
    footer.writeUInt32BE(~footer.reduce((sum, byte) => sum + byte, 0) >>> 0, 64);
    return Buffer.concat([disk, footer]);
  };
  const cases = [
    {
      name: "dynamic",
      code: "invalid",
      make: () => withFooter(makeDisk(2 * MiB), (footer) => footer.writeUInt32BE(3, 60)),
    },
    { name: "not whole MiB", code: "invalid", make: () => withFooter(makeDisk(2 * MiB + 512), () => {}) },
    {
      name: "lying about its size",
      code: "corrupt",
      make: () => withFooter(makeDisk(2 * MiB), (footer) => footer.writeBigUInt64BE(BigInt(MiB), 48)),
    },
    { name: "without a footer", code: "corrupt", make: () => makeDisk(2 * MiB) },
  ];
  test.each(cases)("$name, before a block is read where that is possible", async ({ code, make }) => {
    const vhd = make();
    for (const wants of ["raw", "vhd"] as const) {
      for (const [format, file] of [
        ["vhdfixed", vhd],
        ["vhdfixed.xz", await makeXz(vhd, { streamBytes: MiB })],
        ["vhdfixed.gz", makeGzip(vhd)],
      ] as const) {
        const error = await failure(openDisk(artifactOf(format, file), { wants }, call));
        expect(error, `${format} as ${wants}`).toMatchObject({ code });
      }
      expect(await failure(openAndRead(artifactOf("vhdfixed.xz", await makeXz(vhd)), wants))).toMatchObject({ code });
    }
  });
});

describe("tar archives", () => {
  const disk = makeDisk(MiB);
  const sparse = (bytes: number, extents: [number, number][]) => ({
    type: "S",
    data: disk,
    sparse: { bytes, extents },
  });
  test("plain ones are read too", async () => {
    expect((await openAndRead(artifactOf("tar.gz", makeGzip(makeTar([{ data: disk }]))))).equals(disk)).toBe(true);
  });
  const attacks = [
    { name: "two members", tar: makeTar([{ data: disk }, { name: "other", data: disk }]) },
    { name: "a path that leaves", tar: makeTar([{ name: "../disk.raw", data: disk }]) },
    { name: "an absolute path", tar: makeTar([{ name: "/disk.raw", data: disk }]) },
    { name: "a symbolic link", tar: makeTar([{ type: "2", data: Buffer.alloc(0) }]) },
    { name: "a hard link", tar: makeTar([{ type: "1", data: Buffer.alloc(0) }]) },
    { name: "no member", tar: makeTar([]) },
    { name: "no end", tar: makeTar([{ data: disk }], { end: false }) },
    { name: "a size that lies", tar: makeTar([{ data: disk, size: 2 * MiB }]) },
    {
      name: "a map that overlaps",
      tar: makeTar([
        sparse(2 * MiB, [
          [0, MiB / 2],
          [MiB / 4, MiB / 2],
        ]),
      ]),
    },
    { name: "a map that leaves the disk", tar: makeTar([sparse(2 * MiB, [[MiB + 512, MiB]])]) },
    { name: "a map with less than is stored", tar: makeTar([sparse(2 * MiB, [[0, MiB / 2]])]) },
    { name: "a map with more than is stored", tar: makeTar([sparse(4 * MiB, [[0, 3 * MiB]])]) },
  ];
  test.each(attacks)("with $name are refused", async ({ tar }) => {
    const error = await failure(openAndRead(artifactOf("tar.gz", makeGzip(tar))));
    expect(["corrupt", "invalid"]).toContain(error.code);
  });
});

describe("resume", () => {
  const disk = makeDisk(40 * MiB, { zeros: 0.3, seed: 3 });

  test.each(["raw", "raw.xz", "raw.gz"])("of %s yields only what is wanted, and each unit is told", async (format) => {
    const file =
      format === "raw.xz" ? await makeXz(disk, { streamBytes: 5 * MiB + 512 }) : await PACKERS[format]!(disk);
    const source = await openDisk(artifactOf(format, file), { wants: "raw", memory: 96 * MiB }, call);
    const units = new Map<number, Uint8Array>();
    const first = await readAll(source, { onUnit: (unit, digest) => void units.set(unit, digest) });
    expect(units.size).toBeGreaterThan(0);

    const kept = new Set(first.blocks.filter((index) => index < 60));
    const again: number[] = [];
    const second = await readAll(source, {
      wanted: (index) => !kept.has(index),
      knownUnits: units,
      onUnit: (unit) => void again.push(unit),
    });
    expect(second.blocks.toSorted()).toEqual(first.blocks.filter((index) => index >= 60).toSorted());
    if (source.access === "random") expect(again.length).toBeLessThan(units.size);

    const none = await readAll(source, { wanted: () => false, knownUnits: units });
    expect(none.blocks).toEqual([]);

    const [unit] = units.keys();
    const wrong = new Map(units).set(unit!, Buffer.alloc(32));
    expect(await failure(readAll(source, { wanted: () => false, knownUnits: wrong }))).toMatchObject({
      code: "corrupt",
    });
    await source.close();
  });
});

describe("a reader", () => {
  test("that keeps its blocks stops the decoder, and goes on when it lets go", async () => {
    const disk = makeDisk(60 * MiB, { zeros: 0 });
    const source = await openDisk(
      artifactOf("raw.xz", await makeXz(disk, { streamBytes: 4 * MiB, preset: 0 })),
      { wants: "raw" },
      call,
    );
    let held: (() => void)[] = [];
    let count = 0;
    for await (const block of source.read(call)) {
      count++;
      held.push(() => block.release());
      if (held.length === 60) for (const release of held.splice(0)) release();
    }
    held = [];
    expect(count).toBe(blockCount(disk.length));
    await source.close();
  });

  test("that stops early, or is aborted, leaves nothing running", async () => {
    const disk = makeDisk(30 * MiB, { zeros: 0 });
    const source = await openDisk(
      artifactOf("raw.xz", await makeXz(disk, { streamBytes: 4 * MiB, preset: 0 })),
      { wants: "raw" },
      call,
    );
    for await (const _ of source.read(call)) break;
    const stop = new AbortController();
    const reading = (async () => {
      for await (const _ of source.read(quietCall(stop.signal))) stop.abort();
    })();
    expect(await failure(reading)).toMatchObject({ code: "cancelled" });
    expect((await readAll(source)).disk.equals(disk)).toBe(true);
    await source.close();
    expect(await failure(readAll(source))).toMatchObject({ code: "cancelled" });
  });

  test("is told which blocks are zero", async () => {
    const disk = makeDisk(8 * MiB, { zeros: 0.95 });
    const source = await openDisk(
      artifactOf("raw.xz", await makeXz(disk, { streamBytes: 3 * MiB + 512 })),
      { wants: "vhd" },
      call,
    );
    const zeros: number[] = [];
    const { blocks } = await readAll(source, { onZero: (index) => void zeros.push(index) });
    expect([...zeros, ...blocks].toSorted((a, b) => a - b)).toEqual([...Array(blockCount(source.bytes)).keys()]);
    await source.close();
  });
});

describe("over HTTP", () => {
  let server: Server;
  let file: Buffer;
  let ranged = true;
  let requested = 0;
  beforeAll(async () => {
    server = createServer((request, response) => {
      const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
      const from = ranged ? Number(range?.[1] ?? 0) : 0;
      const to = ranged && range?.[2] ? Math.min(Number(range[2]) + 1, file.length) : file.length;
      requested += to - from;
      response.writeHead(ranged ? 206 : 200, {
        ...(ranged ? { "content-range": `bytes ${from}-${to - 1}/${file.length}` } : {}),
        ...{ "content-length": to - from, etag: '"1"' },
      });
      const body = file.subarray(from, to);
      if (ranged && body.length > 200_000) {
        requested -= body.length - 200_000;
        response.write(body.subarray(0, 200_000), () => response.destroy());
      } else response.end(body);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  });
  afterAll(() => new Promise((resolve) => server.close(resolve)));

  test.each([true, false])("with ranges: %s", async (withRanges) => {
    ranged = withRanges;
    requested = 0;
    const disk = makeDisk(4 * MiB, { zeros: 0.4 });
    file = await makeXz(disk, { streamBytes: MiB });
    const artifact = {
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/disk.raw.xz`,
      ...{ bytes: file.length, sha256: createHash("sha256").update(file).digest("hex"), format: "raw.xz" },
    };
    const read = await openAndRead(artifact, "raw", { source: { backoffMs: 1 } });
    expect(read.equals(disk)).toBe(true);
    // Besides the file itself: one byte for its size, and its index.
    if (withRanges) expect(requested).toBeLessThan(file.length + 5 * 64 * KiB + 1);
  });
});
