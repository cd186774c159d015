import type { CallContext } from "../../lib/call.ts";
import { SlipwayError } from "../../lib/errors.ts";
import type { ByteSource } from "../byte-source.ts";
import { type Compression, decompress } from "./codec.ts";

/** Reads parts of a tar that was looked through before. */
export interface TarReader {
  readonly access: "random" | "sequential";
  stream(offset: number, bytes: number, call: CallContext): AsyncIterable<Uint8Array>;
  close(): Promise<void>;
}

/** A decoder that stopped somewhere, kept for whoever wants to read on from there. */
interface Parked {
  readonly chunks: AsyncIterator<Uint8Array>;
  readonly rest: Uint8Array;
  /** Of `rest`'s first byte. */
  readonly position: number;
  readonly signal: AbortSignal;
}

/**
 * A plain tar is read by ranges. A compressed one is decoded again from its beginning, without a temporary file; parts
 * read in their order share one decoding.
 */
export function openTarReader(source: ByteSource, compression: Compression): TarReader {
  let parked: Parked | undefined;

  async function unpark(offset: number, call: CallContext): Promise<Parked> {
    const found = parked;
    parked = undefined;
    if (found && found.position <= offset && found.signal === call.signal) return found;
    await found?.chunks.return?.();
    const decoded = decompress(source.stream(0, call), compression, source.url);
    return { chunks: decoded[Symbol.asyncIterator](), rest: new Uint8Array(), position: 0, signal: call.signal };
  }

  async function* decodedPart(offset: number, bytes: number, call: CallContext): AsyncGenerator<Uint8Array> {
    const { chunks, rest: left, position: start, signal } = await unpark(offset, call);
    let rest = left;
    let position = start;
    const end = offset + bytes;
    let reusable = false;
    try {
      while (position < end) {
        if (rest.length === 0) {
          call.signal.throwIfAborted();
          const next = await chunks.next();
          if (next.done) throw new SlipwayError("corrupt", "The archive became shorter", { subject: source.url });
          rest = next.value;
          continue;
        }
        const skip = Math.min(rest.length, Math.max(0, offset - position));
        const part = rest.subarray(skip, Math.min(rest.length, end - position));
        rest = rest.subarray(skip + part.length);
        position += skip + part.length;
        if (part.length > 0) yield part;
      }
      reusable = true;
    } finally {
      if (reusable && !parked) parked = { chunks, rest, position, signal };
      else await chunks.return?.();
    }
  }

  return {
    access: compression === "none" ? "random" : "sequential",
    stream: (offset, bytes, call) =>
      compression === "none" ? source.stream(offset, call, offset + bytes) : decodedPart(offset, bytes, call),
    async close() {
      await parked?.chunks.return?.();
      parked = undefined;
      await source.close();
    },
  };
}
