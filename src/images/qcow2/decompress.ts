/** One compressed cluster of a qcow2 file: a raw deflate stream or a zstd frame, with padding or a neighbour after it. */
import { constants, inflateRaw, zstdDecompress } from "node:zlib";
import { SlipwayError } from "../../lib/errors.ts";

/** QEMU deflates with a window of 4 KiB; a larger one reads that too. */
const WINDOW_BITS = 15;
/** A frame may ask for a window of 8 MiB, twice what any level takes for a cluster. What wants more is an attack. */
const ZSTD_WINDOW_LOG = 23;

/**
 * In libuv's threads, so several go on side by side.
 * @param clusterBytes what it must decode to, exactly
 * @throws SlipwayError `corrupt`
 */
export async function decompressCluster(
  kind: "deflate" | "zstd",
  data: Buffer,
  clusterBytes: number,
  place: { readonly at: number; readonly url: string },
): Promise<Buffer> {
  const corrupt = (why: string, cause?: unknown) =>
    new SlipwayError("corrupt", `The compressed cluster at byte ${place.at} is damaged: ${why}.`, {
      subject: place.url,
      next: "Fetch or build the image anew; `qemu-img check FILE` tells more. Nothing was committed.",
      cause,
    });
  const decoded = await new Promise<Buffer>((resolve, reject) => {
    const done = (error: Error | null, result: Buffer) => {
      if (error) reject(corrupt(error.message, error));
      else resolve(result);
    };
    if (kind === "deflate") {
      // Like QEMU: a stream that has given the whole cluster need not say that it ends.
      const options = { windowBits: WINDOW_BITS, chunkSize: clusterBytes + 64, finishFlush: constants.Z_SYNC_FLUSH };
      inflateRaw(data, { ...options, maxOutputLength: clusterBytes }, done);
      return;
    }
    const frame = zstdFrameBytes(data);
    if (frame === undefined) throw corrupt("it is no whole zstd frame");
    const params = { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG };
    zstdDecompress(
      data.subarray(0, frame),
      { params, chunkSize: clusterBytes + 64, maxOutputLength: clusterBytes },
      done,
    );
  });
  if (decoded.length !== clusterBytes) throw corrupt(`it decodes to ${decoded.length} bytes of ${clusterBytes}`);
  return decoded;
}

/**
 * Bytes of the frame at the beginning of `data`; undefined if there is none, or not all of it.
 * @see https://www.rfc-editor.org/rfc/rfc8878#section-3.1.1
 */
export function zstdFrameBytes(data: Buffer): number | undefined {
  if (data.length < 6 || data.readUInt32LE(0) !== 0xfd2f_b528) return undefined;
  const descriptor = data[4]!;
  const single = (descriptor & 0x20) !== 0;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3]!;
  const sizeBytes = [single ? 1 : 0, 2, 4, 8][descriptor >> 6]!;
  let at = 5 + (single ? 0 : 1) + dictionaryBytes + sizeBytes;
  for (let last = false; !last; ) {
    if (at + 3 > data.length) return undefined;
    const header = data.readUIntLE(at, 3);
    last = (header & 1) === 1;
    const kind = (header >> 1) & 3;
    if (kind === 3) return undefined;
    // A repeated byte is stored once, whatever its size.
    at += 3 + (kind === 1 ? 1 : header >> 3);
  }
  if (descriptor & 4) at += 4;
  return at <= data.length ? at : undefined;
}
