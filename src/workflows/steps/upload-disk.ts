import { openTransferJournal } from "../../catalog/transfers.ts";
import type { Cloud, DiskRequirements, StagedOutcome, UploadContext } from "../../clouds/cloud.ts";
import { CloudError } from "../../clouds/errors.ts";
import { defineStep } from "../../durable/index.ts";
import { type BlockSource, virtualBytes } from "../../images/block-source.ts";
import { openDisk } from "../../images/open-disk.ts";
import { shareDisk } from "../../images/shared-source.ts";
import { errorFrom, isTransient, reportOf, SlipwayError } from "../../lib/errors.ts";
import { hours } from "../../lib/units.ts";
import type { Artifact, ErrorLike, ImageSpec, Region, StagedDisk } from "../../model.ts";
import { cloudRetry } from "../policies.ts";
import type { Ctx } from "../services.ts";
import { transferId } from "../specs.ts";

export interface UploadInput {
  readonly artifact: Artifact;
  readonly uploads: readonly UploadWanted[];
}

export interface UploadWanted {
  readonly target: string;
  readonly spec: ImageSpec;
  /** Set if each of these regions is to be written from the source; else only the home region is. */
  readonly direct?: readonly Region[];
}

export type Uploaded =
  | {
      readonly target: string;
      /** In the home region; absent if that was not to be written. */
      readonly staged?: StagedDisk;
      /** What became of the other regions that were to be written from the source. */
      readonly others?: readonly StagedOutcome[];
      readonly sentBytes: number;
    }
  | { readonly target: string; readonly error: ErrorLike };

/** One target's end, with what was thrown or would have been: it decides whether another attempt is worth it. */
type Ended = Uploaded & { readonly failure?: unknown };

/**
 * Streams one artifact to every target of one cloud that wants it, and to every region of those that want it directly:
 * decoded and hashed once, no temporary file.
 *
 * Safe to repeat: each journal says what was acknowledged, a staged disk that is complete is found again.
 * One target's or region's failure is an outcome; the attempt fails, and is repeated, only while one has a chance to
 * recover. Progress: `{doneBytes, totalBytes, sentBytes, rssBytes}` over all targets.
 */
export const uploadDiskStep = defineStep({
  name: "upload-disk",
  retry: cloudRetry,
  timeoutMs: hours(6),
  async run(ctx: Ctx, input: UploadInput): Promise<Uploaded[]> {
    const targets = input.uploads.map(({ target }) => target);
    return ctx.services.targets.uploading(targets, ctx, () => uploadAll(ctx, input));
  },
});

async function uploadAll(ctx: Ctx, input: UploadInput): Promise<Uploaded[]> {
  const { services } = ctx;
  const { artifact } = input;
  const clouds = await Promise.all(input.uploads.map((upload) => services.targets.cloud(upload.target, ctx)));
  const accepts = clouds[0]!.accepts;
  const started = Date.now();
  const disk = await openDisk(
    artifact,
    {
      wants: accepts.format,
      keep: accepts.keeps,
      copied: clouds.every((cloud) => cloud.accepts.copies),
      maxVirtualBytes: Math.min(services.maxDiskBytes, accepts.maxBytes),
      source: services.sources,
    },
    ctx,
  );
  try {
    checkSize(virtualBytes(disk), accepts, artifact);
    const readers = shareDisk(disk, input.uploads.length);
    const meter = progressMeter(disk.bytes, input.uploads.length, ctx.progress);
    const results = await Promise.all(
      input.uploads.map(async (wanted, position): Promise<Ended> => {
        const reader = readers[position]!;
        const { target } = wanted;
        try {
          const spec = { ...wanted.spec, diskBytes: virtualBytes(disk) };
          const ended = await toTarget(
            ctx,
            clouds[position]!,
            reader,
            { ...wanted, spec },
            {
              signal: ctx.signal,
              log: ctx.log,
              onProgress: (progress) => meter.tell(position, progress),
            },
          );
          return { ...ended, target, sentBytes: meter.sent(position) };
        } catch (error) {
          return { target, error: reportOf(error), failure: error };
        } finally {
          await reader.close();
        }
      }),
    );
    ctx.signal.throwIfAborted();
    ctx.log.info("disk uploaded", {
      artifact: artifact.path,
      virtualBytes: virtualBytes(disk),
      sentBytes: meter.total(),
      seconds: (Date.now() - started) / 1000,
      peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
    });
    const again = results.find((result) => result.failure !== undefined && isTransient(result.failure));
    if (again !== undefined && !ctx.last) throw again.failure;
    return results.map(({ failure: _, ...result }) => result as Uploaded);
  } finally {
    await disk.close();
  }
}

