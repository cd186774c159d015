/**
 * Opens one architecture's container image out of the file a compose has it in.
 *
 * The file is read twice and written nowhere: once from front to back, to prove its size and SHA-256 and to learn what
 * lies where; then blob by blob, as a registry asks for them. What it is, its content decides and not its name:
 * ociarchive, docker-archive, either within xz, gzip or zstd, or a directory with an OCI layout.
 * Start at `openContainer`; `tar-scan.ts` reads tars, `oci-layout.ts` and `docker-archive.ts` what is in them.
 */
import { createHash } from "node:crypto";
import type { CallContext } from "../../lib/call.ts";
import { SlipwayError } from "../../lib/errors.ts";
import { GiB } from "../../lib/units.ts";
import type { Artifact } from "../../model.ts";
import { type ByteSource, type ByteSourceOptions, openBytes } from "../byte-source.ts";
import type { ContainerImage, Digest } from "../container.ts";
import { decompress, gzipped, sniff } from "./codec.ts";
import { directoryOf, openDirectory } from "./directory.ts";
import { readDockerArchive } from "./docker-archive.ts";
import { digestOf, type FoundImage } from "./image-parts.ts";
import { type Inventory, InventoryBuilder, type StoredFile } from "./inventory.ts";
import { readOciLayout } from "./oci-layout.ts";
import { openTarReader } from "./tar-reader.ts";
import { scanTar } from "./tar-scan.ts";

export type ContainerArtifact = Pick<Artifact, "url" | "bytes" | "sha256" | "format" | "arch">;

export interface OpenContainerOptions {
  /** How the file is fetched. */
  readonly source?: ByteSourceOptions;
  /** Of the archive unpacked; more is taken for a decompression bomb. Default 32 GiB. */
  readonly maxUnpackedBytes?: number;
}

const MAX_UNPACKED_BYTES = 32 * GiB;
const MAX_MEMBERS = 10_000;
const FORMATS = new Set(["ociarchive", "oci", "tar", "tar.xz", "tar.gz", "tar.zst"]);

/** Where an archive's files can be read again. */
export interface Store {
  readonly inventory: Inventory;
  readonly access: "random" | "sequential";
  stream(file: StoredFile, call: CallContext): AsyncIterable<Uint8Array>;
  close(): Promise<void>;
}

/**
 * Reads the whole file once; the image that comes back is proved right. A directory has no size and digest of its own:
 * there every file is proved by the digest that names it.
 * @throws SlipwayError `corrupt` (wrong bytes, something missing), `invalid` (another architecture, a hostile archive),
 *   `unsupported`, `unavailable`, `cancelled`
 */
export async function openContainer(
  artifact: ContainerArtifact,
  options: OpenContainerOptions,
  call: CallContext,
): Promise<ContainerImage> {
  if (!FORMATS.has(artifact.format)) {
    throw new SlipwayError("unsupported", `A container image of format "${artifact.format}" cannot be opened`, {
      subject: artifact.url,
      next: `known are ${[...FORMATS].join(", ")}`,
    });
  }
  const maxBytes = options.maxUnpackedBytes ?? MAX_UNPACKED_BYTES;
  const directory = await directoryOf(artifact.url);
  const store =
    directory === undefined
      ? await openArchive(artifact, openBytes(artifact.url, options.source), maxBytes, call)
      : await openDirectory(directory, maxBytes, call);
  try {
    return imageOf(readImage(store.inventory, artifact), store);
  } catch (error) {
    await store.close();
    throw error;
  }
}

/** An archive may be both (`docker save` since 25): then its own manifest is worth more than one we would make. */
function readImage(inventory: Inventory, { arch, url }: ContainerArtifact): FoundImage {
  if (inventory.file("oci-layout")) return readOciLayout(inventory, arch, url);
  if (inventory.file("manifest.json")) return readDockerArchive(inventory, arch, url);
  throw new SlipwayError("invalid", "The archive is neither an OCI layout nor a docker-archive", {
    subject: url,
    next: "it needs oci-layout and index.json, or manifest.json, at its top",
  });
}

