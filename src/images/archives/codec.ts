import { Readable, type Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip, createGzip, createZstdDecompress } from "node:zlib";
import { SlipwayError } from "../../lib/errors.ts";
import { MiB } from "../../lib/units.ts";

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
  else if (compression === "xz") {
    const guarded = refuseHugeDictionary(source, subject);
    yield* through(guarded, await decoder(compression), (error) => decodeError(error, compression, subject));
  } else yield* through(source, await decoder(compression), (error) => decodeError(error, compression, subject));
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

/** xz's presets end at 64 MiB. The binding sets no limit of its own, so the first block's header is asked. */
const MAX_DICTIONARY_BYTES = 96 * MiB;
const STREAM_HEADER_BYTES = 12;
const LZMA2 = 0x21;

async function* refuseHugeDictionary(source: AsyncIterable<Uint8Array>, subject: string): AsyncGenerator<Uint8Array> {
  let head: Buffer | undefined = Buffer.alloc(0);
  for await (const chunk of source) {
    if (head) {
      head = Buffer.concat([head, chunk.subarray(0, 2048)]);
      const size = head[STREAM_HEADER_BYTES];
      const header = head.subarray(STREAM_HEADER_BYTES, STREAM_HEADER_BYTES + ((size ?? 0) + 1) * 4);
      if (size !== undefined && header.length === (size + 1) * 4) {
        const dictionary = dictionaryOf(header);
        if (dictionary > MAX_DICTIONARY_BYTES) {
          throw new SlipwayError("unsupported", `The xz data wants a dictionary of ${dictionary} bytes`, {
            subject,
            next: `compress it with xz -9 or less; ${MAX_DICTIONARY_BYTES} bytes are allowed`,
          });
        }
        head = undefined;
      }
    }
    yield chunk;
  }
}

/** Bytes an xz block's header asks for; 0 if it names no LZMA2, or is an index. Damage is the decoder's to find. */
function dictionaryOf(header: Buffer): number {
  const flags = header[1] ?? 0;
  let at = 2;
  const skipNumber = () => {
    while (at < header.length && header[at++]! >= 0x80);
  };
  if (flags & 0x40) skipNumber();
  if (flags & 0x80) skipNumber();
  for (let filter = 0; filter <= (flags & 3); filter++) {
    const id = header[at];
    skipNumber();
    const propertyBytes = header[at] ?? 0;
    skipNumber();
    const bits = header[at] ?? 0;
    if (id === LZMA2) return bits >= 40 ? 2 ** 32 : (2 | (bits & 1)) * 2 ** (Math.floor(bits / 2) + 11);
    at += propertyBytes;
  }
  return 0;
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
