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
  /** How long bodies wait for their turn on a narrow line: milliseconds for so many bytes. */
  readonly narrow?: readonly {
    readonly in?: "request" | "response" | undefined;
    readonly wait: (bytes: number) => number;
  }[];
  /** The request goes on without what proves who sent it. */
  readonly anonymous?: boolean;
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
        headers: { ...passedOn(request.headers, detour.anonymous), ...forwardedProto(request) },
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
        const flip = detour.flip?.in === "response" ? [bitFlip(sizeOf(answer), detour.flip.at)] : [];
        const [first, ...rest] = [...flip, ...narrowings(detour, "response"), response];
        rest.reduce<NodeJS.WritableStream>((from, to) => (from as Transform).pipe(to), answer.pipe(first!));
        answer.on("error", () => response.destroy());
      },
    );
    onward.on("error", () => response.destroy());
    response.on("close", () => {
      // With a lost answer the other side is still to finish; otherwise a client that left takes its request along.
      if (detour.loseAnswer !== true && !response.writableFinished) onward.destroy();
    });
    const body = bodyInHand(request);
    const size = body?.length ?? sizeOf(request);
    const flip = detour.flip?.in === "request" ? [bitFlip(size, detour.flip.at)] : [];
    const stages: (Transform | http.ClientRequest)[] = [...flip, ...narrowings(detour, "request"), onward];
    for (let n = 0; n < stages.length - 1; n++) (stages[n] as Transform).pipe(stages[n + 1]!);
    const target = stages[0]!;
    if (body !== undefined) target.end(body);
    else request.pipe(target);
    request.on("error", () => onward.destroy());
  }

  return { forward, close: () => agent.destroy() };
}

/** No signature covers it, and who makes addresses of its own for clients has to know. */
function forwardedProto(request: http.IncomingMessage): http.OutgoingHttpHeaders {
  return { "x-forwarded-proto": "encrypted" in request.socket ? "https" : "http" };
}

function passedOn(headers: http.IncomingHttpHeaders, anonymous = false): http.OutgoingHttpHeaders {
  const kept = Object.entries(headers).filter(
    ([name]) => !HOP_BY_HOP.includes(name) && !(anonymous && name === "authorization"),
  );
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

function narrowings({ narrow = [] }: Detour, direction: "request" | "response"): Transform[] {
  return narrow.filter((one) => (one.in ?? direction) === direction).map(({ wait }) => slowly(wait));
}

/** Bodies pass in pieces of at most this: a second's worth at once would be no pace. */
const PIECE_BYTES = 64 * 1024;

function slowly(wait: (bytes: number) => number): Transform {
  let timer: NodeJS.Timeout | undefined;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      const next = (from: number) => {
        if (from >= chunk.length) return done();
        const piece = chunk.subarray(from, from + PIECE_BYTES);
        timer = setTimeout(() => {
          this.push(piece);
          next(from + piece.length);
        }, wait(piece.length));
      };
      next(0);
    },
    destroy(error, done) {
      clearTimeout(timer);
      done(error);
    },
  });
}
