import { constants, type Dirent } from "node:fs";
import { type FileHandle, open, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { CallContext } from "../../lib/call.ts";
import { SlipwayError } from "../../lib/errors.ts";
import { MiB } from "../../lib/units.ts";
import { InventoryBuilder } from "./inventory.ts";
import type { Store } from "./open-container.ts";

const MAX_FILES = 10_000;
const CHUNK = MiB;

/** The path, if the URL names a directory on this machine. */
export async function directoryOf(url: string): Promise<string | undefined> {
  const isPath = !/^[a-z][a-z0-9+.-]*:/i.test(url);
  if (!isPath && !url.startsWith("file:")) return undefined;
  const path = isPath ? url : fileURLToPath(url);
  const found = await stat(path).catch(() => undefined);
  return found?.isDirectory() ? path : undefined;
}

/** An OCI layout as a directory: looked through and hashed once, like an archive. Links are seen and not followed. */
export async function openDirectory(root: string, maxBytes: number, call: CallContext): Promise<Store> {
  const inventory = new InventoryBuilder(maxBytes);
  const names = ["oci-layout", "index.json", ...(await blobNames(root))];
  let total = 0;
  for (const name of names) {
    call.signal.throwIfAborted();
    const file = await openRegular(join(root, name));
    if (file === "irregular") inventory.addIrregular(name);
    if (!file || file === "irregular") continue;
    try {
      const { size } = await file.stat();
      total += size;
      if (total > maxBytes)
        throw new SlipwayError("invalid", `The OCI layout has more than ${maxBytes} bytes`, { subject: root });
      const sink = inventory.add(name, 0, size);
      for await (const chunk of chunksOf(file, size, name)) await sink.write(chunk);
      await sink.end();
    } finally {
      await file.close();
    }
  }
  return {
    inventory,
    access: "random",
    async *stream({ name, bytes }, streamCall) {
      const file = await openRegular(join(root, name));
      if (!file || file === "irregular") throw new SlipwayError("corrupt", "The OCI layout changed", { subject: name });
      try {
        for await (const chunk of chunksOf(file, bytes, name)) {
          streamCall.signal.throwIfAborted();
          yield chunk;
        }
      } finally {
        await file.close();
      }
    },
    async close() {},
  };
}

async function blobNames(root: string): Promise<string[]> {
  const entries: Dirent[] = await readdir(join(root, "blobs", "sha256"), { withFileTypes: true }).catch(() => []);
  if (entries.length > MAX_FILES) {
    throw new SlipwayError("invalid", `The OCI layout has more than ${MAX_FILES} blobs`, { subject: root });
  }
  return entries.filter(({ name }) => /^[0-9a-f]{64}$/.test(name)).map(({ name }) => `blobs/sha256/${name}`);
}

async function openRegular(path: string): Promise<FileHandle | "irregular" | undefined> {
  try {
    // Never through a link, and never waiting at a pipe.
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    if ((await file.stat()).isFile()) return file;
    await file.close();
    return "irregular";
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return undefined;
    if (code === "ELOOP") return "irregular";
    throw new SlipwayError("unavailable", `The file cannot be read: ${code}`, { subject: path, cause: error });
  }
}

async function* chunksOf(file: FileHandle, bytes: number, subject: string): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes; ) {
    const chunk = Buffer.allocUnsafe(Math.min(CHUNK, bytes - at));
    const { bytesRead } = await file.read(chunk, 0, chunk.length, at);
    if (bytesRead === 0) throw new SlipwayError("corrupt", "The file became shorter", { subject });
    at += bytesRead;
    yield chunk.subarray(0, bytesRead);
  }
}
