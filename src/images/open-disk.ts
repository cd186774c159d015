/**
 * Opens an artifact as a disk: whatever it is packed in, blocks come out, in the format a cloud takes.
 *
 * Here formats become plans: which bytes of the file make which bytes of the disk, and what has to be true at the end.
 * `decode/reader.ts` carries plans out. Knows no cloud: "wants a VHD" is all it is told.
 */
import { createHash } from "node:crypto";
import { availableParallelism } from "node:os";
import type { CallContext } from "../lib/call.ts";
import { SlipwayError } from "../lib/errors.ts";
import { GiB, MiB } from "../lib/units.ts";
import type { Artifact } from "../model.ts";
import { BLOCK_BYTES, type Block, type BlockSource, blockCount, type ReadOptions } from "./block-source.ts";
import { type ByteSource, type ByteSourceOptions, openBytes } from "./byte-source.ts";
import type { DecodePlan, DecodeTask } from "./decode/plan.ts";
import type { CodecName, Geometry } from "./decode/protocol.ts";
import { type Decoded, decode, type ReaderLimits } from "./decode/reader.ts";
import { tarDiskBytes } from "./decode/tar-size.ts";
import { readClusterMap } from "./qcow2/cluster-map.ts";
import { readQcowBlocks } from "./qcow2/read-blocks.ts";
import { buildVhdFooter, checkVhd, VHD_FOOTER_BYTES, vhdPadding } from "./vhd.ts";
import { miniStream, padded, readXzIndex, type XzIndex, type XzStream } from "./xz-index.ts";

export interface OpenDiskOptions {
  readonly wants: "raw" | "vhd";
  /** Formats that are not to be unpacked. */
  readonly keep?: readonly string[] | undefined;
  /** Most virtual bytes to accept; protects against decompression bombs. Default 64 GiB. */
  readonly maxVirtualBytes?: number;
  /** Whoever reads copies each block and gives it back at once: fewer have to be there. */
  readonly copied?: boolean | undefined;
  /** Worker threads. Default: cores, at most 4, fewer where `memory` does not allow them. */
  readonly lanes?: number;
  /** Bytes the whole process may take while reading; a guide for lanes and buffers, not a promise. Default 256 MiB. */
  readonly memory?: number;
  /** Proxy, certificates, redirects. */
  readonly source?: ByteSourceOptions;
}

export type DiskArtifact = Pick<Artifact, "url" | "bytes" | "sha256" | "format">;

const CONTAINERS: Record<string, { codec: CodecName; holds: "raw" | "vhd" | "tar" | "qcow2" }> = {
  raw: { codec: "none", holds: "raw" },
  "raw.xz": { codec: "xz", holds: "raw" },
  "raw.gz": { codec: "gzip", holds: "raw" },
  "raw.zst": { codec: "zstd", holds: "raw" },
  vhd: { codec: "none", holds: "vhd" },
  vhdfixed: { codec: "none", holds: "vhd" },
  "vhd.xz": { codec: "xz", holds: "vhd" },
  "vhdfixed.xz": { codec: "xz", holds: "vhd" },
  "vhd.gz": { codec: "gzip", holds: "vhd" },
  "vhdfixed.gz": { codec: "gzip", holds: "vhd" },
  "tar.gz": { codec: "gzip", holds: "tar" },
  qcow2: { codec: "none", holds: "qcow2" },
};

export const DISK_FORMATS: readonly string[] = Object.keys(CONTAINERS);

