import type { ErrorLike } from "../model.ts";

/**
 * The one error of Slipway. Callers act on `code`, never on the message; people act on `next`.
 *
 * Every code is a word. The list is closed: a new one is a change of this file, of `docs/errors.md` and of the
 * table of transient codes below.
 */
export const ERROR_CODES = [
  "not-found", // the thing asked for is not there
  "already-exists", // a thing of that name is there and is not ours, or has other bytes
  "invalid", // input breaks a rule (metadata, configuration, arguments, a disk a cloud does not accept)
  "corrupt", // bytes do not match their digest, size or format
  "unsupported", // well-formed, but nothing here or at the cloud can do it
  "forbidden", // credentials are good, the permission is missing
  "unauthenticated", // credentials are missing, wrong or expired
  "quota", // a limit of the account is reached: waiting does not help
  "throttled", // asked too fast: waiting helps
  "unavailable", // the other side is down, slow or unreachable
  "conflict", // the world moved between looking and acting
  "disk-full", // no space in the data directory
  "cancelled", // a person or a lost lease stopped it
  "unknown", // none of the above; repeated because calls converge
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

/** Codes worth another attempt. `unknown` is here because every call converges and attempts are bounded. */
const TRANSIENT: ReadonlySet<ErrorCode> = new Set(["throttled", "unavailable", "unknown"]);

export interface ErrorDetails {
  /** What it happened to: a file, a field, an image, a setting. */
  subject?: string | undefined;
  /** What was tried before giving up, in words: "5 attempts over 40 s". */
  tried?: string | undefined;
  /** What the reader can do next; the command if there is one. */
  next?: string | undefined;
  cause?: unknown;
}

export class SlipwayError extends Error {
  readonly code: ErrorCode;
  readonly subject: string | undefined;
  readonly tried: string | undefined;
  readonly next: string | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = "SlipwayError";
    this.code = code;
    this.subject = details.subject;
    this.tried = details.tried;
    this.next = details.next;
  }
}

/** True for errors that another attempt may cure. Anything that is not ours counts as `unknown`. */
export function isTransient(error: unknown): boolean {
  return TRANSIENT.has(codeOf(error));
}

export function codeOf(error: unknown): ErrorCode {
  if (error instanceof SlipwayError) return error.code;
  if (error instanceof Error && error.name === "AbortError") return "cancelled";
  return "unknown";
}

/** An error as plain data, as it is stored with a run and shown by the console and the CLI. */
export interface ErrorReport extends ErrorLike {
  readonly code: ErrorCode;
}

export function reportOf(error: unknown): ErrorReport {
  const report: { -readonly [Field in keyof ErrorReport]: ErrorReport[Field] } = {
    code: codeOf(error),
    message: error instanceof Error ? error.message : String(error),
  };
  for (const field of ["subject", "tried", "next", "cloud", "operation", "region", "requestId"] as const) {
    const value = (error as Record<string, unknown> | null)?.[field];
    if (typeof value === "string") report[field] = value;
  }
  return report;
}

/** The way back: an error that was stored as data, thrown again with everything it said. */
export function errorFrom(report: ErrorLike): SlipwayError {
  const { code, message, ...details } = report as ErrorReport;
  const known = ERROR_CODES.includes(code) ? code : "unknown";
  const { subject, tried, next, ...place } = details;
  return Object.assign(new SlipwayError(known, message, { subject, tried, next }), place);
}
