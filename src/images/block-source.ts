import type { CallContext } from "../lib/call.ts";

/**
 * A disk image as numbered blocks: the one thing a cloud driver reads.
 *
 * Not a forward stream, because StartSnapshot, page blobs and tar want the size first, because resuming must not
 * decode what is already sent, and because writers take blocks in any order and at their own pace. Knows no cloud.
 */
export interface BlockSource {
  /** Virtual bytes of the disk: what a VM would see; for a VHD the file with its footer. > 0. */
  readonly bytes: number;
  /** `random`: what is not needed is not decoded. `sequential`: everything is decoded, in order (gz, one-block xz). */
  readonly access: "random" | "sequential";
  /**
   * Set if the blocks are those of the artifact as it is stored: nothing is unpacked, `bytes` is the file's size. What
   * the archive holds is not looked at beyond its header; whoever commits it reads it back and unpacks it first.
   */
  readonly packed?: Packed;
  /**
   * Decodes, and yields every block that is wanted and not all zero, at most once each, in any order.
   * Zero blocks are not yielded: `blockCount(bytes)` and what was yielded tell the reader which those are.
   *
   * Reading to the end checks the artifact: its bytes, its SHA-256, its container and compression format. Only a read
   * that ended without an error means "these are the right bytes"; a writer commits nothing before.
   * May be called again; never twice at the same time.
   * @throws SlipwayError `corrupt` (wrong bytes), `unavailable` (source unreachable after its own attempts), `cancelled`
   */
  read(options: ReadOptions): AsyncIterable<Block>;
  /** Frees workers and connections. Safe to repeat. */
  close(): Promise<void>;
}

/**
 * Bytes in a block: EBS direct's fixed size, and a whole fraction of the 4 MiB an Azure page write may hold.
 * The last block of a disk may be shorter.
 * @see https://docs.aws.amazon.com/ebs/latest/userguide/ebs-accessing-snapshot.html
 */
export const BLOCK_BYTES = 512 * 1024;

export interface Packed {
  readonly format: "tar.gz";
  /** Virtual bytes of the disk in it, as its header says. */
  readonly diskBytes: number;
  /** Of the whole file, lower-case hex. */
  readonly sha256: string;
}

/** What a VM will see of it. For a VHD: with its footer. */
export function virtualBytes({ bytes, packed }: Pick<BlockSource, "bytes" | "packed">): number {
  return packed?.diskBytes ?? bytes;
}

export function blockCount(bytes: number): number {
  return Math.ceil(bytes / BLOCK_BYTES);
}

export interface Block {
  /** Position: byte offset / BLOCK_BYTES. */
  readonly index: number;
  /** 1 … BLOCK_BYTES bytes, never all zero. Valid until `release()`: the memory is used again afterwards. */
  readonly data: Uint8Array;
  /** SHA-256 of `data`, 32 bytes. For a short last block: of the short data. */
  readonly sha256: Uint8Array;
  /** Gives the slot back. Every block must be released, once; too many unreleased blocks stop the decoder. */
  release(): void;
}

export interface ReadOptions extends CallContext {
  /** Blocks for which this is false are not yielded, and not decoded where access is `random`. Default: all wanted. */
  readonly wanted?: (index: number) => boolean;
  /**
   * Digests of compressed units that an earlier, interrupted read reported. A unit that is skipped because none of its
   * blocks is wanted is still fetched and hashed; if its digest is not the one recorded, the source has changed between
   * the attempts and the read fails with `corrupt`, because blocks sent earlier came from other bytes.
   */
  readonly knownUnits?: ReadonlyMap<number, Uint8Array>;
  /** Called when all wanted blocks of a compressed unit have been yielded, with the SHA-256 of its compressed bytes. */
  readonly onUnit?: (unit: number, sha256: Uint8Array) => void;
  /**
   * Called for wanted blocks as soon as they are known to be all zero, so that a cloud that needs zeros written need not
   * wait for the end. A hint: a source may say it for some blocks or for none.
   */
  readonly onZero?: (index: number) => void;
  /** Called now and then with how far reading is, in compressed bytes of the artifact. */
  readonly onProgress?: (progress: ReadProgress) => void;
}

export interface ReadProgress {
  readonly bytesRead: number;
  readonly bytesTotal: number;
}