/** Compressed bytes whose digest is one entry of a journal, where the format has no blocks of its own. */
const SPAN_BYTES = 16 * MiB;
/** Neighbouring xz blocks are decoded together up to this size, so that tiny ones do not cost a message each. */
const TASK_BYTES = 4 * MiB;
/** What Node, the program and idle workers take. Measured: 70–90 MiB, and 8 MiB a worker. */
const BASE_BYTES = 90 * MiB;
const WORKER_BYTES = 8 * MiB;
/** For a writer that keeps blocks until the other side has them: as many may be on their way. */
const SLOTS = 64;
/** For one that copies them: twenty mebibytes between decoder and writer, more would change nothing. */
const COPIED_SLOTS = 40;
const INPUT_BYTES = 32 * MiB;
/** With one decoder nobody else's bytes have to come first; without any, bytes go through as they come. */
const SEQUENTIAL_INPUT_BYTES = 8 * MiB;
/** And of what is not even decoded, fewer yet for it to find one. */
const UNDECODED_SLOTS = 24;

/**
 * Looks at the artifact and says how large its disk is. Reads the end of the file where that tells the size; a format
 * that does not tell (gzip, zstd, or a server without ranges) is decoded once, only to be measured.
 * @throws SlipwayError `corrupt` (size, index or footer is wrong), `invalid` (too large; a VHD or a size no cloud takes),
 *   `unsupported` (format), and what opening the file may throw
 */
export async function openDisk(
  artifact: DiskArtifact,
  options: OpenDiskOptions,
  call: CallContext,
): Promise<BlockSource> {
  const container = CONTAINERS[artifact.format];
  if (!container) {
    throw new SlipwayError("unsupported", `Disks of format ${JSON.stringify(artifact.format)} cannot be read.`, {
      subject: artifact.url,
      next: `These can: ${DISK_FORMATS.join(", ")}.`,
    });
  }
  if (!/^[0-9a-f]{64}$/.test(artifact.sha256)) {
    throw new SlipwayError("invalid", "The artifact's SHA-256 is not 64 lower-case hex digits.", {
      subject: artifact.url,
    });
  }
  const source = openBytes(artifact.url, options.source);
  try {
    const { bytes, ranged } = await source.stat(call);
    if (bytes !== artifact.bytes) {
      throw new SlipwayError("corrupt", `The file has ${bytes} bytes, the metadata says ${artifact.bytes}.`, {
        subject: source.url,
        next: "It may be cut off or still being written. Fetch or build it anew, or correct the metadata.",
      });
    }
    const opening: Opening = { artifact, source, ranged, options, maxBytes: options.maxVirtualBytes ?? 64 * GiB, call };
    switch (container.holds) {
      case "tar":
        return await openTar(opening);
      case "qcow2":
        return await openQcow(opening);
      default:
        return await openPlain(opening, container.codec, container.holds);
    }
  } catch (error) {
    await source.close();
    throw error;
  }
}

interface Opening {
  readonly artifact: DiskArtifact;
  readonly source: ByteSource;
  readonly ranged: boolean;
  readonly options: OpenDiskOptions;
  readonly maxBytes: number;
  readonly call: CallContext;
}

async function openTar(opening: Opening): Promise<BlockSource> {
  const { source, maxBytes, call } = opening;
  const bytes = await tarDiskBytes(source, call);
  if (bytes > maxBytes) throw tooLarge(source.url, bytes, maxBytes);
  if (opening.options.keep?.includes("tar.gz")) {
    layOut("raw", "raw", bytes, source.url);
    return { ...asStored(opening), packed: { format: "tar.gz", diskBytes: bytes, sha256: opening.artifact.sha256 } };
  }
  const layout = layOut("raw", opening.options.wants, bytes, source.url);
  return diskOf(opening, layout, { ...oneTask(opening, "gzip", layout.geometry, bytes), tar: true });
}

/** The file's own bytes, whatever they are. */
function asStored(opening: Opening): BlockSource {
  const { bytes } = opening.artifact;
  const geometry = { contentEnd: bytes, diskEnd: bytes };
  const layout = { geometry, bytes, footerAfter: undefined, decodedVhdBytes: undefined };
  return diskOf(opening, layout, spanTasks(opening, geometry));
}

