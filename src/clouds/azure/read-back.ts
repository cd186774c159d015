/** What the blob really holds: ranges that were written are fetched and hashed, all others are zero by definition. */
import { createHash } from "node:crypto";
import { BLOCK_BYTES } from "../../images/block-source.ts";
import type { CallContext } from "../../lib/call.ts";
import type { ImageKey, StagedDisk } from "../../model.ts";
import type { ReadBlock } from "../cloud.ts";
import { CloudError } from "../errors.ts";
import { BLOB_ACTIONS, blobAsk, blobClient, VHD_FOOTER_BYTES } from "./blobs.ts";
import { blobName } from "./names.ts";
import type { AzureSession } from "./session.ts";

/** Ranges read at one time: 8 × 512 KiB are in memory. */
const IN_FLIGHT = 8;

export async function* readBlocks(
  session: AzureSession,
  staged: StagedDisk,
  blocks: Iterable<number>,
  call: CallContext,
): AsyncGenerator<ReadBlock> {
  const bytes = staged.diskBytes + VHD_FOOTER_BYTES;
  const written = await writtenBlocks(session, staged.key, bytes, call);
  const reading = new Map<number, Promise<ReadBlock>>();
  // Left early or failed: the others' requests are stopped too.
  const stop = new AbortController();
  const inner = { ...call, signal: AbortSignal.any([call.signal, stop.signal]) };
  try {
    for (const index of blocks) {
      const length = Math.min(BLOCK_BYTES, bytes - index * BLOCK_BYTES);
      if (length <= 0) throw new RangeError(`block ${index} is beyond the disk's ${bytes} bytes`);
      if (!written.has(index)) {
        yield { index, sha256: digestOfZeros(length) };
        continue;
      }
      if (reading.size >= IN_FLIGHT) yield await firstOf(reading);
      const block = readBlock(session, staged, index, length, inner);
      block.catch(() => {});
      reading.set(index, block);
    }
    while (reading.size > 0) yield await firstOf(reading);
  } finally {
    stop.abort();
  }
}

async function firstOf(reading: Map<number, Promise<ReadBlock>>): Promise<ReadBlock> {
  const block = await Promise.race(reading.values());
  reading.delete(block.index);
  return block;
}

/** Blocks that overlap any page range the service knows. */
export async function writtenBlocks(
  session: AzureSession,
  key: ImageKey,
  bytes: number,
  call: CallContext,
): Promise<ReadonlySet<number>> {
  const client = await blobClient(session, key);
  const written = new Set<number>();
  let marker: string | undefined;
  do {
    const page = await session.ask(
      blobAsk(session, "Get Page Ranges", BLOB_ACTIONS.read, blobName(key)),
      call,
      async (abortSignal) => {
        const pages = client.listPageRanges(0, bytes, { abortSignal });
        const next = await pages.byPage(marker ? { continuationToken: marker } : {}).next();
        return next.done ? undefined : next.value;
      },
    );
    for (const { start, end } of page?.pageRange ?? []) {
      for (let index = Math.floor(start / BLOCK_BYTES); index * BLOCK_BYTES <= end; index++) written.add(index);
    }
    marker = page?.continuationToken || undefined;
  } while (marker);
  return written;
}

async function readBlock(
  session: AzureSession,
  staged: StagedDisk,
  index: number,
  length: number,
  call: CallContext,
): Promise<ReadBlock> {
  const client = await blobClient(session, staged.key);
  return session.ask(
    {
      ...blobAsk(session, "Get Blob", BLOB_ACTIONS.read, blobName(staged.key)),
      deadline: session.pace.pageDeadline,
    },
    call,
    async (abortSignal) => {
      const answer = await client.download(index * BLOCK_BYTES, length, { abortSignal, maxRetryRequests: 0 });
      const hash = createHash("sha256");
      let got = 0;
      for await (const chunk of answer.readableStreamBody ?? []) {
        const data = Buffer.from(chunk);
        got += data.length;
        hash.update(data);
      }
      if (got !== length) {
        throw new CloudError("unavailable", `Azure sent ${got} of ${length} bytes of block ${index}.`, {
          cloud: "azure",
          operation: "Get Blob",
          subject: staged.id,
        });
      }
      return { index, sha256: hash.digest() };
    },
  );
}

const zeros = new Map<number, Uint8Array>();

function digestOfZeros(length: number): Uint8Array {
  let digest = zeros.get(length);
  if (!digest) {
    digest = createHash("sha256").update(new Uint8Array(length)).digest();
    zeros.set(length, digest);
  }
  return digest;
}
