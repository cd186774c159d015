/**
 * What an .xz file says at its end about the blocks inside: where each begins and how large it becomes. Read with a few
 * ranged reads, nothing decoded. Streams one after another, with zero padding between, are one file.
 * Every size is checked against the file; a number that does not fit is an index that lies.
 * @see https://tukaani.org/xz/xz-file-format.txt
 */
import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import type { CallContext } from "../lib/call.ts";
import { SlipwayError } from "../lib/errors.ts";
import { KiB, MiB } from "../lib/units.ts";
import type { ByteSource } from "./byte-source.ts";

export interface XzIndex {
  /** Decoded bytes of the whole file. */
  readonly bytes: number;
  /** In file order; streams without blocks are left out. */
  readonly streams: readonly XzStream[];
  /** The file's bytes that belong to no block (headers, indexes, padding), in order, as seen while the index was read. */
  readonly gaps: readonly Gap[];
}

export interface XzStream {
  /** The two flag bytes of header and footer: the kind of integrity check. */
  readonly flags: Uint8Array;
  readonly blocks: readonly XzBlock[];
}

export interface XzBlock {
  /** Offset in the file. */
  readonly at: number;
  /** As the index has it; in the file the block is padded to a multiple of four. */
  readonly unpadded: number;
  /** Decoded bytes. */
  readonly bytes: number;
}

export interface Gap {
  readonly start: number;
  readonly end: number;
  readonly sha256: Uint8Array;
}

const HEADER_BYTES = 12;
const HEADER_MAGIC = Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]);
const FOOTER_MAGIC = Buffer.from("YZ", "latin1");
/** One read usually brings a stream's header and all that ends the stream before it. */
const WINDOW = 64 * KiB;
/** Bounds for hostile files. A 64 GiB disk in blocks of 1 MiB has 65,536 records, about 400 KiB of index. */
const MAX_INDEX_BYTES = 16 * MiB;
const MAX_BLOCKS = 1_000_000;
const MAX_STREAMS = 10_000;

export const padded = (bytes: number): number => Math.ceil(bytes / 4) * 4;

/**
 * @param fileBytes size of the file
 * @param maxBytes most decoded bytes to accept
 * @throws SlipwayError `corrupt` (not xz, or an index that does not fit the file), `invalid` (decodes to too much)
 */
export async function readXzIndex(
  source: ByteSource,
  fileBytes: number,
  maxBytes: number,
  call: CallContext,
): Promise<XzIndex> {
  const wrong = (what: string) =>
    new SlipwayError("corrupt", `This is not a whole xz file: ${what}.`, {
      subject: source.url,
      next: "Compare it with `xz --test`; fetch or build it anew.",
    });
  const tooMuch = (what: string) =>
    new SlipwayError("invalid", `The xz file ${what}.`, {
      subject: source.url,
      next: "If the disk is meant to be that large, raise the limit for virtual disk sizes.",
    });

  let window: Buffer = Buffer.alloc(0);
  let windowAt = fileBytes;
  /** The bytes [from, to), from the last window where they are in it. Reading goes backwards, so windows end at `to`. */
  async function bytesAt(from: number, to: number): Promise<Buffer> {
    if (from < 0 || to > fileBytes) throw wrong("it is too short for what its end says");
    if (from < windowAt || to > windowAt + window.length) {
      windowAt = Math.max(0, Math.min(from, to - WINDOW));
      window = await source.read(windowAt, to - windowAt, call);
    }
    return window.subarray(from - windowAt, to - windowAt);
  }

  const streams: XzStream[] = [];
  const gaps: Gap[] = [];
  let bytes = 0;
  let blocksSeen = 0;
  let streamsSeen = 0;
  let end = fileBytes;
  // Of the gap that is being walked through backwards: where it ends, and its pieces, last first.
  let gapEnd = fileBytes;
  let gapPieces: Buffer[] = [];
  const closeGap = (start: number) => {
    const digest = createHash("sha256");
    for (const piece of gapPieces.reverse()) digest.update(piece);
    if (gapEnd > start) gaps.push({ start, end: gapEnd, sha256: digest.digest() });
    gapPieces = [];
  };

  while (end > 0) {
    // Padding: zero words after a stream.
    const word = await bytesAt(end - 4, end);
    if (word.readUInt32LE(0) === 0) {
      if (gapPieces.length > MAX_STREAMS) throw wrong("there is too much padding after a stream");
      gapPieces.push(Buffer.from(word));
      end -= 4;
      continue;
    }
    if (++streamsSeen > MAX_STREAMS) throw tooMuch(`has more than ${MAX_STREAMS} streams`);

    const footer = await bytesAt(end - HEADER_BYTES, end);
    if (!footer.subarray(10).equals(FOOTER_MAGIC)) throw wrong("the mark at its end is missing; it may be cut off");
    if (footer.readUInt32LE(0) !== crc32(footer.subarray(4, 10))) throw wrong("the checksum of its footer is wrong");
    const flags = Uint8Array.from(footer.subarray(8, 10));
    if (flags[0] !== 0 || flags[1]! > 15) throw wrong("its footer has flags from the future");
    const indexBytes = (footer.readUInt32LE(4) + 1) * 4;
    if (indexBytes > MAX_INDEX_BYTES) throw tooMuch(`has an index of ${indexBytes} bytes`);
    const footerCopy = Buffer.from(footer);

    const indexAt = end - HEADER_BYTES - indexBytes;
    const index = Buffer.from(await bytesAt(indexAt, end - HEADER_BYTES));
    const sizes = parseIndex(index, MAX_BLOCKS - blocksSeen, wrong);
    blocksSeen += sizes.length;

    const blocksBytes = sizes.reduce((sum, size) => sum + padded(size.unpadded), 0);
    const streamAt = indexAt - blocksBytes - HEADER_BYTES;
    if (!(streamAt >= 0)) throw wrong("its index names more bytes than the file has");
    bytes += sizes.reduce((sum, size) => sum + size.bytes, 0);
    if (!(bytes <= maxBytes)) throw tooMuch(`decodes to ${bytes} bytes or more, ${maxBytes} are allowed`);

    gapPieces.push(footerCopy, index);
    if (sizes.length > 0) {
      closeGap(indexAt);
      gapEnd = streamAt + HEADER_BYTES;
    }
    const header = Buffer.from(await bytesAt(streamAt, streamAt + HEADER_BYTES));
    if (
      !header.subarray(0, 6).equals(HEADER_MAGIC) ||
      header.readUInt32LE(8) !== crc32(header.subarray(6, 8)) ||
      !header.subarray(6, 8).equals(flags)
    ) {
      throw wrong("its index does not lead to the beginning of the stream");
    }
    gapPieces.push(header);

    const blocks: XzBlock[] = [];
    let at = streamAt + HEADER_BYTES;
    for (const size of sizes) {
      blocks.push({ at, ...size });
      at += padded(size.unpadded);
    }
    if (blocks.length > 0) streams.push({ flags, blocks });
    end = streamAt;
  }
  closeGap(0);
  if (bytes === 0) throw wrong("it is empty");
  return { bytes, streams: streams.reverse(), gaps: gaps.reverse() };
}

