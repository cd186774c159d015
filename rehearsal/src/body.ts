import type http from "node:http";

/** Bodies that were read to look at them, so that whoever answers the request need not read it a second time. */
const read = new WeakMap<http.IncomingMessage, Buffer>();

export class BodyTooLarge extends Error {}

/**
 * The whole body, into one buffer of its announced size. May be called again for the same request.
 * @throws BodyTooLarge beyond `limit` bytes; Error when the client hangs up.
 */
export async function readBody(request: http.IncomingMessage, limit: number): Promise<Buffer> {
  const known = read.get(request);
  if (known !== undefined) return known;
  const announced = Number(request.headers["content-length"] ?? -1);
  if (announced > limit) throw new BodyTooLarge(`${announced} bytes announced, at most ${limit} are taken`);
  const body = announced >= 0 ? await fill(request, announced) : await collect(request, limit);
  read.set(request, body);
  return body;
}

/** The body if someone has read it already. */
export function bodyInHand(request: http.IncomingMessage): Buffer | undefined {
  return read.get(request);
}

function fill(request: http.IncomingMessage, size: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const body = Buffer.allocUnsafeSlow(size);
    let at = 0;
    request.on("data", (chunk: Buffer) => {
      at += chunk.copy(body, at);
    });
    request.on("end", () => resolve(body.subarray(0, at)));
    request.on("error", reject);
    request.on("close", () => reject(new Error("the client hung up in the middle of its body")));
  });
}

function collect(request: http.IncomingMessage, limit: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    request.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size > limit) reject(new BodyTooLarge(`more than ${limit} bytes`));
      else chunks.push(chunk);
    });
    request.on("end", () => resolve(Buffer.concat(chunks)));
    request.on("error", reject);
    request.on("close", () => reject(new Error("the client hung up in the middle of its body")));
  });
}
