import { createGunzip } from "node:zlib";
import type { CallContext } from "../../lib/call.ts";
import { SlipwayError } from "../../lib/errors.ts";
import type { ByteSource } from "../byte-source.ts";
import { TarDisk } from "./tar.ts";

/**
 * Virtual bytes of the disk.raw in a tar.gz, from its header alone: only the beginning of the file is fetched.
 * @throws SlipwayError `corrupt`
 */
export async function tarDiskBytes(source: ByteSource, call: CallContext): Promise<number> {
  let bytes: number | undefined;
  const archive = new TarDisk({
    begin(virtual) {
      bytes = virtual;
    },
    write() {},
    skip() {},
  });
  const gunzip = createGunzip();
  const stop = new AbortController();
  const signal = AbortSignal.any([call.signal, stop.signal]);
  const feeding = (async () => {
    for await (const chunk of source.stream(0, { ...call, signal })) {
      if (gunzip.destroyed || gunzip.writableEnded) return;
      if (!gunzip.write(chunk)) {
        await new Promise<void>((resolve) => {
          for (const event of ["drain", "close", "end", "error"]) gunzip.once(event, resolve);
        });
      }
    }
    gunzip.end();
  })().catch((error: unknown) => void gunzip.destroy(error as Error));
  try {
    for await (const data of gunzip) {
      archive.push(data as Buffer);
      if (bytes !== undefined) return bytes;
    }
    archive.end();
    throw new SlipwayError("corrupt", "The tar archive holds no disk.raw.", { subject: source.url });
  } catch (error) {
    const known = error instanceof SlipwayError;
    throw new SlipwayError(
      known ? error.code : "corrupt",
      known ? error.message : `It cannot be decompressed: ${error instanceof Error ? error.message : error}.`,
      { subject: source.url, next: known ? error.next : "Fetch or build the file anew.", cause: error },
    );
  } finally {
    stop.abort();
    gunzip.destroy();
    await feeding;
  }
}