async function openQcow(opening: Opening): Promise<BlockSource> {
  const { artifact, source, ranged, options, maxBytes, call } = opening;
  const map = await readClusterMap(source, { bytes: artifact.bytes, ranged }, maxBytes, call);
  const layout = layOut("raw", options.wants, map.header.bytes, source.url);
  const reading = {
    ...{ map, source, fileBytes: artifact.bytes, sha256: artifact.sha256, diskEnd: layout.geometry.diskEnd },
    // No workers and no chunks of input: what those would take is for blocks in the making.
    slots: slotsIn(options.memory),
  };
  return sourceOf(opening, layout, "random", (wanted, read) => readQcowBlocks(reading, wanted, read));
}

async function openPlain(opening: Opening, codec: CodecName, holds: "raw" | "vhd"): Promise<BlockSource> {
  const { artifact, source, options, maxBytes, call, ranged } = opening;
  // A VHD's footer comes on top of the disk's virtual bytes.
  const most = maxBytes + (holds === "vhd" ? VHD_FOOTER_BYTES : 0);
  if (codec === "none") {
    if (artifact.bytes > most) throw tooLarge(source.url, artifact.bytes, maxBytes);
    if (holds === "vhd" && ranged && artifact.bytes > VHD_FOOTER_BYTES) {
      checkVhd(
        await source.read(artifact.bytes - VHD_FOOTER_BYTES, VHD_FOOTER_BYTES, call),
        artifact.bytes,
        source.url,
      );
    }
    const layout = layOut(holds, options.wants, artifact.bytes, source.url);
    return diskOf(opening, layout, spanTasks(opening, layout.geometry));
  }
  if (codec === "xz" && ranged) {
    const index = await readXzIndex(source, artifact.bytes, most, call);
    const layout = layOut(holds, options.wants, index.bytes, source.url);
    const plan = xzTasks(opening, layout.geometry, index);
    if (holds === "vhd" && plan.tasks.length > 1) {
      checkVhd((await lookAtEnd(opening, plan, index.bytes)) ?? Buffer.alloc(0), index.bytes, source.url);
    }
    return diskOf(opening, layout, plan);
  }
  const measured = await measure(opening, codec, most);
  if (holds === "vhd") checkVhd(measured.trailer ?? Buffer.alloc(0), measured.bytes, source.url);
  const layout = layOut(holds, options.wants, measured.bytes, source.url);
  return diskOf(opening, layout, oneTask(opening, codec, layout.geometry, measured.bytes));
}

interface Layout {
  readonly geometry: Geometry;
  /** The disk as its readers see it. */
  readonly bytes: number;
  /** Virtual bytes before a footer that we make. */
  readonly footerAfter: number | undefined;
  /** The last bytes of the decoded file must be a VHD's footer. */
  readonly decodedVhdBytes: number | undefined;
}

/** Where decoded bytes go, and what is added or taken away. */
function layOut(holds: "raw" | "vhd", wants: "raw" | "vhd", decoded: number, url: string): Layout {
  const content = holds === "vhd" ? decoded - VHD_FOOTER_BYTES : decoded;
  if (content <= 0 || content % 512 !== 0) {
    throw new SlipwayError("invalid", `The disk has ${content} bytes, which is no whole number of sectors.`, {
      subject: url,
      next: "A disk is a whole number of 512-byte sectors. The file may be cut off; build it anew.",
    });
  }
  if (holds === "vhd") {
    const end = wants === "vhd" ? decoded : content;
    return {
      geometry: { contentEnd: end, diskEnd: end, trailerAt: content },
      ...{ bytes: end, footerAfter: undefined, decodedVhdBytes: decoded },
    };
  }
  if (wants === "raw") {
    return {
      geometry: { contentEnd: content, diskEnd: content },
      ...{ bytes: content, footerAfter: undefined, decodedVhdBytes: undefined },
    };
  }
  const virtual = content + vhdPadding(content);
  return {
    geometry: { contentEnd: content, diskEnd: virtual },
    ...{ bytes: virtual + VHD_FOOTER_BYTES, footerAfter: virtual, decodedVhdBytes: undefined },
  };
}

