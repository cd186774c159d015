/** How Google's JSON APIs say no, and yes. */
import type { Answer } from "../azure/exchange.ts";

export class GcpFault extends Error {
  readonly status: number;
  readonly reason: string;
  constructor(status: number, reason: string, message: string) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

/** @see https://cloud.google.com/storage/docs/json_api/v1/status-codes */
export function faultAnswer({ status, reason, message }: GcpFault): Answer {
  const error = { code: status, message, errors: [{ domain: "global", reason, message }] };
  return json({ error }, status);
}

export function json(body: object, status = 200, headers: Record<string, string> = {}): Answer {
  return {
    status,
    headers: { "content-type": "application/json; charset=UTF-8", ...headers },
    body: JSON.stringify(body),
  };
}

export const notFound = (what: string) => new GcpFault(404, "notFound", `${what} was not found`);
export const notBuilt = (what: string) =>
  new GcpFault(501, "notImplemented", `The simulated Google Cloud has no ${what}.`);