async function openArchive(
  artifact: ContainerArtifact,
  source: ByteSource,
  maxBytes: number,
  call: CallContext,
): Promise<Store> {
  try {
    const { bytes } = await source.stat(call);
    if (bytes !== artifact.bytes) {
      throw wrong(artifact, `has ${bytes} bytes, its compose's metadata says ${artifact.bytes}`);
    }
    const head = await source.read(0, Math.min(bytes, 8), call);
    const compression = sniff(head);
    const inventory = new InventoryBuilder(maxBytes);
    const whole = proving(source.stream(0, call), artifact);
    try {
      const limits = { maxMembers: MAX_MEMBERS, maxBytes };
      await scanTar(
        decompress(whole.chunks, compression, artifact.url),
        ({ name, type, offset, bytes }) => {
          if (type === "file") return inventory.add(name, offset, bytes);
          if (type !== "directory") inventory.addIrregular(name);
          return undefined;
        },
        limits,
        artifact.url,
      );
    } catch (error) {
      await whole.stop();
      // Bytes that are not the compose's explain whatever else is wrong with them.
      if (error instanceof SlipwayError && (error.code === "corrupt" || error.code === "invalid")) {
        await proveRest(source, artifact, error, call);
      }
      throw error;
    }
    await whole.finish();
    const reader = openTarReader(source, compression);
    return {
      inventory,
      access: reader.access,
      stream: (file, streamCall) => reader.stream(file.offset, file.bytes, streamCall),
      close: () => reader.close(),
    };
  } catch (error) {
    await source.close();
    throw error;
  }
}

/** Hashes what passes by; `finish` reads what the decoder left and compares. */
function proving(source: AsyncIterable<Uint8Array>, artifact: ContainerArtifact) {
  const hash = createHash("sha256");
  const iterator = source[Symbol.asyncIterator]();
  const chunks: AsyncIterable<Uint8Array> = {
    [Symbol.asyncIterator]: () => ({
      async next() {
        const next = await iterator.next();
        if (!next.done) hash.update(next.value);
        return next;
      },
      // A decoder that has had enough closes its input; the rest is still to be hashed.
      return: async () => ({ done: true, value: undefined }),
    }),
  };
  return {
    chunks,
    async finish(): Promise<void> {
      for (let next = await iterator.next(); !next.done; next = await iterator.next()) hash.update(next.value);
      compare(hash.digest("hex"), artifact);
    },
    async stop(): Promise<void> {
      await iterator.return?.();
    },
  };
}

async function proveRest(
  source: ByteSource,
  artifact: ContainerArtifact,
  cause: Error,
  call: CallContext,
): Promise<void> {
  const hash = createHash("sha256");
  for await (const chunk of source.stream(0, call)) hash.update(chunk);
  compare(hash.digest("hex"), artifact, cause);
}

function compare(actual: string, artifact: ContainerArtifact, cause?: Error): void {
  if (actual === artifact.sha256) return;
  throw wrong(artifact, `has SHA-256 ${actual}, its compose's metadata says ${artifact.sha256}`, cause);
}

function wrong(artifact: ContainerArtifact, what: string, cause?: Error): SlipwayError {
  return new SlipwayError("corrupt", `The container archive ${what}`, {
    ...{ subject: artifact.url, cause },
    next: "nothing was pushed; compare the file with its CHECKSUM, the mirror may be behind",
  });
}

function imageOf(found: FoundImage, store: Store): ContainerImage {
  const { manifest, mediaType, platform, blobs, sources } = found;
  return {
    manifest,
    manifestDigest: digestOf(manifest),
    mediaType,
    platform,
    blobs,
    access: store.access,
    async *open(blob, call) {
      const source = sources.get(blob.digest);
      if (!source) throw new SlipwayError("not-found", `The image has no blob ${blob.digest}`);
      const { file, gzip } = source;
      if (file.content && !gzip) yield file.content;
      else {
        const stored = store.stream(file, call);
        yield* proved(gzip ? gzipped(stored) : stored, blob.digest, file.name);
      }
    },
    close: () => store.close(),
  };
}

/** The same bytes as the first time, or an error at the end. */
async function* proved(chunks: AsyncIterable<Uint8Array>, digest: Digest, subject: string): AsyncGenerator<Uint8Array> {
  const hash = createHash("sha256");
  for await (const chunk of chunks) {
    hash.update(chunk);
    yield chunk;
  }
  const actual = `sha256:${hash.digest("hex")}`;
  if (actual !== digest) {
    throw new SlipwayError("corrupt", `The blob ${digest} reads as ${actual}: the archive has changed`, { subject });
  }
}
