/** Reading what a stranger sends: no more than is allowed of one call, and no more than is allowed of all of them at once. */

/** Bytes of a call, or the reason there are none. Nothing is thrown. */
export type ReadBody = Buffer | "too-large" | "busy" | "cut-off";

export interface BodyReader {
  /**
   * @param body left where it is when the answer is no: neither read to its end nor destroyed, so that the caller can
   *   still send the answer on the same connection
   * @param declared the header `content-length`: refuses before a byte is read
   * @param use holds the bytes; they are counted as held until it ends
   */
  read<T>(
    body: AsyncIterable<Uint8Array> | Buffer,
    declared: string | undefined,
    use: (read: ReadBody) => Promise<T>,
  ): Promise<T>;
}

export interface BodyLimits {
  /** Bytes of one call. */
  readonly mostBytes: number;
  /** Bytes of all calls being read or handled. Nobody has proved anything yet while they are read. */
  readonly mostHeldBytes: number;
}

/** What a piece costs beside its bytes: a body of pieces of one byte must not weigh a hundred times what it says. */
const PIECE_BYTES = 256;

type Problem = "too-large" | "busy";

export function createBodyReader({ mostBytes, mostHeldBytes }: BodyLimits): BodyReader {
  let held = 0;

  return {
    async read(body, declared, use) {
      let mine = 0;
      const hold = (bytes: number): Problem | undefined => {
        if (held + bytes > mostHeldBytes) return "busy";
        mine += bytes;
        held += bytes;
        return undefined;
      };
      try {
        return await use(await collect(body, declared, hold));
      } finally {
        held -= mine;
      }
    },
  };

  async function collect(
    body: AsyncIterable<Uint8Array> | Buffer,
    declared: string | undefined,
    hold: (bytes: number) => Problem | undefined,
  ): Promise<ReadBody> {
    if (Number(declared) > mostBytes) return "too-large";
    if (Buffer.isBuffer(body)) return body.length > mostBytes ? "too-large" : (hold(body.length) ?? body);
    const pieces: Uint8Array[] = [];
    let bytes = 0;
    try {
      // Not `for await`: leaving that destroys a stream, and the connection with it.
      const reading = body[Symbol.asyncIterator]();
      for (;;) {
        const next = await reading.next();
        if (next.done) return Buffer.concat(pieces);
        bytes += next.value.length;
        const problem = bytes > mostBytes ? "too-large" : hold(next.value.length + PIECE_BYTES);
        if (problem !== undefined) return problem;
        pieces.push(next.value);
      }
    } catch {
      return "cut-off";
    }
  }
}
