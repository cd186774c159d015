/**
 * A disk becomes a completed snapshot: start, put, complete, wait.
 *
 * The snapshot is found again by the journal, then by its tag, then by its client token; so a repeat in any process
 * lands in the same one. Nothing is completed before the source has been read to its end without an error.
 */
import { createHash } from "node:crypto";
import { BLOCK_BYTES, type BlockSource, blockCount } from "../../images/block-source.ts";
import type { UploadJournal } from "../../images/journal.ts";
import { quietCall } from "../../lib/call.ts";
import { codeOf, SlipwayError } from "../../lib/errors.ts";
import { GiB } from "../../lib/units.ts";
import type { ImageSpec, StagedDisk } from "../../model.ts";
import type { UploadContext } from "../cloud.ts";
import { CloudError } from "../errors.ts";
import type { Account } from "./account.ts";
import { vendorOf } from "./errors.ts";
import { deleteSnapshot } from "./remove.ts";
import { blockSender, ZERO_SHA256 } from "./send-blocks.ts";
import { tagsFor } from "./tags.ts";
import { until } from "./waiting.ts";

export interface UploadOptions {
  /** An absent block of an encrypted volume reads as garbage, so zeros are written unless told otherwise. */
  readonly zeroBlocks: "write" | "skip";
  /** Most puts under way at a time. */
  readonly inFlight: number;
}

/** A pending snapshot, and what may already be in it. */
interface Pending {
  readonly id: string;
  /** Milliseconds since 1970. */
  readonly startedAt: number;
  /** Blocks may have been put that the journal does not know. */
  readonly used: boolean;
  /** AWS has told that it is there. */
  readonly seen: boolean;
}

/** A snapshot that AWS gives up, or somebody deletes, is begun anew this often in one call. */
const GENERATIONS = 4;

export async function upload(
  account: Account,
  disk: BlockSource,
  spec: ImageSpec,
  journal: UploadJournal,
  options: UploadOptions,
  call: UploadContext,
): Promise<StagedDisk> {
  const region = spec.homeRegion;
  const staged = (id: string): StagedDisk => ({ key: spec.diskKey, region, id, diskBytes: disk.bytes });
  if (call.signal.aborted) throw new SlipwayError("cancelled", "The upload was stopped before it began.");

  for (let generation = 1; ; generation++) {
    const pending = await findOrStart(account, disk, spec, journal, call);
    if ("completed" in pending) return staged(pending.completed);
    try {
      try {
        const written = await fill(account, pending, disk, spec, journal, options, call);
        await account.ebs(region).completeSnapshot(pending.id, written.blocks, written.checksum, call);
      } catch (error) {
        // Completed by an attempt whose answer was lost, or by another process: then it is on its way.
        if (!isClosed(error)) throw error;
      }
      await completion(account, pending.id, region, call);
      return staged(pending.id);
    } catch (error) {
      if (codeOf(error) === "corrupt") {
        // The call may be over its deadline, and the half-made snapshot still has to go.
        await deleteSnapshot(account, pending.id, region, quietCall(AbortSignal.timeout(CLEANUP_MS))).catch(
          (cause: unknown) =>
            call.log.warn("half-made snapshot could not be removed", { id: pending.id, region, cause }),
        );
        throw error;
      }
      const vanished = error instanceof CloudError && error.code === "not-found";
      if (!vanished || generation === GENERATIONS) throw error;
      call.log.info("pending snapshot has vanished, beginning again", { id: pending.id, region });
    }
  }
}

const CLEANUP_MS = 30_000;

async function findOrStart(
  account: Account,
  disk: BlockSource,
  spec: ImageSpec,
  journal: UploadJournal,
  call: UploadContext,
): Promise<Pending | { completed: string }> {
  const region = spec.homeRegion;
  const known = journalled(journal);
  let gone = "";
  if (known) {
    const snapshot = await account.snapshotById(known.id, region, call);
    if (snapshot?.State === "completed") return { completed: known.id };
    if (snapshot?.State === "pending") return { ...known, used: true, seen: true };
    // Describe finds a new snapshot late; only after that time is it gone.
    if (!snapshot && Date.now() - known.startedAt < account.pace.visibleMs)
      return { ...known, used: true, seen: false };
    gone = known.id;
  }
  const found = await account.snapshotsOf(spec.diskKey, region, call);
  const completed = found.find((snapshot) => snapshot.State === "completed");
  if (completed?.SnapshotId) return { completed: completed.SnapshotId };
  const pending = found.find((snapshot) => snapshot.State === "pending" && snapshot.SnapshotId !== gone);
  const startedAt = Date.now();
  if (pending?.SnapshotId) {
    await journal.begin({ id: pending.SnapshotId, startedAt });
    return { id: pending.SnapshotId, startedAt, used: true, seen: true };
  }
  const id = await start(account, disk, spec, gone, call);
  await journal.begin({ id, startedAt });
  return { id, startedAt, used: false, seen: false };
}

