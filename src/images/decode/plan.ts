import type { Gap } from "../xz-index.ts";
import type { CodecName, Geometry } from "./protocol.ts";

/** How to read one file as a disk: made by `open-disk.ts` out of its format, carried out by `reader.ts`. */
export interface DecodePlan {
  /** For errors. */
  readonly url: string;
  readonly codec: CodecName;
  readonly tar: boolean;
  readonly mode: "blocks" | "count";
  readonly geometry: Geometry;
  /** Where in the file reading begins and ends; all of it, but for a look at the last task alone. */
  readonly start: number;
  readonly end: number;
  /** Lower-case hex of the bytes [start, end); undefined for a look at a part. */
  readonly sha256: string | undefined;
  /** In file order, not overlapping. */
  readonly tasks: readonly DecodeTask[];
  /** The rest of the file, where it was seen while planning: it must be the same when it is read. */
  readonly gaps: readonly Gap[];
  /**
   * What is reported as a compressed unit: each task (tasks stand alone, and are skipped when none of their blocks is
   * wanted), or each span of so many bytes (one task needs them all, nothing is skipped).
   */
  readonly unitBytes: number | "task";
  /** Most memory one decoder touches: the dictionary. */
  readonly decoderBytes: number;
}

export interface DecodeTask {
  /** Compressed bytes [start, end) of the file. */
  readonly start: number;
  readonly end: number;
  /** Decoded bytes [from, to). */
  readonly from: number;
  readonly to: number;
  /** What goes before and after the file's bytes to make them a stream of their own. */
  readonly prefix?: Uint8Array;
  readonly suffix?: Uint8Array;
  /** Where xz blocks begin, from `start` on. */
  readonly blockStarts?: readonly number[];
}
