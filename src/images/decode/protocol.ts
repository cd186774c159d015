/**
 * What the reading thread and its workers say to each other, and the memory they share. Numbers and small objects go
 * through messages, bytes never: compressed bytes lie in input chunks, decoded blocks in slots.
 */
import type { ErrorCode } from "../../lib/errors.ts";
import { KiB } from "../../lib/units.ts";
import { BLOCK_BYTES } from "../block-source.ts";

export type CodecName = "none" | "xz" | "gzip" | "zstd";

/** Where a decoded byte belongs. All in bytes of the decoded file, except `diskEnd`, in bytes of the disk. */
export interface Geometry {
  /** Decoded bytes before this are the disk's. */
  readonly contentEnd: number;
  /** End of the disk's last block: `contentEnd`, or more where zeros pad the disk. */
  readonly diskEnd: number;
  /** From here on decoded bytes are also handed over as the trailer (a VHD's footer). */
  readonly trailerAt?: number;
}

export interface WorkerSetup {
  readonly codec: CodecName;
  /** The decoded bytes are a tar archive that holds the disk. */
  readonly tar: boolean;
  /** `count` decodes only to learn how much there is. */
  readonly mode: "blocks" | "count";
  readonly geometry: Geometry;
  readonly memory: SharedMemory;
  /** For errors. */
  readonly url: string;
}

export interface SharedMemory {
  /** Int32: [STOP, RELEASES, BUSY, state of slot 0, of slot 1 …]. */
  readonly control: SharedArrayBuffer;
  readonly slots: SharedArrayBuffer;
  /** 32 bytes a slot: SHA-256 of the block in it. */
  readonly digests: SharedArrayBuffer;
  readonly inputs: SharedArrayBuffer;
  readonly slotCount: number;
}

/** 1: workers shall do nothing more. */
export const STOP = 0;
/** Counts releases, so that a worker can wait for one. */
export const RELEASES = 1;
/** Workers inside a handler, and so perhaps inside liblzma: ending a thread there aborts the whole process. */
export const BUSY = 2;
export const FIRST_SLOT = 3;
/** Small enough to start decoding early, large enough that messages do not count. */
export const CHUNK_BYTES = 256 * KiB;

export function shareMemory(slotCount: number, chunkCount: number): SharedMemory {
  return {
    control: new SharedArrayBuffer(4 * (FIRST_SLOT + slotCount)),
    slots: new SharedArrayBuffer(slotCount * BLOCK_BYTES),
    digests: new SharedArrayBuffer(slotCount * 32),
    inputs: new SharedArrayBuffer(chunkCount * CHUNK_BYTES),
    slotCount,
  };
}

export type ToWorker =
  | {
      readonly type: "task";
      /** Decoded bytes this task begins at and must end at. */
      readonly from: number;
      readonly to: number;
      /** One byte a block, from block ⌊from / BLOCK_BYTES⌋ on: 0 = decode past it. */
      readonly wanted: Uint8Array;
      readonly prefix?: Uint8Array;
      readonly suffix?: Uint8Array;
      /** Offsets, in compressed bytes of the task, at which xz blocks begin. */
      readonly blockStarts?: readonly number[];
    }
  | { readonly type: "chunk"; readonly chunk: number; readonly bytes: number }
  | { readonly type: "end" };

export type FromWorker =
  | { readonly type: "block"; readonly block: number; readonly slot: number; readonly bytes: number }
  | { readonly type: "zero"; readonly block: number }
  /** Part of a block that another task completes; `slot` −1 = all zero. The slot is laid out like the block. */
  | {
      readonly type: "piece";
      readonly block: number;
      readonly slot: number;
      readonly at: number;
      readonly bytes: number;
    }
  | { readonly type: "eaten"; readonly chunk: number; readonly bytes: number }
  | { readonly type: "trailer"; readonly at: number; readonly bytes: Uint8Array }
  | { readonly type: "done"; readonly decoded: number }
  | { readonly type: "error"; readonly code: ErrorCode; readonly message: string; readonly next?: string };
