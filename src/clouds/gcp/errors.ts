/** Google's errors in the words of the closed list: the one place that reads the shape of their JSON. */
import type { ErrorCode } from "../../lib/errors.ts";
import { CloudError } from "../errors.ts";

export interface Refusal {
  readonly status: number;
  /** `reason` of the JSON APIs, `code` of an operation's error, `error` of the token endpoint. */
  readonly reason: string;
  readonly message: string;
}

export interface Ask {
  /** The vendor's name of the call: `images.insert`. */
  readonly operation: string;
  readonly subject?: string | undefined;
  /** Default: the pace's callDeadline. */
  readonly deadline?: number | undefined;
}

const BY_REASON: Readonly<Record<string, ErrorCode>> = {
  quotaExceeded: "quota",
  QUOTA_EXCEEDED: "quota",
  rateLimitExceeded: "throttled",
  userRateLimitExceeded: "throttled",
  concurrentLimitExceeded: "throttled",
  authError: "unauthenticated",
  invalid_grant: "unauthenticated",
  invalid_client: "unauthenticated",
  RESOURCE_NOT_FOUND: "not-found",
  RESOURCE_ALREADY_EXISTS: "already-exists",
  RESOURCE_NOT_READY: "unavailable",
  INTERNAL_ERROR: "unavailable",
  ZONE_RESOURCE_POOL_EXHAUSTED: "unavailable",
  notImplemented: "unsupported",
};

const BY_STATUS: Readonly<Record<number, ErrorCode>> = {
  400: "invalid",
  401: "unauthenticated",
  403: "forbidden",
  404: "not-found",
  408: "unavailable",
  409: "conflict",
  410: "not-found",
  412: "conflict",
  416: "invalid",
  429: "throttled",
  501: "unsupported",
};

/** @see https://cloud.google.com/storage/docs/json_api/v1/status-codes */
export function refused(refusal: Refusal, ask: Ask, requestId?: string): CloudError {
  const { status, reason, message } = refusal;
  const code = BY_REASON[reason] ?? BY_STATUS[status] ?? (status >= 500 ? "unavailable" : "unknown");
  const permission = /'([a-z]+\.[a-zA-Z]+\.[a-zA-Z]+)'/.exec(message)?.[1];
  return new CloudError(
    code,
    `Google Cloud refused ${ask.operation}: ${oneLine(message || reason || `status ${status}`)}`,
    {
      cloud: "gcp",
      operation: ask.operation,
      requestId,
      subject: code === "forbidden" ? (permission ?? ask.subject) : ask.subject,
      next: adviceFor(code, permission),
    },
  );
}

/** No answer came. OpenSSL's words for a certificate that is not to be trusted mean that repeating helps nobody. */
export function unreachable(error: unknown, ask: Ask): CloudError {
  const code = String((error as { code?: unknown } | null)?.code ?? "");
  const untrusted = /CERT|^UNABLE_TO_|^HOSTNAME_MISMATCH$/.test(code);
  return new CloudError(
    untrusted ? "invalid" : "unavailable",
    `No answer to ${ask.operation} came: ${code || "the connection broke"}.`,
    {
      cloud: "gcp",
      operation: ask.operation,
      subject: ask.subject,
      next: untrusted
        ? "Add the authority that signed the server's certificate to the target's ca_file."
        : "Check the way to Google Cloud from here (proxy, firewall); the step is repeated.",
    },
  );
}

function adviceFor(code: ErrorCode, permission: string | undefined): string | undefined {
  switch (code) {
    case "unauthenticated":
      return "Check the service account's key and this machine's clock; make a new key where it was deleted or has expired.";
    case "forbidden":
      return `Grant ${permission ?? "the missing permission"} to the service account on the project or the bucket.`;
    case "quota":
      return "Remove old images or ask Google to raise the project's quota.";
    case "throttled":
      return "Wait; the step is repeated.";
    case "unavailable":
      return "Look at https://status.cloud.google.com if it lasts; the step is repeated.";
    default:
      return undefined;
  }
}

const MESSAGE_LENGTH = 600;

function oneLine(message: string): string {
  const line = message
    .replace(/Bearer [\w.~+/=-]+/g, "Bearer …")
    .replace(/\s+/g, " ")
    .trim();
  return line.length > MESSAGE_LENGTH ? `${line.slice(0, MESSAGE_LENGTH)}…` : line;
}

/** Reads `{error: {…}}` of the APIs and `{error, error_description}` of the token endpoint. */
export function refusalOf(status: number, body: unknown): Refusal {
  const { error, error_description: said } = record(body);
  if (typeof error === "string") return { status, reason: error, message: text(said) };
  const { message, errors, status: word } = record(error);
  const first = record(Array.isArray(errors) ? errors[0] : undefined);
  return { status, reason: text(first.reason) || text(word), message: text(message) };
}

export function record(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