function planOf(opening: Opening, codec: CodecName, geometry: Geometry): Omit<DecodePlan, "tasks"> {
  const { source, artifact } = opening;
  return {
    ...{ url: source.url, codec, tar: false, mode: "blocks", geometry, start: 0, end: artifact.bytes },
    ...{ sha256: artifact.sha256, gaps: [], unitBytes: SPAN_BYTES, decoderBytes: 0 },
  };
}

/** gzip, zstd, and xz where its index cannot be read: all or nothing. */
function oneTask(opening: Opening, codec: CodecName, geometry: Geometry, decoded: number): DecodePlan {
  const task = { start: 0, end: opening.artifact.bytes, from: 0, to: decoded };
  // The first xz block follows the stream's header: its dictionary is judged before it is decoded.
  return {
    ...planOf(opening, codec, geometry),
    tasks: [codec === "xz" ? { ...task, blockStarts: [12] } : task],
  };
}

/** Uncompressed: any span stands alone. */
function spanTasks(opening: Opening, geometry: Geometry): DecodePlan {
  const { bytes } = opening.artifact;
  const tasks: DecodeTask[] = [];
  for (let start = 0; start < bytes; start += SPAN_BYTES) {
    const end = Math.min(start + SPAN_BYTES, bytes);
    tasks.push({ start, end, from: start, to: end });
  }
  return { ...planOf(opening, "none", geometry), tasks, unitBytes: "task" };
}

function xzTasks(opening: Opening, geometry: Geometry, index: XzIndex): DecodePlan {
  const tasks: DecodeTask[] = [];
  let from = 0;
  let largest = 0;
  for (const { flags, blocks } of index.streams) {
    let group: XzStream["blocks"][number][] = [];
    let to = from;
    blocks.forEach((block, position) => {
      group.push(block);
      to += block.bytes;
      largest = Math.max(largest, block.bytes);
      const packed = block.at + padded(block.unpadded) - group[0]!.at;
      if (to - from < TASK_BYTES && packed < TASK_BYTES && position < blocks.length - 1) return;
      const start = group[0]!.at;
      const blockStarts = group.map(({ at }) => at - start);
      tasks.push({ start, end: start + packed, from, to, blockStarts, ...miniStream(flags, group) });
      group = [];
      from = to;
    });
  }
  return {
    ...planOf(opening, "xz", geometry),
    ...{ tasks, gaps: index.gaps, unitBytes: "task", decoderBytes: Math.min(largest, 64 * MiB) },
  };
}

/** Decodes what holds the last 512 bytes, so that a wrong VHD is refused before a block of it goes anywhere. */
async function lookAtEnd(opening: Opening, plan: DecodePlan, decoded: number): Promise<Buffer | undefined> {
  const first = plan.tasks.findIndex(({ to }) => to > decoded - VHD_FOOTER_BYTES);
  const start = plan.tasks[first]!.start;
  const end = plan.tasks.at(-1)!.end;
  const part: DecodePlan = {
    ...plan,
    ...{ start, end, sha256: undefined, tasks: plan.tasks.slice(first) },
    gaps: plan.gaps.filter((gap) => gap.start >= start && gap.end <= end),
  };
  const result: Decoded = { trailer: undefined, bytes: 0 };
  await drain(decode(part, opening.source, limitsOf(part, opening.options), noBlocks(decoded), opening.call, result));
  return result.trailer;
}

async function measure(opening: Opening, codec: CodecName, most: number): Promise<Decoded> {
  const geometry: Geometry = { contentEnd: most, diskEnd: most };
  const plan: DecodePlan = { ...oneTask(opening, codec, geometry, most), mode: "count" };
  const result: Decoded = { trailer: undefined, bytes: 0 };
  await drain(decode(plan, opening.source, limitsOf(plan, opening.options), noBlocks(0), opening.call, result));
  return result;
}

