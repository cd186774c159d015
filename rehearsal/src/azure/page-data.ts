/**
 * The bytes of a page blob: what was never written reads as zeros and takes no room.
 *
 * Kept either in memory, as 512 KiB chunks without the all-zero ones, or in a sparse file. `share()` hands out another
 * reference to the same bytes (a gallery version keeps those it was made from); whoever writes afterwards gets a copy.
 * Knows nothing of HTTP.
 */
import { randomUUID } from "node:crypto";
import { constants } from "node:fs";
import { copyFile, type FileHandle, open, rm } from "node:fs/promises";
import { join } from "node:path";

export interface PageRange {
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
}

export interface PageData {
  readonly bytes: number;
  read(offset: number, length: number): Promise<Buffer>;
  /** The caller has checked the bounds. Zeros that fall on never-written pages take no room, yet count as written. */
  write(offset: number, data: Buffer): Promise<void>;
  clear(offset: number, length: number): Promise<void>;
  /** Written and not cleared since, in order, none touching the next. */
  ranges(): PageRange[];
  /** The same bytes under a second owner, at no cost. */
  share(): PageData;
  /** Gives up this owner's reference. */
  release(): Promise<void>;
}

const CHUNK_BYTES = 512 * 1024;
const ZEROS = Buffer.alloc(CHUNK_BYTES);

/** @param directory where sparse files go; undefined keeps everything in memory */
export async function createPageData(bytes: number, directory?: string): Promise<PageData> {
  return directory === undefined ? inMemory(bytes, new Map(), []) : inFile(bytes, directory);
}

function inMemory(bytes: number, chunks: Map<number, Buffer>, written: PageRange[]): PageData {
  let ranges = written;

  // A chunk is never changed in place, only replaced: sharing is copying the map.
  const put = (offset: number, data: Buffer | undefined, length: number): void => {
    for (let at = 0; at < length; ) {
      const index = Math.floor((offset + at) / CHUNK_BYTES);
      const within = (offset + at) % CHUNK_BYTES;
      const take = Math.min(CHUNK_BYTES - within, length - at);
      const piece = data?.subarray(at, at + take) ?? ZEROS.subarray(0, take);
      at += take;
      let chunk = piece;
      if (take < CHUNK_BYTES) {
        const old = chunks.get(index);
        if (old === undefined && isZero(piece)) continue;
        chunk = old === undefined ? Buffer.alloc(CHUNK_BYTES) : Buffer.from(old);
        piece.copy(chunk, within);
      }
      if (isZero(chunk)) chunks.delete(index);
      else chunks.set(index, chunk);
    }
  };

  return {
    bytes,
    async read(offset, length) {
      const result = Buffer.alloc(length);
      for (let at = 0; at < length; ) {
        const within = (offset + at) % CHUNK_BYTES;
        const take = Math.min(CHUNK_BYTES - within, length - at);
        chunks.get(Math.floor((offset + at) / CHUNK_BYTES))?.copy(result, at, within, within + take);
        at += take;
      }
      return result;
    },
    async write(offset, data) {
      put(offset, data, data.length);
      ranges = added(ranges, { start: offset, end: offset + data.length });
    },
    async clear(offset, length) {
      put(offset, undefined, length);
      ranges = removed(ranges, { start: offset, end: offset + length });
    },
    ranges: () => ranges,
    share: () => inMemory(bytes, new Map(chunks), ranges),
    async release() {
      chunks.clear();
    },
  };
}

/** A file and how many owners read it. */
interface SharedFile {
  readonly path: string;
  readonly handle: FileHandle;
  owners: number;
}

async function inFile(bytes: number, directory: string): Promise<PageData> {
  const path = join(directory, `${randomUUID()}.pages`);
  const handle = await open(path, "wx+");
  await handle.truncate(bytes);
  return fileData(bytes, directory, { path, handle, owners: 1 }, []);
}

function fileData(bytes: number, directory: string, first: SharedFile, written: PageRange[]): PageData {
  let file = first;
  let ranges = written;
  let copying: Promise<void> | undefined;

  const drop = async (): Promise<void> => {
    file.owners--;
    if (file.owners > 0) return;
    await file.handle.close();
    // Whoever owns the directory may have removed it meanwhile: a reset waits for no handle.
    await rm(file.path, { force: true });
  };
  const separate = async (): Promise<void> => {
    const path = join(directory, `${randomUUID()}.pages`);
    await copyFile(file.path, path, constants.COPYFILE_FICLONE);
    await drop();
    file = { path, handle: await open(path, "r+"), owners: 1 };
  };
  const own = async (): Promise<void> => {
    if (file.owners > 1) copying ??= separate();
    await copying;
    copying = undefined;
  };

  return {
    bytes,
    async read(offset, length) {
      const result = Buffer.alloc(length);
      for (let at = 0; at < length; ) {
        const { bytesRead } = await file.handle.read(result, at, length - at, offset + at);
        if (bytesRead === 0) break;
        at += bytesRead;
      }
      return result;
    },
    async write(offset, data) {
      const range = { start: offset, end: offset + data.length };
      const fresh = !ranges.some((known) => known.start < range.end && range.start < known.end);
      ranges = added(ranges, range);
      await own();
      // Chunk by chunk, so that zeros on pages nobody wrote before leave a hole.
      for (let at = 0; at < data.length; at += CHUNK_BYTES) {
        const piece = data.subarray(at, at + CHUNK_BYTES);
        if (!(fresh && isZero(piece))) await file.handle.write(piece, 0, piece.length, offset + at);
      }
    },
    async clear(offset, length) {
      ranges = removed(ranges, { start: offset, end: offset + length });
      await own();
      for (let at = 0; at < length; at += CHUNK_BYTES) {
        const take = Math.min(CHUNK_BYTES, length - at);
        await file.handle.write(ZEROS, 0, take, offset + at);
      }
    },
    ranges: () => ranges,
    share() {
      file.owners++;
      return fileData(bytes, directory, file, ranges);
    },
    release: drop,
  };
}

function isZero(data: Buffer): boolean {
  for (let at = 0; at < data.length; at += CHUNK_BYTES) {
    const end = Math.min(at + CHUNK_BYTES, data.length);
    if (data.compare(ZEROS, 0, end - at, at, end) !== 0) return false;
  }
  return true;
}

/** The ranges with one more, joined where it touches others. */
function added(ranges: PageRange[], range: PageRange): PageRange[] {
  let { start, end } = range;
  const before: PageRange[] = [];
  const after: PageRange[] = [];
  for (const known of ranges) {
    if (known.end < start) before.push(known);
    else if (known.start > end) after.push(known);
    else {
      start = Math.min(start, known.start);
      end = Math.max(end, known.end);
    }
  }
  return [...before, { start, end }, ...after];
}

function removed(ranges: PageRange[], range: PageRange): PageRange[] {
  const left: PageRange[] = [];
  for (const known of ranges) {
    if (known.start < range.start) left.push({ start: known.start, end: Math.min(known.end, range.start) });
    if (known.end > range.end) left.push({ start: Math.max(known.start, range.end), end: known.end });
  }
  return left;
}
