import http from "node:http";
import https from "node:https";
import { Transform } from "node:stream";
import { bodyInHand } from "../body.ts";

/** What happens to a request on its way through. */
export interface Detour {
  /** The answer is read and thrown away, and the client's connection cut. */
  readonly loseAnswer?: boolean;
  /** Where a bit is turned over: 0 ≤ position < 1 of the body. */
  readonly flip?: { readonly in: "request" | "response"; readonly at: number };
}

export interface Forwarder {
  forward(request: http.IncomingMessage, response: http.ServerResponse, detour: Detour): void;
  close(): void;
}

/** These belong to one connection and not to the message. */
const HOP_BY_HOP = [
  "connection",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "expect",
];

/**
 * Passes requests to another server as they came, the Host header included: signatures cover it.
 * @param ca PEM of what the upstream's certificate is checked with, when it is not a public one
 */
export function createForwarder(upstream: string, ca?: string): Forwarder {
  const base = new URL(upstream);
  const secure = base.protocol === "https:";
  const agent = secure
    ? new https.Agent({ keepAlive: true, ...(ca === undefined ? {} : { ca }) })
    : new http.Agent({ keepAlive: true });

  function forward(request: http.IncomingMessage, response: http.ServerResponse, detour: Detour): void {
    const path = `${base.pathname.replace(/\/$/, "")}${request.url ?? "/"}`;
    const onward = (secure ? https : http).request(
      {
        agent,
        host: base.hostname,
        port: base.port || (secure ? 443 : 80),
        servername: secure ? base.hostname : undefined,
        method: request.method,
        path,
        headers: passedOn(request.headers),
        setHost: false,
      },
      (answer) => {
        if (detour.loseAnswer === true) {
          answer.on("end", () => response.destroy());
          answer.on("error", () => response.destroy());
          answer.resume();
          return;
        }
        response.writeHead(answer.statusCode ?? 502, passedOn(answer.headers));
        const flipped = detour.flip?.in === "response" ? answer.pipe(bitFlip(sizeOf(answer), detour.flip.at)) : answer;
        flipped.pipe(response);
        answer.on("error", () => response.destroy());
      },
    );
    onward.on("error", () => response.destroy());
    response.on("close", () => {
      // With a lost answer the other side is still to finish; otherwise a client that left takes its request along.
      if (detour.loseAnswer !== true && !response.writableFinished) onward.destroy();
    });
    const body = bodyInHand(request);
    const flip = detour.flip?.in === "request" ? bitFlip(body?.length ?? sizeOf(request), detour.flip.at) : undefined;
    if (flip !== undefined) flip.pipe(onward);
    const target = flip ?? onward;
    if (body !== undefined) target.end(body);
    else request.pipe(target);
    request.on("error", () => onward.destroy());
  }

  return { forward, close: () => agent.destroy() };
}

function passedOn(headers: http.IncomingHttpHeaders): http.OutgoingHttpHeaders {
  const kept = Object.entries(headers).filter(([name]) => !HOP_BY_HOP.includes(name));
  // A body of unknown length stays one: Node chunks it again.
  return Object.fromEntries(kept);
}

function sizeOf(message: http.IncomingMessage): number {
  return Number(message.headers["content-length"] ?? 0);
}

/** Turns one bit over, at a position that depends on nothing but the draw. A body of unknown length: in its first byte. */
function bitFlip(size: number, at: number): Transform {
  const target = Math.floor(at * size);
  const bit = 1 << Math.floor(at * 8);
  let passed = 0;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      const offset = target - passed;
      passed += chunk.length;
      if (offset < 0 || offset >= chunk.length) return done(null, chunk);
      const changed = Buffer.from(chunk);
      changed[offset] = (changed[offset] ?? 0) ^ bit;
      done(null, changed);
    },
  });
}
