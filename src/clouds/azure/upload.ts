/** The upload: from a BlockSource into a page blob, resumed where its journal says, complete only when all of it is right. */
import { createHash } from "node:crypto";
import { BLOCK_BYTES, type BlockSource, blockCount } from "../../images/block-source.ts";
import type { UploadJournal } from "../../images/journal.ts";
import { quietCall } from "../../lib/call.ts";
import { codeOf } from "../../lib/errors.ts";
import { slicedBody } from "../../lib/sliced.ts";
import type { ImageKey, ImageSpec, Json, StagedDisk } from "../../model.ts";
import type { UploadContext } from "../cloud.ts";
import { CloudError } from "../errors.ts";
import {
  BLOB_ACTIONS,
  blobAsk,
  blobClient,
  completeBlob,
  createBlob,
  deleteBlob,
  lookAtBlob,
  newUploadId,
  stagedDisk,
  taken,
} from "./blobs.ts";
import { blobName } from "./names.ts";
import { IN_FLIGHT_DEFAULT } from "./options.ts";
import { pageWriter } from "./page-writer.ts";
import { writtenBlocks } from "./read-back.ts";
import type { AzureSession } from "./session.ts";
import { adaptiveWindow } from "./window.ts";

export async function uploadDisk(
  session: AzureSession,
  disk: BlockSource,
  spec: ImageSpec,
  journal: UploadJournal,
  call: UploadContext,
): Promise<StagedDisk> {
  const key = spec.diskKey;
  const found = await lookAtBlob(session, key, call);
  if (found && (found.key !== key || !found.isPageBlob)) {
    throw new CloudError("already-exists", "A blob of this name is there and is not ours.", {
      cloud: "azure",
      operation: "Put Blob",
      subject: found.url,
      next: "Find out whose it is and remove it, or give the target a container of its own.",
    });
  }
  if (found?.complete) {
    call.onProgress?.({ doneBytes: disk.bytes, totalBytes: disk.bytes, sentBytes: 0 });
    return stagedDisk(session, key, found);
  }

  const begun = uploadOf(journal.staged, blobName(key));
  const resumed = found !== undefined && begun !== undefined && found.upload === begun && found.bytes === disk.bytes;
  const upload = resumed ? begun : newUploadId();
  if (!resumed) {
    // The journal is told first: a crash in between leaves a blob that this journal knows, or none.
    await journal.begin({ blob: blobName(key), upload } satisfies Json);
    await createBlob(session, key, disk.bytes, upload, found, call);
  }
  call.log.info(resumed ? "upload resumed" : "upload begun", { blob: blobName(key), acked: journal.ackedCount });

  try {
    await sendBlocks(session, disk, key, upload, journal, call);
  } catch (error) {
    // What was acknowledged stays so, for the next attempt; that this could not be noted is not the news.
    await journal.flush().catch(() => {});
    if (codeOf(error) === "corrupt") {
      // Nothing may be made of wrong bytes, even when the step's own signal has been pulled meanwhile.
      await deleteBlob(session, key, { ...quietCall(), log: call.log }, upload).catch((left: unknown) =>
        call.log.warn("half-made blob of a corrupt disk could not be removed", { blob: blobName(key), error: left }),
      );
    }
    throw error;
  }
  await journal.flush();
  await clearLeftovers(session, disk, key, upload, journal, call);
  await completeBlob(session, key, upload, digestOfAll(disk, journal), call);
  call.onProgress?.({ doneBytes: disk.bytes, totalBytes: disk.bytes, sentBytes: 0 });
  const done = await lookAtBlob(session, key, call);
  if (!done?.complete) throw taken(session, key);
  return stagedDisk(session, key, done);
}

/**
 * Blocks that are written and were not acknowledged come from an attempt that ended before it knew its source to be
 * right. The whole source has been read since: they are zero.
 * @throws CloudError `conflict` when acknowledged blocks are missing
 */