function journalled(journal: UploadJournal): { id: string; startedAt: number } | undefined {
  const { id, startedAt } = (journal.staged ?? {}) as { id?: unknown; startedAt?: unknown };
  if (typeof id !== "string" || typeof startedAt !== "number") return undefined;
  return { id, startedAt };
}

/**
 * Starts a snapshot under a token that every repeat of this start derives again. A token that leads to a snapshot that is
 * no longer pending was used up by an earlier life of the same disk; the next in the chain is taken.
 */
async function start(account: Account, disk: BlockSource, spec: ImageSpec, gone: string, call: UploadContext) {
  const region = spec.homeRegion;
  const tags = tagsFor(spec, disk.bytes);
  let previous = gone;
  let failure: unknown;
  for (let generation = 0; generation < GENERATIONS; generation++) {
    const clientToken = tokenFrom("snapshot", spec.diskKey, region, previous, String(generation));
    try {
      const started = await account.ebs(region).startSnapshot(
        {
          clientToken,
          volumeGiB: Math.ceil(disk.bytes / GiB),
          description: `${spec.name} (${spec.diskKey})`.slice(0, 255),
          tags,
        },
        call,
      );
      const snapshot = await account.snapshotById(started.id, region, call);
      if (started.status === "pending" && snapshot?.State !== "error" && started.id !== previous) return started.id;
      previous = started.id;
    } catch (error) {
      if (codeOf(error) !== "conflict" && codeOf(error) !== "not-found") throw error;
      failure = error;
    }
  }
  throw (
    failure ??
    new CloudError("conflict", "Every snapshot that could be started had been used up before.", {
      cloud: "aws",
      operation: "StartSnapshot",
      region,
      subject: spec.diskKey,
      next: "Look for other processes that release the same disk; then run it again.",
    })
  );
}

/** At most 64 characters, the shortest limit among AWS's tokens. */
export function tokenFrom(...parts: string[]): string {
  return createHash("sha256").update(parts.join("\n")).digest("hex");
}

/** What was written: how many blocks, and the digest over their digests. */
interface Written {
  readonly blocks: number;
  readonly checksum: Uint8Array;
}

async function fill(
  account: Account,
  pending: Pending,
  disk: BlockSource,
  spec: ImageSpec,
  journal: UploadJournal,
  options: UploadOptions,
  call: UploadContext,
): Promise<Written> {
  const count = blockCount(disk.bytes);
  const tail = tailOf(disk);
  const visibleMs = pending.seen ? 0 : account.pace.visibleMs;
  const sender = blockSender(account.ebs(spec.homeRegion), pending.id, {
    inFlight: options.inFlight,
    signal: call.signal,
    visibleUntil: performance.now() + visibleMs,
    pollMs: Math.min(account.pace.firstMs, 1000),
  });
  // Whatever was put without being acknowledged is overwritten: it may come from a source that proved wrong.
  const writeZeros = options.zeroBlocks === "write" || pending.used;
  const seen = new Set<number>();
  const order = unitsInOrder(journal);
  let ackedBlocks = journal.ackedCount;
  let sentBlocks = 0;

  function acknowledge(index: number, sha256: Uint8Array): void {
    journal.ack(index, sha256);
    ackedBlocks++;
    sentBlocks++;
    report(Math.min(disk.bytes, ackedBlocks * BLOCK_BYTES));
  }
  function report(doneBytes: number): void {
    call.onProgress?.({ doneBytes, totalBytes: disk.bytes, sentBytes: sentBlocks * BLOCK_BYTES });
  }
  function zero(index: number): void {
    if (!writeZeros || seen.has(index) || journal.acked(index)) return;
    seen.add(index);
    sender.sendZero(index, () => acknowledge(index, digestOfZeros(disk, index)));
  }

  try {
    const blocks = disk.read({
      signal: call.signal,
      log: call.log,
      // A short last block is wanted even if it was sent: the digest of its padded form is needed to complete.
      wanted: (index) => !journal.acked(index) || index === tail?.index,
      knownUnits: journal.knownUnits,
      onUnit: order.unit,
      onZero: zero,
    });
    for await (const block of blocks) {
      // Reused by the source after release, hence a copy.
      const sha256 = Uint8Array.from(block.sha256);
      seen.add(block.index);
      if (block.index === tail?.index) {
        const padded = tail.pad(block.data);
        block.release();
        if (journal.acked(block.index)) {
          compareTail(journal, block.index, sha256, spec);
          continue;
        }
        await sender.send(
          block.index,
          padded.data,
          padded.sha256,
          order.block(() => acknowledge(block.index, sha256)),
        );
      } else {
        const done = order.block(() => acknowledge(block.index, sha256));
        await sender.send(block.index, block.data, sha256, done, block.release);
      }
    }
    for (let index = 0; index < count; index++) zero(index);
    await sender.drain();
  } catch (error) {
    await sender.stop();
    await journal.flush();
    throw call.signal.aborted && codeOf(error) !== "corrupt"
      ? new SlipwayError("cancelled", "The upload was stopped; it resumes where it was.", { cause: error })
      : error;
  }
  await journal.flush();
  report(disk.bytes);

  const hash = createHash("sha256");
  let written = 0;
  for (let index = 0; index < count; index++) {
    if (!journal.acked(index)) continue;
    written++;
    if (index === tail?.index) hash.update(tail.paddedSha256());
    else hash.update(journal.digestOf(index) ?? ZERO_SHA256);
  }
  return { blocks: written, checksum: hash.digest() };
}

