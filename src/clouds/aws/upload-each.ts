/**
 * One disk into many regions side by side: decoded once, hashed once, each region with its own snapshot, journal,
 * window and pace. No region waits for another: one that is slow, unknown or dead is left behind and caught up by a
 * second read, or reported.
 */
import type { BlockSource } from "../../images/block-source.ts";
import { catchingUp, shareDisk } from "../../images/shared-source.ts";
import { reportOf, SlipwayError } from "../../lib/errors.ts";
import { seconds } from "../../lib/units.ts";
import type { ImageSpec, Region } from "../../model.ts";
import type { JournalOf, StagedOutcome, UploadContext, UploadProgress } from "../cloud.ts";
import type { Account } from "./account.ts";
import { type UploadOptions, upload } from "./upload.ts";
import { asCompleted } from "./waiting.ts";

/**
 * A region is behind when it holds 24 blocks and half of the others hold 6 or fewer: four times as slow as they are. The
 * decoder hands out 64 before it waits. Five seconds of that is no hiccup; catching up costs one more decode.
 */
const PACE = { behindBlocks: 24, patienceMs: seconds(5) } as const;

export async function* uploadEach(
  account: Account,
  disk: BlockSource,
  spec: ImageSpec,
  regions: readonly Region[],
  journalOf: JournalOf,
  options: UploadOptions & { readonly patienceMs?: number | undefined },
  call: UploadContext,
): AsyncGenerator<StagedOutcome> {
  const readers = shareDisk(disk, regions.length, { ...PACE, patienceMs: options.patienceMs ?? PACE.patienceMs });
  const told = sumOf(disk.bytes, regions.length, call);
  const outcomes = asCompleted([...regions.keys()], regions.length, async (position): Promise<StagedOutcome> => {
    const region = regions[position]!;
    const reader = readers[position]!;
    try {
      await using journal = await journalOf(region);
      const here = { ...call, onProgress: (progress: UploadProgress) => told(position, progress) };
      const there = { ...spec, homeRegion: region };
      const staged = await catchingUp(() => upload(account, reader, there, journal, options, here));
      return { region, staged };
    } catch (error) {
      return { region, error: reportOf(error) };
    } finally {
      await reader.close();
    }
  });
  for await (const outcome of outcomes) {
    if (call.signal.aborted) throw new SlipwayError("cancelled", "The upload was stopped; it resumes where it was.");
    yield outcome;
  }
}

/** Progress of all regions together. */
function sumOf(bytes: number, regions: number, call: UploadContext) {
  const latest = Array.from({ length: regions }, () => ({ doneBytes: 0, sentBytes: 0 }));
  /** What was sent by a read that was left behind counts too. */
  const before = Array.from({ length: regions }, () => 0);
  return (position: number, progress: UploadProgress): void => {
    if (progress.sentBytes < latest[position]!.sentBytes) before[position]! += latest[position]!.sentBytes;
    latest[position] = progress;
    call.onProgress?.({
      doneBytes: latest.reduce((sum, { doneBytes }) => sum + doneBytes, 0),
      totalBytes: bytes * regions,
      sentBytes: latest.reduce((sum, { sentBytes }, index) => sum + sentBytes + before[index]!, 0),
    });
  };
}
