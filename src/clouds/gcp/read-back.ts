/** What the bucket really holds: the archive is fetched, unpacked and hashed block by block, as an import would read it. */
import { createHash, type Hash } from "node:crypto";
import { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { BLOCK_BYTES } from "../../images/block-source.ts";
import { TarDisk } from "../../images/decode/tar.ts";
import type { CallContext } from "../../lib/call.ts";
import { SlipwayError } from "../../lib/errors.ts";
import type { StagedDisk } from "../../model.ts";
import type { ReadBlock } from "../cloud.ts";
import { CloudError } from "../errors.ts";
import { archiveName, objectPath } from "./objects.ts";
import type { GcpSession } from "./session.ts";

export async function* readBlocks(
  session: GcpSession,
  staged: StagedDisk,
  blocks: Iterable<number>,
  call: CallContext,
): AsyncGenerator<ReadBlock> {
  const ask = { operation: "objects.get", subject: staged.id };
  const path = objectPath(session, archiveName(session, staged.key));
  const bytes = session.download(ask, { service: "storage", path, query: { alt: "media" } }, call);
  const whole = createHash("sha256");
  const source = Readable.from(staged.packedSha256 ? hashed(bytes, whole) : bytes, { objectMode: false });
  const gunzip = createGunzip();
  source.on("error", (error) => gunzip.destroy(error));
  const hashes = blockHashes(staged.diskBytes, new Set(blocks));
  const archive = new TarDisk(hashes);
  try {
    for await (const data of source.pipe(gunzip)) {
      archive.push(data as Buffer);
      yield* hashes.take();
    }
    archive.end();
    yield* hashes.take();
    if (staged.packedSha256 && whole.digest("hex") !== staged.packedSha256) {
      throw new SlipwayError("corrupt", "its bytes are not the artifact's.");
    }
  } catch (error) {
    if (error instanceof SlipwayError && error.code !== "corrupt") throw error;
    throw new CloudError("corrupt", `The archive in the bucket cannot be read: ${(error as Error).message}`, {
      cloud: "gcp",
      ...ask,
      next: "Nothing was made of it. Remove the object and retry the run.",
    });
  } finally {
    source.destroy();
    gunzip.destroy();
  }
}

async function* hashed(bytes: AsyncIterable<Uint8Array>, hash: Hash): AsyncGenerator<Uint8Array> {
  for await (const chunk of bytes) {
    hash.update(chunk);
    yield chunk;
  }
}

/** Digests of the wanted blocks, as the disk's bytes go by in order. */
function blockHashes(diskBytes: number, wanted: ReadonlySet<number>) {
  let ready: ReadBlock[] = [];
  let at = 0;
  let hash: Hash | undefined;

  function blockEnd(): number {
    return Math.min(diskBytes, (Math.floor(at / BLOCK_BYTES) + 1) * BLOCK_BYTES);
  }
  function add(data: Uint8Array): void {
    const index = Math.floor(at / BLOCK_BYTES);
    const end = blockEnd();
    if (wanted.has(index)) {
      hash ??= createHash("sha256");
      hash.update(data);
    }
    at += data.length;
    if (at < end) return;
    if (hash) ready.push({ index, sha256: hash.digest() });
    hash = undefined;
  }
  return {
    begin(bytes: number): void {
      if (bytes === diskBytes) return;
      throw new SlipwayError("corrupt", `Its disk has ${bytes} bytes, not ${diskBytes}.`);
    },
    write(data: Uint8Array): void {
      for (let from = 0; from < data.length; ) {
        const part = data.subarray(from, from + blockEnd() - at);
        add(part);
        from += part.length;
      }
    },
    skip(bytes: number): void {
      for (let left = bytes; left > 0; ) {
        const part = Math.min(left, blockEnd() - at);
        if (part === BLOCK_BYTES && at % BLOCK_BYTES === 0) {
          const index = at / BLOCK_BYTES;
          if (wanted.has(index)) ready.push({ index, sha256: ZERO_DIGEST });
          at += part;
        } else add(ZEROS.subarray(0, part));
        left -= part;
      }
    },
    take(): ReadBlock[] {
      const taken = ready;
      ready = [];
      return taken;
    },
  };
}

const ZEROS = new Uint8Array(BLOCK_BYTES);
const ZERO_DIGEST = createHash("sha256").update(ZEROS).digest();
