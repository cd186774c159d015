/**
 * One gzip member made of pieces that know nothing of each other, so that they can be made at one time, in any order,
 * by different processes, and be joined where they lie.
 *
 * A piece is deflated for itself and ends on a byte (an empty stored block, zlib's sync flush). Pieces refer to nothing
 * before them: the first 32 KiB of each find no match in their predecessor, which costs less than 1 % at 512 KiB and is
 * why an interrupted upload need not decode what it has sent. zlib runs in Node's thread pool, one thread a piece.
 * @see https://www.rfc-editor.org/rfc/rfc1952
 */
import { promisify } from "node:util";
import { constants, crc32, deflateRaw } from "node:zlib";
import { joinCrc } from "./crc.ts";

export interface GzipPiece {
  /** Whole bytes of a deflate stream, not its last. */
  readonly deflated: Uint8Array;
  readonly sum: GzipSum;
}

/** What the member's trailer needs to know of bytes. */
export interface GzipSum {
  readonly crc32: number;
  readonly bytes: number;
}

/** The archive lives for an hour, in one bucket. Measured on a program of 64 MiB: 3 takes half the time of 6 and adds 5 %. */
const LEVEL = 3;

const deflate = promisify<Uint8Array, { level: number; finishFlush: number }, Buffer>(deflateRaw);

export async function gzipPiece(data: Uint8Array): Promise<GzipPiece> {
  const deflated = await deflate(data, { level: LEVEL, finishFlush: constants.Z_SYNC_FLUSH });
  return { deflated, sum: sumOf(data) };
}

/** Begins the member: its header and a first piece. No time and no name in it. */
export async function gzipHead(data: Uint8Array): Promise<GzipPiece> {
  const { deflated, sum } = await gzipPiece(data);
  return { deflated: Buffer.concat([HEADER, deflated]), sum };
}

/** Ends the member: a last piece and the trailer. `before` is the sum of all that stands before it. */
export async function gzipTail(data: Uint8Array, before: GzipSum): Promise<Uint8Array> {
  const deflated = await deflate(data, { level: LEVEL, finishFlush: constants.Z_FINISH });
  const { crc32: crc, bytes } = joinSums(before, sumOf(data));
  const trailer = Buffer.alloc(8);
  trailer.writeUInt32LE(crc, 0);
  trailer.writeUInt32LE(bytes % 2 ** 32, 4);
  return Buffer.concat([deflated, trailer]);
}

export function sumOf(data: Uint8Array): GzipSum {
  return { crc32: crc32(data), bytes: data.length };
}

export function joinSums(a: GzipSum, b: GzipSum): GzipSum {
  return { crc32: joinCrc("crc32", a.crc32, b.crc32, b.bytes), bytes: a.bytes + b.bytes };
}

/** Deflate, no flags, no time, no word about the level, Unix. */
const HEADER = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
