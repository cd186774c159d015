/**
 * The other way to a snapshot: the disk goes to a bucket in parts, AWS imports it from there, and the bucket is tidied.
 *
 * For accounts that may not use EBS direct. Slower, because an import waits in a queue of AWS's, and the zeros of a disk
 * count for it; they are not sent, though: S3 copies parts of zeros itself. Nothing is put together before the source
 * has been read to its end without an error.
 */
import { createHash } from "node:crypto";
import { BLOCK_BYTES, type BlockSource, blockCount } from "../../../images/block-source.ts";
import type { UploadJournal } from "../../../images/journal.ts";
import { quietCall } from "../../../lib/call.ts";
import { codeOf, isTransient, SlipwayError } from "../../../lib/errors.ts";
import { seconds } from "../../../lib/units.ts";
import type { ImageSpec, StagedDisk } from "../../../model.ts";
import type { UploadContext } from "../../cloud.ts";
import type { Account } from "../account.ts";
import { ZERO_SHA256 } from "../send-blocks.ts";
import { unitsInOrder } from "../upload.ts";
import { pause } from "../waiting.ts";
import type { ImportBucket, SentPart } from "./bucket.ts";
import { type GatheredPart, gatherer, partBytesOf } from "./parts.ts";
import { importDisk, isImported } from "./task.ts";

export interface ImportUploadOptions {
  readonly bucket: ImportBucket;
  readonly role: string;
}

/** Parts under way at a time; each is held in memory until it is acknowledged. */
const IN_FLIGHT = 4;
const ATTEMPTS = 6;
const FIRST_BACKOFF_MS = 250;
const CLEANUP_MS = seconds(30);

export async function uploadByImport(
  account: Account,
  disk: BlockSource,
  spec: ImageSpec,
  journal: UploadJournal,
  { bucket, role }: ImportUploadOptions,
  call: UploadContext,
): Promise<StagedDisk> {
  if (call.signal.aborted) throw new SlipwayError("cancelled", "The upload was stopped before it began.");
  const region = spec.homeRegion;
  const staged = (id: string): StagedDisk => ({ key: spec.diskKey, region, id, diskBytes: disk.bytes });

  const snapshots = await account.snapshotsOf(spec.diskKey, region, call);
  let id = snapshots.find((snapshot) => snapshot.State === "completed")?.SnapshotId;
  if (id === undefined) {
    const isThere =
      (await isImported(account, bucket, spec.diskKey, call)) || (await bucket.has(spec.diskKey, disk.bytes, call));
    if (isThere) call.onProgress?.({ doneBytes: disk.bytes, totalBytes: disk.bytes, sentBytes: 0 });
    else await fillBucket(bucket, disk, spec, journal, call);
    id = await importDisk(account, bucket, role, spec, disk.bytes, call);
  }
  return staged(id);
}

async function fillBucket(
  bucket: ImportBucket,
  disk: BlockSource,
  spec: ImageSpec,
  journal: UploadJournal,
  call: UploadContext,
): Promise<void> {
  const { upload, parts } = await resumeOrBegin(bucket, disk, spec, journal, call);
  try {
    await sendParts(bucket, upload, parts, disk, spec, journal, call);
  } catch (error) {
    await journal.flush();
    if (codeOf(error) === "corrupt") {
      // The call may be over its deadline, and the half-made upload still has to go.
      await bucket
        .abort(spec.diskKey, upload, quietCall(AbortSignal.timeout(CLEANUP_MS)))
        .catch((cause: unknown) => call.log.warn("half-made upload could not be removed", { upload, cause }));
      throw error;
    }
    throw call.signal.aborted
      ? new SlipwayError("cancelled", "The upload was stopped; it resumes where it was.", { cause: error })
      : error;
  }
  await journal.flush();
  try {
    await bucket.complete(spec.diskKey, upload, [...parts.values()].sort(byNumber), call);
  } catch (error) {
    // Put together by an attempt whose answer was lost, or by another process.
    if (codeOf(error) !== "not-found" || !(await bucket.has(spec.diskKey, disk.bytes, call))) throw error;
  }
}

/**
 * The upload the journal knows, if S3 still has it; else a new one. Others of the same disk, which some process left
 * without a journal, are given up: nobody knows what is in them.
 */
async function resumeOrBegin(
  bucket: ImportBucket,
  disk: BlockSource,
  spec: ImageSpec,
  journal: UploadJournal,
  call: UploadContext,
): Promise<{ upload: string; parts: Map<number, SentPart> }> {
  const known = journalled(journal);
  const found = known === undefined ? undefined : await bucket.parts(spec.diskKey, known, call);
  for (const { upload } of await bucket.uploads(spec.diskKey, call)) {
    if (upload !== known || found === undefined) await bucket.abort(spec.diskKey, upload, call);
  }
  if (known !== undefined && found !== undefined && holdsWhatWasAcked(found, disk, journal)) {
    call.log.info("upload resumed", { upload: known, acked: journal.ackedCount });
    return { upload: known, parts: onlyAcked(found, disk, journal) };
  }
  if (known !== undefined && found !== undefined) await bucket.abort(spec.diskKey, known, call);
  const upload = await bucket.begin(spec.diskKey, disk.bytes, call);
  await journal.begin({ upload });
  return { upload, parts: new Map() };
}

function journalled(journal: UploadJournal): string | undefined {
  const { upload } = (journal.staged ?? {}) as { upload?: unknown };
  return typeof upload === "string" ? upload : undefined;
}

