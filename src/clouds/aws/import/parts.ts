/**
 * A disk as the parts of an S3 upload: blocks that arrive in any order are gathered into parts, and a part goes out when
 * every block of it is known. S3 joins parts of 5 MiB and more, ten thousand of them at most.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
 */
import { BLOCK_BYTES, type Block, blockCount } from "../../../images/block-source.ts";
import { MiB } from "../../../lib/units.ts";

const MOST_PARTS = 10_000;
/** Large enough that a request's own cost does not count, small enough that a dozen fit into memory. */
const USUAL_PART_BYTES = 8 * MiB;
/** Parts of this size are for disks of more than 80 GiB, up to the most this path takes. */
const MOST_PART_BYTES = 64 * MiB;
/** 625 GiB. EBS direct takes more. */
export const MOST_DISK_BYTES = MOST_PARTS * MOST_PART_BYTES;

/** Bytes of a disk's parts but the last. The same for every attempt at the same disk. */
export function partBytesOf(diskBytes: number): number {
  const least = Math.ceil(diskBytes / MOST_PARTS / MiB) * MiB;
  return Math.max(USUAL_PART_BYTES, least);
}

export interface GatheredPart {
  /** From 1, as S3 counts. */
  readonly number: number;
  readonly firstBlock: number;
  /** Of its blocks that are not all zero, by index. */
  readonly digests: ReadonlyMap<number, Uint8Array>;
  readonly bytes: number;
  /** Undefined: it is all zeros. */
  readonly data: Uint8Array | undefined;
}

interface OpenPart {
  readonly data: Uint8Array;
  readonly digests: Map<number, Uint8Array>;
}

/**
 * Parts that are being filled at a time: a decoder of four lanes fills one for each lane, and holds one open at each seam
 * between two compressed units until both sides are there. With 8 MiB each: 72 MiB.
 */
const MOST_OPEN = 9;

export interface Gatherer {
  /** Takes a block, and gives it back. @returns the part that is whole by it */
  add(block: Block): GatheredPart | undefined;
  /** A block is all zero. @returns the part that is whole by it */
  zero(index: number): GatheredPart | undefined;
  /** The source has ended without an error: what has not been seen is zero. @returns the parts that are whole by that */
  end(): Iterable<GatheredPart>;
  /** Whether blocks were let go for want of memory: they have to be read once more. */
  readonly incomplete: boolean;
}

/** @param wanted parts that are to be gathered; blocks of others are passed over */
export function gatherer(diskBytes: number, wanted: (part: number) => boolean): Gatherer {
  const partBytes = partBytesOf(diskBytes);
  const partBlocks = partBytes / BLOCK_BYTES;
  const blocks = blockCount(diskBytes);
  const parts = Math.ceil(diskBytes / partBytes);
  const open = new Map<number, OpenPart>();
  /** Blocks known of each part: a bit of one means known. */
  const known = new Uint8Array(blocks);
  const missing = Array.from({ length: parts }, (_, part) => Math.min(partBlocks, blocks - part * partBlocks));
  const dropped = new Set<number>();
  const sent = new Set<number>();

  const partOf = (index: number) => Math.floor(index / partBlocks);
  const bytesOf = (part: number) => Math.min(partBytes, diskBytes - part * partBytes);

  function note(index: number): GatheredPart | undefined {
    if (known[index] === 1) return undefined;
    known[index] = 1;
    const part = partOf(index);
    missing[part]!--;
    return missing[part] === 0 ? take(part) : undefined;
  }

  function take(part: number): GatheredPart | undefined {
    if (dropped.has(part) || sent.has(part) || !wanted(part + 1)) return undefined;
    sent.add(part);
    const held = open.get(part);
    open.delete(part);
    return {
      number: part + 1,
      firstBlock: part * partBlocks,
      digests: held?.digests ?? new Map(),
      bytes: bytesOf(part),
      data: held?.data.subarray(0, bytesOf(part)),
    };
  }

  /** The one that was begun first: in a source that goes forward it is the one that would wait for the end. */
  function dropOne(): void {
    const [part] = open.keys();
    if (part === undefined) return;
    open.delete(part);
    dropped.add(part);
  }

  return {
    add(block) {
      try {
        const part = partOf(block.index);
        if (dropped.has(part) || !wanted(part + 1)) return undefined;
        let held = open.get(part);
        if (!held) {
          if (open.size >= MOST_OPEN) dropOne();
          held = { data: new Uint8Array(bytesOf(part)), digests: new Map() };
          open.set(part, held);
        }
        held.data.set(block.data, block.index * BLOCK_BYTES - part * partBytes);
        held.digests.set(block.index, Uint8Array.from(block.sha256));
        return note(block.index);
      } finally {
        block.release();
      }
    },
    zero: note,
    *end() {
      for (let part = 0; part < parts; part++) {
        const whole = take(part);
        if (whole) yield whole;
      }
    },
    get incomplete() {
      return dropped.size > 0;
    },
  };
}