const noBlocks = (bytes: number) => new Uint8Array(blockCount(bytes));

async function drain(blocks: AsyncIterable<Block>): Promise<void> {
  for await (const block of blocks) block.release();
}

function slotsIn(memory = 256 * MiB): number {
  return Math.max(8, Math.min(SLOTS, Math.floor(memory / 8 / BLOCK_BYTES)));
}

/** Fits threads and buffers into the memory that is allowed; two lanes are kept even where one would be safer. */
function limitsOf(plan: DecodePlan, { lanes, memory = 256 * MiB, copied }: OpenDiskOptions): ReaderLimits {
  const cores = Math.min(availableParallelism(), 4);
  const decodes = plan.codec !== "none";
  const ofCopied = decodes ? COPIED_SLOTS : UNDECODED_SLOTS;
  const wanted = copied ? ofCopied : SLOTS;
  const slots = Math.min(wanted, slotsIn(memory));
  const most = plan.tasks.length > 1 && decodes ? INPUT_BYTES : SEQUENTIAL_INPUT_BYTES;
  const inputBytes = Math.min(most, Math.floor(memory / 8), plan.end - plan.start + MiB);
  const left = memory - BASE_BYTES - slots * BLOCK_BYTES - inputBytes;
  const affordable = Math.max(2, Math.floor(left / (plan.decoderBytes + WORKER_BYTES)));
  return { lanes: Math.max(1, Math.min(lanes ?? cores, affordable, plan.tasks.length)), slots, inputBytes };
}

function diskOf(opening: Opening, layout: Layout, plan: DecodePlan): BlockSource {
  const { source, options } = opening;
  const limits = limitsOf(plan, options);
  const access = plan.tasks.length > 1 || plan.codec === "none" ? "random" : "sequential";
  return sourceOf(opening, layout, access, async function* (wanted, readOptions) {
    const result: Decoded = { trailer: undefined, bytes: 0 };
    yield* decode(plan, source, limits, wanted, readOptions, result);
    if (result.trailer && layout.decodedVhdBytes !== undefined) {
      checkVhd(result.trailer, layout.decodedVhdBytes, source.url);
    }
  });
}

/** What is the same for every format: who is asked what is wanted, and the footer that comes after the content. */
function sourceOf(
  { source, artifact }: Opening,
  layout: Layout,
  access: BlockSource["access"],
  content: (wanted: Uint8Array, options: ReadOptions) => AsyncGenerator<Block>,
): BlockSource {
  const closed = new AbortController();

  async function* read(readOptions: ReadOptions): AsyncGenerator<Block> {
    const signal = AbortSignal.any([readOptions.signal, closed.signal]);
    const isWanted = readOptions.wanted ?? (() => true);
    // Asked once: the answer may change while blocks are acknowledged, and both halves of a block must agree.
    const wanted = Uint8Array.from({ length: blockCount(layout.bytes) }, (_, index) => (isWanted(index) ? 1 : 0));
    yield* content(wanted, { ...readOptions, signal });
    if (layout.footerAfter === undefined) return;

    const index = layout.footerAfter / BLOCK_BYTES;
    for (let padding = blockCount(layout.geometry.contentEnd); padding < index; padding++) {
      if (wanted[padding]) readOptions.onZero?.(padding);
    }
    if (!wanted[index]) return;
    const data = buildVhdFooter(layout.footerAfter, Buffer.from(artifact.sha256.slice(0, 32), "hex"));
    yield { index, data, sha256: createHash("sha256").update(data).digest(), release() {} };
  }

  return {
    ...{ bytes: layout.bytes, access, read },
    async close() {
      closed.abort();
      await source.close();
    },
  };
}

function tooLarge(url: string, bytes: number, most: number): SlipwayError {
  return new SlipwayError("invalid", `The disk has ${bytes} bytes; ${most} are allowed.`, {
    subject: url,
    next: "If it is meant to be that large, raise the limit for virtual disk sizes.",
  });
}
