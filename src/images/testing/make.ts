/**
 * Small disks and everything they come packed in, for tests, benchmarks and samples. Node alone makes them.
 */
import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { check, xzAsync } from "node-liblzma";
import { KiB } from "../../lib/units.ts";
import type { DiskArtifact } from "../open-disk.ts";
import { buildVhdFooter, vhdPadding } from "../vhd.ts";

export interface SparseDiskOptions {
  /** Share of 64 KiB pieces that are all zero, 0 … 1. Default 0.6. */
  readonly zeros?: number;
  /** Same seed, same disk. Default 1. */
  readonly seed?: number;
}

/** A disk of holes, text and noise: compresses about as well as a file system with software on it. */
export function makeDisk(bytes: number, { zeros = 0.6, seed = 1 }: SparseDiskOptions = {}): Buffer {
  const random = randomOf(seed);
  const disk = Buffer.alloc(bytes);
  const words = Array.from({ length: 512 }, () => Math.floor(random() * 2 ** 32).toString(36));
  for (let at = 0; at < bytes; at += 64 * KiB) {
    if (random() < zeros) continue;
    const piece = disk.subarray(at, Math.min(at + 64 * KiB, bytes));
    if (random() < 0.3) for (let byte = 0; byte < piece.length; byte++) piece[byte] = random() * 256;
    else
      for (let byte = 0; byte < piece.length; ) byte += piece.write(`${words[Math.floor(random() * 512)]} `, byte) || 1;
  }
  return disk;
}

/** Numbers in [0, 1) that are the same for the same seed (mulberry32). */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export interface XzOptions {
  /** Decoded bytes of a stream; each stream holds one block. Default: one stream for all. */
  readonly streamBytes?: number;
  readonly preset?: number;
  readonly check?: "none" | "crc32" | "crc64" | "sha256";
  /** Zero bytes after each stream, a multiple of four. Default 0. */
  readonly padding?: number;
}

export async function makeXz(data: Buffer, options: XzOptions = {}): Promise<Buffer> {
  const { streamBytes = Math.max(1, data.length), preset = 1, padding = 0 } = options;
  const kinds = { none: check.NONE, crc32: check.CRC32, crc64: check.CRC64, sha256: check.SHA256 };
  const streams: Buffer[] = [];
  for (let at = 0; at < data.length; at += streamBytes) {
    const part = data.subarray(at, at + streamBytes);
    streams.push(await xzAsync(part, { preset, check: kinds[options.check ?? "crc64"] }), Buffer.alloc(padding));
  }
  return Buffer.concat(streams);
}

export const makeGzip = (data: Buffer): Buffer => gzipSync(data, { level: 1 });
export const makeZstd = (data: Buffer): Buffer => zstdCompressSync(data);

/** Pads to whole MiB, as it must be, and adds the footer. */
export function makeVhd(disk: Buffer, uuid: Uint8Array = randomBytes(16)): Buffer {
  const padded = Buffer.concat([disk, Buffer.alloc(vhdPadding(disk.length))]);
  return Buffer.concat([padded, buildVhdFooter(padded.length, uuid)]);
}

export interface TarMember {
  readonly name?: string;
  readonly type?: string;
  readonly data: Buffer;
  /** As the header says; default the data's. */
  readonly size?: number;
  /** Old GNU sparse: what the header says the disk is, and where the data lie. */
  readonly sparse?: { readonly bytes: number; readonly extents: readonly (readonly [at: number, bytes: number])[] };
}

/** A tar archive of the given members, lies included. */
export function makeTar(members: readonly TarMember[], { end = true } = {}): Buffer {
  const records = members.flatMap((member) => [...tarHeaders(member), member.data, zerosTo(512, member.data.length)]);
  return Buffer.concat([...records, Buffer.alloc(end ? 1024 : 0)]);
}

/** disk.raw in an old GNU sparse archive, its zero pieces of 64 KiB left out. */
export function makeSparseTar(disk: Buffer): Buffer {
  const extents: [number, number][] = [];
  const zero = Buffer.alloc(64 * KiB);
  for (let at = 0; at < disk.length; at += zero.length) {
    const piece = disk.subarray(at, at + zero.length);
    if (piece.equals(zero.subarray(0, piece.length))) continue;
    const last = extents.at(-1);
    if (last && last[0] + last[1] === at) last[1] += piece.length;
    else extents.push([at, piece.length]);
  }
  extents.push([disk.length, 0]);
  const data = Buffer.concat(extents.map(([at, bytes]) => disk.subarray(at, at + bytes)));
  return makeTar([{ type: "S", data, sparse: { bytes: disk.length, extents } }]);
}

function tarHeaders({ name = "disk.raw", type = "0", data, size = data.length, sparse }: TarMember): Buffer[] {
  const header = Buffer.alloc(512);
  header.write(name, 0, "latin1");
  header.write("0000644\0", 100, "latin1");
  header.write("0000000\0".repeat(2), 108, "latin1");
  tarNumber(header, 124, size);
  header.write("00000000000\0", 136, "latin1");
  header.write(type, 156, "latin1");
  header.write("ustar  \0", 257, "latin1");
  const records = [header];
  if (sparse) {
    tarNumber(header, 483, sparse.bytes);
    let left = writeExtents(header, 386, sparse.extents.slice(0, 4), sparse.extents.slice(4));
    if (left.length > 0) header[482] = 1;
    while (left.length > 0) {
      const record = Buffer.alloc(512);
      left = writeExtents(record, 0, left.slice(0, 21), left.slice(21));
      if (left.length > 0) record[504] = 1;
      records.push(record);
    }
  }
  header.fill(" ", 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return records;
}

type Extents = readonly (readonly [number, number])[];

function writeExtents(record: Buffer, from: number, now: Extents, later: Extents): Extents {
  now.forEach(([at, bytes], position) => {
    tarNumber(record, from + position * 24, at);
    tarNumber(record, from + position * 24 + 12, bytes);
  });
  return later;
}

function tarNumber(record: Buffer, at: number, value: number): void {
  if (value < 8 ** 11) record.write(`${value.toString(8).padStart(11, "0")}\0`, at, "latin1");
  else {
    record.writeBigUInt64BE(BigInt(value), at + 4);
    record[at] = 0x80;
  }
}

function zerosTo(multiple: number, bytes: number): Buffer {
  return Buffer.alloc((multiple - (bytes % multiple)) % multiple);
}

/** Writes the file, and describes it as a compose's metadata would. */
export function writeArtifact(path: string, format: string, file: Buffer): DiskArtifact {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, file);
  return { url: path, bytes: file.length, sha256: createHash("sha256").update(file).digest("hex"), format };
}
