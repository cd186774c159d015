/** Parts of a file that are looked at before it is read as a whole: fetched together, remembered by their digests. */
import { hash } from "node:crypto";
import type { CallContext } from "../../lib/call.ts";
import { KiB, MiB } from "../../lib/units.ts";
import type { ByteSource } from "../byte-source.ts";

/** A part that was looked at. When the whole file is read, it must still be what it was. */
export interface SeenRegion {
  readonly at: number;
  readonly end: number;
  readonly sha256: Uint8Array;
}

/** Regions this close are fetched in one request: a round trip costs more than so many bytes. */
const NEAR_BYTES = 64 * KiB;
const REQUEST_BYTES = 4 * MiB;

/**
 * Regions of the same length, in file order, each handed over as it comes; `data` is only good during the call.
 * From a server without ranges the file is fetched once up to the last of them.
 * @param starts ascending
 */
export async function readRegions(
  source: ByteSource,
  ranged: boolean,
  starts: readonly number[],
  length: number,
  call: CallContext,
  take: (start: number, data: Buffer) => void,
): Promise<SeenRegion[]> {
  const seen: SeenRegion[] = [];
  const told = (at: number, data: Buffer) => {
    take(at, data);
    seen.push({ at, end: at + length, sha256: hash("sha256", data, "buffer") });
  };
  if (starts.length === 0) return seen;
  if (!ranged) {
    await pickFrom(source, starts, length, call, told);
    return seen;
  }
  for (let first = 0; first < starts.length; ) {
    const from = starts[first]!;
    let next = first + 1;
    while (
      next < starts.length &&
      starts[next]! - (starts[next - 1]! + length) <= NEAR_BYTES &&
      starts[next]! + length - from <= REQUEST_BYTES
    ) {
      next++;
    }
    const data = await source.read(from, starts[next - 1]! + length - from, call);
    for (; first < next; first++)
      told(starts[first]!, data.subarray(starts[first]! - from, starts[first]! - from + length));
  }
  return seen;
}

async function pickFrom(
  source: ByteSource,
  starts: readonly number[],
  length: number,
  call: CallContext,
  told: (at: number, data: Buffer) => void,
): Promise<void> {
  const region = Buffer.alloc(length);
  let next = 0;
  let pos = 0;
  for await (const chunk of source.stream(0, call, starts.at(-1)! + length)) {
    while (next < starts.length && starts[next]! < pos + chunk.length) {
      const start = starts[next]!;
      chunk.copy(region, Math.max(0, pos - start), Math.max(0, start - pos));
      if (start + length > pos + chunk.length) break;
      told(start, region);
      next++;
    }
    pos += chunk.length;
  }
}