async function sendParts(
  bucket: ImportBucket,
  upload: string,
  parts: Map<number, SentPart>,
  disk: BlockSource,
  spec: ImageSpec,
  journal: UploadJournal,
  call: UploadContext,
): Promise<void> {
  const stopping = new AbortController();
  const signal = AbortSignal.any([call.signal, stopping.signal]);
  const here = { ...call, signal };
  const running = new Set<Promise<void>>();
  const waiting: GatheredPart[] = [];
  const order = unitsInOrder(journal);
  const arrived = new Map<number, () => void>();
  let failure: unknown;
  let sentBytes = 0;

  async function send(part: GatheredPart): Promise<void> {
    const { number, bytes, data } = part;
    const made = await insist(signal, () => {
      // A last part of zeros is of no size that any other has; it is sent.
      if (data === undefined && bytes === partBytesOf(disk.bytes)) {
        return bucket.copyZeros(spec.diskKey, upload, number, bytes, here);
      }
      const content = data ?? new Uint8Array(bytes);
      sentBytes += content.length;
      const sha256 = createHash("sha256").update(content).digest("base64");
      return bucket.sendPart(spec.diskKey, upload, number, content, sha256, here);
    });
    parts.set(number, made);
    acknowledge(part, disk, journal);
    for (const index of part.digests.keys()) arrived.get(index)?.();
    report();
  }
  function report(): void {
    const doneBytes = Math.min(disk.bytes, journal.ackedCount * BLOCK_BYTES);
    call.onProgress?.({ doneBytes, totalBytes: disk.bytes, sentBytes });
  }
  function pump(): void {
    while (running.size < IN_FLIGHT && waiting.length > 0 && failure === undefined) {
      const task = send(waiting.shift()!)
        .catch((error: unknown) => {
          failure ??= error;
          stopping.abort(error);
        })
        .finally(() => {
          running.delete(task);
          pump();
        });
      running.add(task);
    }
  }
  function submit(part: GatheredPart | undefined): void {
    if (part === undefined) return;
    waiting.push(part);
    pump();
  }
  /** Parts of data hold memory while they wait; parts of zeros do not. */
  async function roomForMore(): Promise<void> {
    while (waiting.filter((part) => part.data !== undefined).length > 0 && running.size > 0)
      await Promise.race(running);
    if (failure !== undefined) throw failure;
  }

  try {
    for (let incomplete = true; incomplete; ) {
      const gathering = gatherer(disk.bytes, (number) => !parts.has(number));
      const blocks = disk.read({
        signal,
        log: call.log,
        wanted: (index) => !parts.has(Math.floor((index * BLOCK_BYTES) / partBytesOf(disk.bytes)) + 1),
        knownUnits: journal.knownUnits,
        onUnit: order.unit,
        onZero: (index) => submit(gathering.zero(index)),
      });
      for await (const block of blocks) {
        arrived.set(
          block.index,
          order.block(() => arrived.delete(block.index)),
        );
        submit(gathering.add(block));
        await roomForMore();
      }
      for (const part of gathering.end()) submit(part);
      while (running.size > 0) await Promise.race(running);
      if (failure !== undefined) throw failure;
      incomplete = gathering.incomplete;
    }
  } catch (error) {
    // When a part failed, the source was stopped because of it.
    failure ??= error;
    stopping.abort(error);
    waiting.length = 0;
    while (running.size > 0) await Promise.race(running);
    throw failure;
  }
}

function acknowledge(part: GatheredPart, disk: BlockSource, journal: UploadJournal): void {
  const end = Math.min(blockCount(disk.bytes), part.firstBlock + Math.ceil(part.bytes / BLOCK_BYTES));
  for (let index = part.firstBlock; index < end; index++) {
    journal.ack(index, part.digests.get(index) ?? digestOfZeros(disk, index));
  }
}

function digestOfZeros(disk: BlockSource, index: number): Uint8Array {
  const bytes = Math.min(BLOCK_BYTES, disk.bytes - index * BLOCK_BYTES);
  return bytes === BLOCK_BYTES ? ZERO_SHA256 : createHash("sha256").update(new Uint8Array(bytes)).digest();
}

/** Blocks of one part are acknowledged together: the first speaks for all. */
function isAcked(number: number, disk: BlockSource, journal: UploadJournal): boolean {
  return journal.acked(((number - 1) * partBytesOf(disk.bytes)) / BLOCK_BYTES);
}

function onlyAcked(found: Map<number, SentPart>, disk: BlockSource, journal: UploadJournal): Map<number, SentPart> {
  return new Map([...found].filter(([number]) => isAcked(number, disk, journal)));
}

function holdsWhatWasAcked(found: Map<number, SentPart>, disk: BlockSource, journal: UploadJournal): boolean {
  const parts = Math.ceil(disk.bytes / partBytesOf(disk.bytes));
  for (let number = 1; number <= parts; number++)
    if (isAcked(number, disk, journal) && !found.has(number)) return false;
  return true;
}

function byNumber(one: SentPart, other: SentPart): number {
  return one.number - other.number;
}

/** The first level of retrying: a part, a few times. What is throttled was waited for already. */
async function insist<T>(signal: AbortSignal, ask: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await ask();
    } catch (error) {
      if (!isTransient(error) || signal.aborted || attempt === ATTEMPTS) throw error;
    }
    await pause(FIRST_BACKOFF_MS * 2 ** (attempt - 1) * (0.5 + Math.random() / 2), signal);
  }
}
