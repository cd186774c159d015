/** One request as the simulator sees it, and one answer as it gives it. Knows HTTP and no Azure service. */
import { randomUUID } from "node:crypto";
import type http from "node:http";

export interface Exchange {
  readonly method: string;
  /** `https://host:port`, as the client addressed us: links in answers are built on it. */
  readonly origin: string;
  /** Host without the port, lower case. */
  readonly host: string;
  /** Decoded path segments, without the empty first. */
  readonly path: readonly string[];
  /** The path as it came, still encoded: signatures are made over it. */
  readonly rawPath: string;
  readonly query: URLSearchParams;
  readonly headers: http.IncomingHttpHeaders;
  /** Header names and values alternating, in the client's own capitals: metadata keeps them. */
  readonly rawHeaders: readonly string[];
  readonly body: Buffer;
  readonly requestId: string;
  /** Milliseconds since 1970, the simulator's clock. */
  readonly now: number;
}

export interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string | number | undefined>>;
  /** A generator is sent piece by piece and waits for a slow reader. */
  readonly body?: string | Uint8Array | AsyncIterable<Uint8Array>;
}

/** What is read of a refused body so that the client hears the answer instead of a reset. */
const DRAIN_BYTES = 64 * 1024 * 1024;

export class BodyTooLarge extends Error {}

/** What is known of a request before its body is read. */
export type ExchangeHead = Omit<Exchange, "body">;

/**
 * Reads one request whole.
 * @param limit most body bytes accepted
 * @throws BodyTooLarge; URIError for a path that is no UTF-8
 */
export async function readExchange(request: http.IncomingMessage, limit: number, now: number): Promise<Exchange> {
  return { ...readHead(request, now), body: await readBody(request, limit) };
}

/** For a body that is taken as it comes. @throws URIError for a path that is no UTF-8 */
export function readHead(request: http.IncomingMessage, now: number): ExchangeHead {
  // Always https: the client came that way even where a proxy in this process passes the request on without TLS.
  const url = new URL(request.url ?? "/", `https://${request.headers.host ?? "localhost"}`);
  const rawPath = (request.url ?? "/").split("?", 1)[0] ?? "/";
  return {
    method: request.method ?? "GET",
    origin: url.origin,
    host: url.hostname.toLowerCase(),
    path: rawPath.split("/").slice(1).map(decodeURIComponent),
    rawPath,
    query: url.searchParams,
    headers: request.headers,
    rawHeaders: request.rawHeaders,
    requestId: randomUUID(),
    now,
  };
}

async function readBody(request: http.IncomingMessage, limit: number): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of request as AsyncIterable<Buffer>) {
    bytes += piece.length;
    if (bytes <= limit) pieces.push(piece);
    else if (bytes > limit + DRAIN_BYTES) break;
  }
  if (bytes > limit) throw new BodyTooLarge(`A body of more than ${limit} bytes.`);
  return pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces);
}

/** Sends an answer. Errors of a client that went away are its own business. */
export async function send(response: http.ServerResponse, answer: Answer): Promise<void> {
  for (const [name, value] of Object.entries(answer.headers ?? {})) {
    if (value !== undefined) response.setHeader(name, value);
  }
  response.statusCode = answer.status;
  const { body } = answer;
  if (body === undefined || typeof body === "string" || body instanceof Uint8Array) {
    if (body !== undefined && !response.hasHeader("content-length")) {
      response.setHeader("content-length", Buffer.byteLength(body));
    } else if (body === undefined && !response.hasHeader("content-length") && answer.status !== 204) {
      response.setHeader("content-length", 0);
    }
    response.end(body);
    return;
  }
  for await (const piece of body) {
    if (response.destroyed) return;
    if (!response.write(piece)) await writable(response);
  }
  response.end();
}

function writable(response: http.ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      response.off("drain", done);
      response.off("close", done);
      resolve();
    };
    response.on("drain", done);
    response.on("close", done);
  });
}

/** One header as one string; undefined when absent or empty. */
export function header(exchange: Pick<Exchange, "headers">, name: string): string | undefined {
  const value = exchange.headers[name];
  const text = Array.isArray(value) ? value.join(",") : value;
  return text === undefined || text === "" ? undefined : text;
}

/** A whole number ≥ 0 written in plain digits; undefined for anything else. */
export function wholeNumber(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d{1,16}$/.test(text)) return undefined;
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : undefined;
}