async function clearLeftovers(
  session: AzureSession,
  disk: BlockSource,
  key: ImageKey,
  upload: string,
  journal: UploadJournal,
  call: UploadContext,
): Promise<void> {
  const written = await writtenBlocks(session, key, disk.bytes, call);
  for (let index = 0; index < blockCount(disk.bytes); index++) {
    if (journal.acked(index) && !written.has(index)) throw taken(session, key);
  }
  const client = await blobClient(session, key);
  for (const index of written) {
    if (journal.acked(index)) continue;
    const offset = index * BLOCK_BYTES;
    const ask = blobAsk(session, "Clear Page", BLOB_ACTIONS.write, blobName(key));
    await session.ask(ask, call, (abortSignal) =>
      client.clearPages(offset, Math.min(BLOCK_BYTES, disk.bytes - offset), {
        abortSignal,
        conditions: { ifSequenceNumberEqualTo: Number(upload) },
      }),
    );
  }
}

async function sendBlocks(
  session: AzureSession,
  disk: BlockSource,
  key: ImageKey,
  upload: string,
  journal: UploadJournal,
  call: UploadContext,
): Promise<void> {
  const ask = {
    ...blobAsk(session, "Put Page", BLOB_ACTIONS.write, blobName(key)),
    deadline: session.pace.pageDeadline,
  };
  let doneBytes = ackedBytes(disk, journal);
  let sentBytes = 0;

  const writer = pageWriter({
    window: adaptiveWindow(session.options.inFlight ?? IN_FLIGHT_DEFAULT),
    inFlight: session.options.inFlight ?? IN_FLIGHT_DEFAULT,
    retryMs: session.pace.pageRetry,
    signal: call.signal,
    log: call.log,
    async put(offset, data, signal) {
      // Asked for each time: after a token's end it is another one.
      const client = await blobClient(session, key);
      try {
        await session.ask(ask, { ...call, signal }, (abortSignal) =>
          client.uploadPages(() => slicedBody([data]), offset, data.length, {
            abortSignal,
            transactionalContentMD5: createHash("md5").update(data).digest(),
            conditions: { ifSequenceNumberEqualTo: Number(upload) },
          }),
        );
      } catch (error) {
        // The sequence number is another one, or the blob is gone: it is not this upload's any more.
        if (codeOf(error) === "conflict" || codeOf(error) === "not-found") throw taken(session, key);
        throw error;
      }
    },
    onAcked(index, sha256, bytes) {
      journal.ack(index, sha256);
      doneBytes += bytes;
      sentBytes += bytes;
      call.onProgress?.({ doneBytes, totalBytes: disk.bytes, sentBytes });
    },
    onUnit: (unit, sha256) => journal.unit(unit, sha256),
  });

  await writer.drain((signal) =>
    disk.read({
      signal,
      log: call.log,
      wanted: (index) => !journal.acked(index),
      knownUnits: journal.knownUnits,
      onUnit: (unit, sha256) => writer.unit(unit, sha256),
    }),
  );
}

/** The upload a journal speaks of, if it is one of this blob. */
function uploadOf(staged: Json | undefined, blob: string): string | undefined {
  if (typeof staged !== "object" || staged === null || Array.isArray(staged)) return undefined;
  const { upload } = staged;
  return staged.blob === blob && typeof upload === "string" ? upload : undefined;
}

function ackedBytes(disk: BlockSource, journal: UploadJournal): number {
  let bytes = 0;
  for (let index = 0; index < blockCount(disk.bytes); index++) {
    if (journal.acked(index)) bytes += Math.min(BLOCK_BYTES, disk.bytes - index * BLOCK_BYTES);
  }
  return bytes;
}

/** SHA-256 over position and digest of every block that is not zero, in order: says which disk was completed. */
function digestOfAll(disk: BlockSource, journal: UploadJournal): string {
  const hash = createHash("sha256");
  const position = Buffer.alloc(4);
  for (let index = 0; index < blockCount(disk.bytes); index++) {
    const digest = journal.digestOf(index);
    if (!digest) continue;
    position.writeUInt32BE(index);
    hash.update(position).update(digest);
  }
  return hash.digest("hex");
}
