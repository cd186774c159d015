import { createHash } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { RegistryState } from "./state.ts";

/** One request that was let in, taken apart. */
export interface Asked {
  readonly state: RegistryState;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly url: URL;
  /** Repository. */
  readonly name: string;
  /** What follows it: a tag, a digest, an upload's id. */
  readonly rest: string;
  readonly body: Buffer;
}

/** An answer that says no, in the specification's words. */
export class Refusal extends Error {
  readonly status: number;
  readonly code: string;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, code: string, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.headers = headers;
  }
}

export function sha256(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

export function checkDigest(text: string | null): string {
  if (text === null || !/^sha256:[0-9a-f]{64}$/.test(text)) {
    throw new Refusal(400, "DIGEST_INVALID", "provided digest is not a sha256 digest");
  }
  return text;
}

export function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "Content-Type": "application/json; charset=utf-8" }).end(JSON.stringify(body));
}

export function sendEmpty(response: ServerResponse, status: number, headers: Readonly<Record<string, string>>): void {
  response.writeHead(status, { ...(status === 204 ? {} : { "Content-Length": "0" }), ...headers }).end();
}
