/** Parts of an archive by their names: a name says which blocks a part holds and what gzip's trailer must know of them. */
import type { GzipSum } from "../../images/encode/gzip-pieces.ts";
import type { BucketObject } from "./objects.ts";

export interface Part {
  readonly first: number;
  readonly count: number;
  /** Of the blocks' bytes, not of the object's. */
  readonly sum: GzipSum;
  readonly object: Pick<BucketObject, "name" | "bytes" | "crc32c">;
}

export function partName(first: number, count: number, { crc32, bytes }: GzipSum): string {
  return `blocks-${first}-${count}-${bytes}-${crc32.toString(16).padStart(8, "0")}`;
}

/** @returns undefined for an object that is no part */
export function partOf(object: BucketObject): Part | undefined {
  const read = /\/blocks-(\d+)-(\d+)-(\d+)-([0-9a-f]{8})$/.exec(object.name);
  if (!read) return undefined;
  const [, first, count, bytes, crc] = read;
  return {
    first: Number(first),
    count: Number(count),
    sum: { bytes: Number(bytes), crc32: Number.parseInt(crc!, 16) },
    object,
  };
}

/**
 * Chooses parts that together hold each acknowledged block exactly once and no other, in the disk's order. Parts may
 * overlap: what was under way when a process died may arrive after another one has sent the same blocks otherwise.
 * @returns undefined when no choice does
 */
export function coverOf(parts: readonly Part[], acked: (index: number) => boolean, blocks: number): Part[] | undefined {
  const byFirst = Map.groupBy(parts, (part) => part.first);
  const isWhole = (part: Part) => Array.from({ length: part.count }, (_, at) => part.first + at).every(acked);
  // From the end: whether the rest of the disk can be held, and by which part first.
  const holds = new Uint8Array(blocks + 1);
  holds[blocks] = 1;
  const chosen = new Map<number, Part>();
  for (let index = blocks - 1; index >= 0; index--) {
    if (!acked(index)) {
      holds[index] = holds[index + 1]!;
      continue;
    }
    const part = byFirst.get(index)?.find((one) => holds[one.first + one.count] === 1 && isWhole(one));
    if (!part) continue;
    chosen.set(index, part);
    holds[index] = 1;
  }
  if (holds[0] !== 1) return undefined;
  const cover: Part[] = [];
  for (let index = 0; index < blocks; ) {
    const part = acked(index) ? chosen.get(index) : undefined;
    if (part) cover.push(part);
    index += part?.count ?? 1;
  }
  return cover;
}