function parseIndex(
  index: Buffer,
  maxRecords: number,
  wrong: (what: string) => SlipwayError,
): { unpadded: number; bytes: number }[] {
  const end = index.length - 4;
  if (index.readUInt32LE(end) !== crc32(index.subarray(0, end))) throw wrong("the checksum of its index is wrong");
  let at = 0;
  const number = () => {
    let value = 0;
    for (let shift = 1, length = 1; ; shift *= 128, length++) {
      const byte = at < end ? index[at++]! : undefined;
      // Nine bytes is the format's limit; beyond 2^53 no file of this world is meant.
      if (byte === undefined || length > 9 || (byte === 0 && length > 1)) throw wrong("its index has a broken number");
      value += (byte & 0x7f) * shift;
      if (!Number.isSafeInteger(value)) throw wrong("its index has an absurd number");
      if (byte < 0x80) return value;
    }
  };
  if (index[at++] !== 0) throw wrong("its index does not begin as one");
  const records = number();
  if (records > maxRecords || records * 2 > end) throw wrong(`its index names ${records} blocks`);
  const sizes: { unpadded: number; bytes: number }[] = [];
  for (let n = 0; n < records; n++) {
    const unpadded = number();
    if (unpadded < 5) throw wrong("its index has a block that is too small");
    sizes.push({ unpadded, bytes: number() });
  }
  if (padded(at) !== end || index.subarray(at, end).some((byte) => byte !== 0))
    throw wrong("its index has a broken end");
  return sizes;
}

/**
 * Header, index and footer that make a well-formed stream of some neighbouring blocks, so that any decoder of streams
 * decodes them alone, and checks them against the sizes the file's own index gave.
 */
export function miniStream(flags: Uint8Array, blocks: readonly XzBlock[]): { prefix: Uint8Array; suffix: Uint8Array } {
  const header = Buffer.alloc(HEADER_BYTES);
  HEADER_MAGIC.copy(header);
  header.set(flags, 6);
  header.writeUInt32LE(crc32(header.subarray(6, 8)), 8);

  const body: number[] = [0];
  const number = (value: number) => {
    let rest = value;
    for (; rest >= 128; rest = Math.floor(rest / 128)) body.push((rest % 128) | 0x80);
    body.push(rest);
  };
  number(blocks.length);
  for (const block of blocks) {
    number(block.unpadded);
    number(block.bytes);
  }
  while (body.length % 4 !== 0) body.push(0);
  const suffix = Buffer.alloc(body.length + 4 + HEADER_BYTES);
  suffix.set(body);
  suffix.writeUInt32LE(crc32(suffix.subarray(0, body.length)), body.length);
  const footer = suffix.subarray(body.length + 4);
  footer.writeUInt32LE((body.length + 4) / 4 - 1, 4);
  footer.set(flags, 8);
  FOOTER_MAGIC.copy(footer, 10);
  footer.writeUInt32LE(crc32(footer.subarray(4, 10)), 0);
  return { prefix: Uint8Array.from(header), suffix: Uint8Array.from(suffix) };
}
