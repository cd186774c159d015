/**
 * What Compute Engine looks at before it makes an image of an object: gzip, tar, one regular `disk.raw`, whole GiB.
 * A reader of its own, so that a mistake in the writer is not made twice.
 */
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";

const GIB = 2 ** 30;

export interface Unpacked {
  readonly diskBytes: number;
  /** Bytes of the disk that are stored, with where they belong. */
  readonly stored: readonly { readonly at: number; readonly bytes: number }[];
}

/** @throws Error that says what is wrong with it */
export async function inspectArchive(pieces: AsyncIterable<Buffer>): Promise<Unpacked> {
  const reader = createArchiveReader();
  try {
    await pipeline(pieces, createGunzip(), async (unzipped: AsyncIterable<Buffer>) => {
      for await (const chunk of unzipped) reader.push(chunk);
    });
  } catch (error) {
    throw new Error(`The tar archive could not be read: ${(error as Error).message}`);
  }
  return reader.end();
}

function createArchiveReader() {
  let rest: Buffer = Buffer.alloc(0);
  let found: { diskBytes: number; stored: { at: number; bytes: number }[] } | undefined;
  let moreMap = false;
  let left = 0;
  let ended = false;

  function record(data: Buffer): void {
    if (moreMap) {
      readMap(data, 0, 21);
      moreMap = data[504] !== 0;
      return;
    }
    if (data.every((byte) => byte === 0)) {
      ended = true;
      return;
    }
    if (ended || found) throw new Error("it has more than one member");
    const name = data.toString("latin1", 0, data.indexOf(0));
    const type = String.fromCharCode(data[156]!);
    if (name !== "disk.raw") throw new Error(`its member is ${name}, not disk.raw`);
    if (!["0", "\0", "S"].includes(type)) throw new Error(`disk.raw has type ${type}`);
    if (data.toString("latin1", 257, 262) !== "ustar") throw new Error("it is no tar of the GNU kind");
    const stored = size(data, 124);
    found = { diskBytes: type === "S" ? size(data, 483) : stored, stored: [] };
    if (type === "S") {
      readMap(data, 386, 4);
      moreMap = data[482] !== 0;
    } else found.stored.push({ at: 0, bytes: stored });
    left = Math.ceil(stored / 512) * 512;
  }

  function readMap(data: Buffer, from: number, slots: number): void {
    for (let slot = 0; slot < slots && data[from + slot * 24] !== 0; slot++) {
      const at = from + slot * 24;
      found!.stored.push({ at: size(data, at), bytes: size(data, at + 12) });
    }
  }

  return {
    push(chunk: Buffer): void {
      let data = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk;
      while (data.length > 0) {
        if (found && !moreMap && left > 0) {
          const taken = Math.min(left, data.length);
          left -= taken;
          data = data.subarray(taken);
        } else if (data.length >= 512) {
          record(data.subarray(0, 512));
          data = data.subarray(512);
        } else break;
      }
      rest = Buffer.from(data);
    },
    end(): Unpacked {
      if (!found || left > 0 || !ended) throw new Error("The tar archive is cut off or holds no disk.raw");
      if (found.diskBytes % GIB !== 0 || found.diskBytes === 0) {
        throw new Error(`disk.raw has ${found.diskBytes} bytes, which is no multiple of 1 GB`);
      }
      return found;
    },
  };
}

function size(data: Buffer, at: number): number {
  if (data[at]! & 0x80) return Number(data.readBigUInt64BE(at + 4));
  return Number.parseInt(data.toString("latin1", at, at + 12).replace(/[^0-7]/g, "") || "0", 8);
}
