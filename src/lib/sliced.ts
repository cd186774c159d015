import { Readable } from "node:stream";

/**
 * Whatever is given to a TLS connection at once is copied and encrypted at once, and the ciphertext waits beside it: 4 MiB
 * become twelve while the other side takes its time. Of a body in slices one slice waits.
 */
const SLICE_BYTES = 512 * 1024;

/** Pieces as a body that goes out one slice after the other. Nothing is copied. */
export function slicedBody(pieces: readonly Uint8Array[]): Readable {
  return Readable.from(slices(pieces), { objectMode: true, highWaterMark: 1 });
}

function* slices(pieces: readonly Uint8Array[]): Generator<Uint8Array> {
  for (const piece of pieces) {
    for (let at = 0; at < piece.length; at += SLICE_BYTES) yield piece.subarray(at, at + SLICE_BYTES);
  }
}