/** Tells the journal of a unit once every block that was yielded before the unit's end has been acknowledged. */
export function unitsInOrder(journal: UploadJournal) {
  const open = new Set<number>();
  const ended: { unit: number; sha256: Uint8Array; after: number }[] = [];
  let next = 0;
  function tell(): void {
    // A set keeps the order of insertion: its first member is the oldest block under way.
    const [oldest = next] = open;
    while (ended[0] && ended[0].after <= oldest) {
      const { unit, sha256 } = ended.shift()!;
      journal.unit(unit, sha256);
    }
  }
  return {
    unit(unit: number, sha256: Uint8Array): void {
      ended.push({ unit, sha256: Uint8Array.from(sha256), after: next });
      tell();
    },
    block(done: () => void): () => void {
      const number = next++;
      open.add(number);
      return () => {
        done();
        open.delete(number);
        tell();
      };
    },
  };
}

/** The tail is read again on resuming; it has to be what was sent. */
function compareTail(journal: UploadJournal, index: number, sha256: Uint8Array, spec: ImageSpec): void {
  const sent = journal.digestOf(index);
  if (sent && Buffer.compare(sent, sha256) !== 0) {
    throw new SlipwayError("corrupt", "The disk's last block is not the one an earlier attempt sent.", {
      subject: spec.name,
      next: "The source has changed between the attempts. Release the image again; it starts over.",
    });
  }
}

/** EBS takes whole blocks only: a short last one is sent with zeros behind it, while journal and source know it short. */
function tailOf(disk: BlockSource) {
  if (disk.bytes % BLOCK_BYTES === 0) return undefined;
  let paddedSha256: Uint8Array = ZERO_SHA256;
  return {
    index: blockCount(disk.bytes) - 1,
    pad(data: Uint8Array) {
      const padded = Buffer.alloc(BLOCK_BYTES);
      padded.set(data);
      paddedSha256 = createHash("sha256").update(padded).digest();
      return { data: padded, sha256: paddedSha256 };
    },
    paddedSha256: () => paddedSha256,
  };
}

function digestOfZeros(disk: BlockSource, index: number): Uint8Array {
  const bytes = Math.min(BLOCK_BYTES, disk.bytes - index * BLOCK_BYTES);
  return bytes === BLOCK_BYTES ? ZERO_SHA256 : createHash("sha256").update(new Uint8Array(bytes)).digest();
}

/**
 * True for AWS's answer that a snapshot takes no more blocks and no completion. Ours take none only after a completion,
 * which is asked for only when the whole source was read and proved right.
 */
function isClosed(error: unknown): boolean {
  if (!(error instanceof CloudError) || error.operation === "StartSnapshot") return false;
  return error.code === "conflict" || vendorOf(error.cause).message.includes("INVALID_SNAPSHOT_ID");
}

async function completion(account: Account, id: string, region: string, call: UploadContext): Promise<void> {
  const { pace } = account;
  await until(
    async () => {
      const state = (await account.snapshotById(id, region, call))?.State;
      if (state !== "error") return state === "completed" ? true : undefined;
      throw new CloudError("unavailable", `AWS gave up the snapshot ${id}.`, {
        cloud: "aws",
        operation: "CompleteSnapshot",
        region,
        subject: id,
        next: "The next attempt starts a new one.",
      });
    },
    {
      what: `Completion of ${id}`,
      operation: "CompleteSnapshot",
      region,
      deadlineMs: pace.completeMs,
      pace,
      signal: call.signal,
    },
  );
}
