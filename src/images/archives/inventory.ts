/**
 * What an archive of a container image holds, looked through once: every file with its digest, small metadata with its
 * bytes, and for layers of a docker-archive what they will be once they are gzipped.
 *
 * `oci-layout.ts` and `docker-archive.ts` make an image of it; neither knows where the bytes lie.
 */
import { createHash, type Hash } from "node:crypto";
import { PassThrough } from "node:stream";
import { createGunzip } from "node:zlib";
import { SlipwayError } from "../../lib/errors.ts";
import { MiB } from "../../lib/units.ts";
import type { Digest } from "../container.ts";
import { MAX_JSON_BYTES } from "./bounded-json.ts";
import { gzipped, sniff } from "./codec.ts";
import type { MemberSink } from "./tar-scan.ts";

export interface StoredFile {
  readonly name: string;
  /** In the tar; 0 in a directory. */
  readonly offset: number;
  readonly bytes: number;
  readonly digest: Digest;
  /** The bytes themselves, of what may be metadata. */
  readonly content?: Uint8Array;
  /** Of a `.tar`: what gzip makes of it, or that it is gzip already, and the digest of what is inside. */
  readonly layer?: {
    readonly packed: boolean;
    readonly digest: Digest;
    readonly bytes: number;
    readonly diffId: Digest;
  };
}

export interface Inventory {
  file(name: string): StoredFile | undefined;
  /** True for a link or a device of that name: there, and not to be used. */
  irregular(name: string): boolean;
}

/** Metadata kept in memory, all of it together. */
const MAX_KEPT_BYTES = 32 * MiB;

export class InventoryBuilder implements Inventory {
  readonly #files = new Map<string, StoredFile>();
  readonly #irregular = new Set<string>();
  readonly #maxBytes: number;
  #kept = 0;

  /** @param maxBytes of a gzipped layer, unpacked: what a bomb inside the archive meets */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  file(name: string): StoredFile | undefined {
    return this.#files.get(name);
  }

  irregular(name: string): boolean {
    return this.#irregular.has(name);
  }

  addIrregular(name: string): void {
    this.#irregular.add(name);
  }

  /** Takes a file's bytes; it is listed when they have ended. */
  add(name: string, offset: number, bytes: number): MemberSink {
    const hash = createHash("sha256");
    const kept: Uint8Array[] | undefined = bytes <= MAX_JSON_BYTES ? [] : undefined;
    let keeps = kept !== undefined;
    let layer: LayerProbe | undefined;
    let first = true;
    return {
      write: async (chunk) => {
        if (first) {
          first = false;
          // Metadata is JSON and begins like it; a small layer need not be remembered.
          keeps &&= chunk[0] === 0x7b || chunk[0] === 0x5b;
          if (keeps) this.#kept += bytes;
          if (this.#kept > MAX_KEPT_BYTES) {
            throw new SlipwayError("invalid", "The archive has too much metadata for one image", { subject: name });
          }
          if (/\.(tar|tar\.gz|tgz)$/.test(name)) layer = probeLayer(sniff(chunk) === "gzip", this.#maxBytes, name);
        }
        hash.update(chunk);
        if (keeps) kept!.push(Buffer.from(chunk));
        await layer?.write(chunk);
      },
      end: async () => {
        const digest = digestFrom(hash);
        this.#files.set(name, {
          ...{ name, offset, bytes, digest },
          ...(keeps ? { content: Buffer.concat(kept!) } : {}),
          ...(layer ? { layer: await layer.end(digest, bytes) } : {}),
        });
      },
    };
  }
}

interface LayerProbe {
  write(chunk: Uint8Array): Promise<void>;
  end(digest: Digest, bytes: number): Promise<NonNullable<StoredFile["layer"]>>;
}

/** Runs a layer through gzip, or through gunzip if it is gzip already, to know both digests. */
function probeLayer(packed: boolean, maxBytes: number, name: string): LayerProbe {
  const input = new PassThrough();
  const other = createHash("sha256");
  let length = 0;
  let failure: unknown;
  const run = (async () => {
    const output = packed ? input.pipe(createGunzip()) : gzipped(input);
    if (packed) input.on("error", () => {});
    for await (const chunk of output as AsyncIterable<Uint8Array>) {
      length += chunk.length;
      if (length > maxBytes) {
        throw new SlipwayError("invalid", `The layer unpacks to more than ${maxBytes} bytes`, { subject: name });
      }
      other.update(chunk);
    }
  })().catch((error: unknown) => {
    const damaged = () =>
      new SlipwayError("corrupt", "The layer's gzip data is damaged", { subject: name, cause: error });
    failure = error instanceof SlipwayError ? error : damaged();
    input.destroy();
  });
  return {
    async write(chunk) {
      if (failure) throw failure;
      // The scanner's memory is used again only after this returns; PassThrough may keep it longer.
      if (!input.write(Buffer.from(chunk))) {
        await Promise.race([new Promise((resolve) => input.once("drain", resolve)), run]);
      }
      if (failure) throw failure;
    },
    async end(digest, bytes) {
      input.end();
      await run;
      if (failure) throw failure;
      const otherDigest = digestFrom(other);
      return packed
        ? { packed, digest, bytes, diffId: otherDigest }
        : { packed, digest: otherDigest, bytes: length, diffId: digest };
    },
  };
}

function digestFrom(hash: Hash): Digest {
  return `sha256:${hash.digest("hex")}`;
}
