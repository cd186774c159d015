import { openTransferJournal } from "../../catalog/transfers.ts";
import type { DiskRequirements } from "../../clouds/cloud.ts";
import { defineStep } from "../../durable/index.ts";
import { openDisk } from "../../images/open-disk.ts";
import { shareDisk } from "../../images/shared-source.ts";
import { isTransient, reportOf, SlipwayError } from "../../lib/errors.ts";
import { hours } from "../../lib/units.ts";
import type { Artifact, ErrorLike, ImageSpec, StagedDisk } from "../../model.ts";
import { cloudRetry } from "../policies.ts";
import type { Ctx } from "../services.ts";

export interface UploadInput {
  readonly artifact: Artifact;
  readonly uploads: readonly { readonly target: string; readonly spec: ImageSpec }[];
}

export type Uploaded =
  | { readonly target: string; readonly staged: StagedDisk; readonly sentBytes: number }
  | { readonly target: string; readonly error: ErrorLike };

/**
 * Streams one artifact to every target of one cloud that wants it: decoded and hashed once, no temporary file.
 *
 * Safe to repeat: the journal of each target says what was acknowledged, a staged disk that is complete is found again.
 * One target's failure is an outcome; the attempt fails, and is repeated, only while a target has a chance to recover.
 * Progress: `{doneBytes, totalBytes, sentBytes, rssBytes}` over all targets.
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
      maxVirtualBytes: Math.min(services.maxDiskBytes, accepts.maxBytes),
      source: services.sources,
    },
    ctx,
  );
  try {
    checkSize(disk.bytes, accepts, artifact);
    const readers = shareDisk(disk, input.uploads.length);
    const meter = progressMeter(disk.bytes, input.uploads.length, ctx.progress);
    const results = await Promise.all(
      input.uploads.map(async ({ target, spec }, position): Promise<Uploaded & { failure?: unknown }> => {
        const reader = readers[position]!;
        try {
          await using journal = await openTransferJournal(services.db, `${target}/${spec.diskKey}`);
          const staged = await clouds[position]!.upload(reader, { ...spec, diskBytes: disk.bytes }, journal, {
            signal: ctx.signal,
            log: ctx.log,
            onProgress: (progress) => meter.tell(position, progress),
          });
          return { target, staged, sentBytes: meter.sent(position) };
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
      virtualBytes: disk.bytes,
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
