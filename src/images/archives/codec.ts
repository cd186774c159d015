import { Readable, type Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip, createGzip, createZstdDecompress } from "node:zlib";
import { SlipwayError } from "../../lib/errors.ts";

export type Compression = "none" | "xz" | "gzip" | "zstd";

const MAGIC: readonly [Compression, readonly number[]][] = [
  ["xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ["gzip", [0x1f, 0x8b]],
  ["zstd", [0x28, 0xb5, 0x2f, 0xfd]],
];

/** What the first bytes say, whatever the file is called. */
export function sniff(head: Uint8Array): Compression {
  return MAGIC.find(([, magic]) => magic.every((byte, at) => head[at] === byte))?.[0] ?? "none";
}

/** The bytes behind the compression. @throws SlipwayError `corrupt`; what the source throws */
export async function* decompress(
  source: AsyncIterable<Uint8Array>,
  compression: Compression,
  subject: string,
): AsyncGenerator<Uint8Array> {
  if (compression === "none") yield* source;
  else yield* through(source, await decoder(compression), (error) => decodeError(error, compression, subject));
}

/**
 * The same bytes for the same input, on the same release of Node: no name and no time in the header, level 6 as
 * skopeo's.
 */
export function gzipped(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  return through(source, createGzip({ level: 6 }), (error) => error);
}

async function decoder(compression: Exclude<Compression, "none">): Promise<Transform> {
  switch (compression) {
    case "gzip":
      return createGunzip();
    case "zstd":
      return createZstdDecompress();
    case "xz": {
      const { createUnxz } = await import("node-liblzma");
      return createUnxz() as NodeJS.ReadWriteStream as Transform;
    }
  }
}

async function* through(
  source: AsyncIterable<Uint8Array>,
  transform: Transform,
  explain: (error: unknown) => unknown,
): AsyncGenerator<Uint8Array> {
  const input = Readable.from(source, { objectMode: false });
  // Its failure reaches the reader through the transform it destroys.
  const flow = pipeline(input, transform).catch(() => {});
  try {
    for await (const chunk of transform) yield chunk as Uint8Array;
  } catch (error) {
    throw explain(error);
  } finally {
    input.destroy();
    transform.destroy();
    await flow;
  }
}

function decodeError(error: unknown, compression: Compression, subject: string): unknown {
  if (error instanceof SlipwayError) return error;
  const cause = error instanceof Error ? error : new Error(String(error));
  return new SlipwayError("corrupt", `The ${compression} data is damaged: ${cause.message}`, { subject, cause });
}
