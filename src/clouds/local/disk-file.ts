import { type FileHandle, open } from "node:fs/promises";
import { BLOCK_BYTES, type BlockSource, blockCount } from "../../images/block-source.ts";
import type { UploadJournal } from "../../images/journal.ts";
import type { UploadContext } from "../cloud.ts";

/**
 * Fills a sparse file from a disk. What the journal calls acknowledged has reached the medium, not just the page cache,
 * because a journal may outlive the machine's memory.
 * @param resumed the file holds what an earlier attempt left, acknowledged or not
 * @throws whatever the source throws; the file stays for the next attempt
 */
export async function fillFile(
  path: string,
  disk: BlockSource,
  journal: UploadJournal,
  resumed: boolean,
  call: UploadContext,
): Promise<void> {
  const file = await open(path, resumed ? "r+" : "w+");
  try {
    if (!resumed) await file.truncate(disk.bytes);
    const synced = acknowledging(file, journal);
    const seen = new Set<number>();
    const ackedBefore = journal.ackedCount;
    let sentBytes = 0;
    const blocks = disk.read({
      signal: call.signal,
      log: call.log,
      wanted: (index) => !journal.acked(index),
      knownUnits: journal.knownUnits,
      onUnit: (unit, sha256) => synced.unit(unit, sha256),
    });
    try {
      for await (const block of blocks) {
        try {
          await file.write(block.data, 0, block.data.length, block.index * BLOCK_BYTES);
          seen.add(block.index);
          sentBytes += block.data.length;
          synced.wrote(block.index, Uint8Array.from(block.sha256));
        } finally {
          block.release();
        }
        const doneBytes = Math.min(disk.bytes, (ackedBefore + seen.size) * BLOCK_BYTES);
        call.onProgress?.({ doneBytes, totalBytes: disk.bytes, sentBytes });
        call.signal.throwIfAborted();
      }
    } finally {
      await synced.settled();
    }
    if (resumed) await zeroTheRest(file, disk.bytes, (index) => !seen.has(index) && !journal.acked(index));
    await file.sync();
    await journal.flush();
    call.onProgress?.({ doneBytes: disk.bytes, totalBytes: disk.bytes, sentBytes });
  } finally {
    await file.close();
  }
}

/** Acknowledges written blocks in batches, each as large as what was written while the batch before was synced. */
function acknowledging(file: FileHandle, journal: UploadJournal) {
  let written: [number, Uint8Array][] = [];
  let units: [number, Uint8Array][] = [];
  let running: Promise<void> | undefined;
  let failure: unknown;

  async function sync(): Promise<void> {
    while (written.length > 0 || units.length > 0) {
      const [blocks, ended] = [written, units];
      written = [];
      units = [];
      await file.datasync();
      for (const [index, sha256] of blocks) journal.ack(index, sha256);
      for (const [unit, sha256] of ended) journal.unit(unit, sha256);
    }
  }
  function kick(): void {
    running ??= sync()
      .catch((error: unknown) => {
        failure = error;
      })
      .finally(() => {
        running = undefined;
        if (!failure && (written.length > 0 || units.length > 0)) kick();
      });
  }
  return {
    wrote(index: number, sha256: Uint8Array): void {
      written.push([index, sha256]);
      kick();
    },
    unit(index: number, sha256: Uint8Array): void {
      units.push([index, sha256]);
      kick();
    },
    async settled(): Promise<void> {
      while (running) await running;
      if (failure) throw failure;
    },
  };
}

/** An earlier attempt may have written, without acknowledgement, bytes the right disk does not have. */
async function zeroTheRest(file: FileHandle, bytes: number, isZero: (index: number) => boolean): Promise<void> {
  const buffer = Buffer.alloc(BLOCK_BYTES);
  const zeros = Buffer.alloc(BLOCK_BYTES);
  for (let index = 0; index < blockCount(bytes); index++) {
    if (!isZero(index)) continue;
    const { bytesRead } = await file.read(buffer, 0, BLOCK_BYTES, index * BLOCK_BYTES);
    if (buffer.compare(zeros, 0, bytesRead, 0, bytesRead) !== 0) {
      await file.write(zeros, 0, bytesRead, index * BLOCK_BYTES);
    }
  }
}