async function toTarget(
  ctx: Ctx,
  cloud: Cloud,
  disk: BlockSource,
  { target, spec, direct }: UploadWanted,
  call: UploadContext,
): Promise<{ staged?: StagedDisk; others?: StagedOutcome[]; failure?: unknown }> {
  const journalOf = (region: Region) => openTransferJournal(ctx.services.db, transferId(target, spec, region));
  if (direct === undefined) {
    await using journal = await journalOf(spec.homeRegion);
    return { staged: await cloud.upload(disk, spec, journal, call) };
  }
  if (cloud.uploadEach === undefined) {
    throw new CloudError("unsupported", "its regions cannot be written from the source", {
      cloud: cloud.name,
      operation: "upload",
      subject: `targets.${target}.replicate`,
      next: "Use `replicate: copy`.",
    });
  }
  const ended: StagedOutcome[] = [];
  for await (const outcome of cloud.uploadEach(disk, spec, direct, journalOf, call)) ended.push(outcome);
  ended.sort((a, b) => direct.indexOf(a.region) - direct.indexOf(b.region));
  const home = ended.find(({ region }) => region === spec.homeRegion);
  const others = ended.filter((outcome) => outcome !== home);
  const failed = ended.flatMap((outcome) => ("error" in outcome ? errorFrom(outcome.error) : []));
  const failure = failed.find(isTransient);
  // Without the home region there is no image to speak of.
  if (home && "error" in home) throw errorFrom(home.error);
  return { ...(home ? { staged: home.staged } : {}), others, ...(failure ? { failure } : {}) };
}

function checkSize(bytes: number, accepts: DiskRequirements, artifact: Artifact): void {
  const footer = accepts.format === "vhd" ? 512 : 0;
  if ((bytes - footer) % accepts.sizeMultiple === 0 && bytes <= accepts.maxBytes) return;
  throw new SlipwayError("invalid", `the disk has ${bytes - footer} bytes, which the cloud does not take`, {
    subject: artifact.url,
    next: `It takes whole multiples of ${accepts.sizeMultiple} bytes up to ${accepts.maxBytes}. Build the image anew.`,
  });
}

interface Amount {
  doneBytes: number;
  totalBytes: number;
  sentBytes: number;
}

/** Adds the targets up. Throttling is the engine's: it writes at most twice a second. */
function progressMeter(bytes: number, targets: number, tell: (value: { [key: string]: number }) => void) {
  const amounts: Amount[] = Array.from({ length: targets }, () => ({ doneBytes: 0, totalBytes: bytes, sentBytes: 0 }));
  const sum = (field: keyof Amount) => amounts.reduce((total, amount) => total + amount[field], 0);
  return {
    tell(position: number, amount: Amount) {
      // The word that a disk is complete says nothing of how it came there.
      amounts[position] = { ...amount, sentBytes: Math.max(amounts[position]!.sentBytes, amount.sentBytes) };
      tell({
        doneBytes: sum("doneBytes"),
        totalBytes: sum("totalBytes"),
        sentBytes: sum("sentBytes"),
        rssBytes: process.memoryUsage.rss(),
      });
    },
    sent: (position: number) => amounts[position]!.sentBytes,
    total: () => sum("sentBytes"),
  };
}
