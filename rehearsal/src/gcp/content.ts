/**
 * The bytes of objects: written once from front to back, then only read, shared by the objects that are composed of
 * them. In memory, or a file each when a directory is given. Knows nothing of HTTP.
 */
import { randomUUID } from "node:crypto";
import { rmSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { notBuilt } from "./fault.ts";

export interface Content {
  readonly bytes: number;
  /** @param to exclusive; the caller has checked the bounds. Whoever reads owns a share meanwhile. */
  read(from: number, to: number): AsyncIterable<Buffer>;
  /** The same bytes under one more owner, at no cost. */
  share(): Content;
  /** Gives up one owner's share; the last one's gives back the room. */
  release(): void;
}

export interface ContentWriter {
  readonly bytes: number;
  /** Takes the next bytes; the buffer is not used afterwards by the caller. One at a time. */
  append(data: Buffer): Promise<void>;
  finish(): Promise<Content>;
  /** Gives back the room of what will not be finished, even while a write is under way. */
  abandon(): Promise<void>;
}

export interface ContentStore {
  start(): Promise<ContentWriter>;
}

/** What a simulator without a directory keeps at most: a forgotten one must not take the machine's memory. */
const MOST_MEMORY_BYTES = 2 * 2 ** 30;
const READ_BYTES = 512 * 1024;

/** @param directory where files go; undefined keeps everything in memory, up to 2 GiB */
export function createContentStore(directory?: string): ContentStore {
  return directory === undefined ? memoryStore() : { start: () => startFile(directory) };
}

function memoryStore(): ContentStore {
  let held = 0;
  return {
    async start() {
      const pieces: Buffer[] = [];
      let bytes = 0;
      const drop = () => {
        held -= bytes;
        pieces.length = 0;
      };
      return {
        get bytes() {
          return bytes;
        },
        async append(data) {
          if (held + data.length > MOST_MEMORY_BYTES) throw notBuilt("room for more than 2 GiB without a directory");
          pieces.push(data);
          bytes += data.length;
          held += data.length;
        },
        finish: async () => shared(bytes, (from, to) => slices(pieces, from, to), drop),
        abandon: async () => drop(),
      };
    },
  };
}

async function* slices(pieces: readonly Buffer[], from: number, to: number): AsyncGenerator<Buffer> {
  let at = 0;
  for (const piece of pieces) {
    const [start, end] = [Math.max(0, from - at), Math.min(piece.length, to - at)];
    if (start < end) yield piece.subarray(start, end);
    at += piece.length;
  }
}

async function startFile(directory: string): Promise<ContentWriter> {
  const path = join(directory, `${randomUUID()}.object`);
  const file = await open(path, "wx");
  let bytes = 0;
  const remove = () => rmSync(path, { force: true });
  return {
    get bytes() {
      return bytes;
    },
    async append(data) {
      // By position: what a failed write left behind is written over by the next try.
      for (let at = 0; at < data.length; ) {
        at += (await file.write(data, at, data.length - at, bytes + at)).bytesWritten;
      }
      bytes += data.length;
    },
    async finish() {
      await file.close();
      return shared(bytes, (from, to) => fileSlices(path, from, to), remove);
    },
    async abandon() {
      // The name first: whoever clears up all at once does not wait for handles, nor for the last write.
      remove();
      await file.close();
    },
  };
}

async function* fileSlices(path: string, from: number, to: number): AsyncGenerator<Buffer> {
  let file: FileHandle | undefined;
  try {
    file = await open(path, "r");
    for (let at = from; at < to; ) {
      const piece = Buffer.allocUnsafeSlow(Math.min(READ_BYTES, to - at));
      const { bytesRead } = await file.read(piece, 0, piece.length, at);
      if (bytesRead === 0) throw new Error(`${path} ends early`);
      at += bytesRead;
      yield piece.subarray(0, bytesRead);
    }
  } finally {
    await file?.close();
  }
}

function shared(bytes: number, slice: (from: number, to: number) => AsyncIterable<Buffer>, drop: () => void): Content {
  let owners = 1;
  const content: Content = {
    bytes,
    async *read(from, to) {
      owners++;
      try {
        yield* slice(from, to);
      } finally {
        content.release();
      }
    },
    share() {
      owners++;
      return content;
    },
    release() {
      owners--;
      if (owners === 0) drop();
    },
  };
  return content;
}

/** Several behind each other, as one stream. All are held from the first byte on, whatever is removed meanwhile. */
export async function* readAll(contents: readonly Content[], from: number, to: number): AsyncGenerator<Buffer> {
  const held = contents.map((content) => content.share());
  try {
    let at = 0;
    for (const content of held) {
      const [start, end] = [Math.max(0, from - at), Math.min(content.bytes, to - at)];
      if (start < end) yield* content.read(start, end);
      at += content.bytes;
    }
  } finally {
    for (const content of held) content.release();
  }
}
