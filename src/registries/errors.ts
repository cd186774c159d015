import { type ErrorCode, type ErrorDetails, SlipwayError } from "../lib/errors.ts";

/** Where it happened. The request id is what the registry's operators ask for. */
export interface RegistryErrorDetails extends ErrorDetails {
  /** `quay.io/fedora`. */
  registry: string;
  /** The specification's word for the call: `PUT manifest`, `POST upload`. */
  operation: string;
  status?: number | undefined;
  requestId?: string | undefined;
  /** How long the registry asked to be left alone. */
  retryAfterMs?: number | undefined;
}

/** What a registry driver throws. */
export class RegistryError extends SlipwayError {
  readonly registry: string;
  readonly operation: string;
  readonly status: number | undefined;
  readonly requestId: string | undefined;
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, message: string, details: RegistryErrorDetails) {
    super(code, message, details);
    this.name = "RegistryError";
    this.registry = details.registry;
    this.operation = details.operation;
    this.status = details.status;
    this.requestId = details.requestId;
    this.retryAfterMs = details.retryAfterMs;
  }
}

/** For answers that the distribution specification does not know. Nobody but the registry's operators can mend that. */
export const BREAKS_RULES =
  "nothing was tagged; tell the registry's operators, with the request id: this answer is not the specification's";

/** An answer nobody expected, read far enough to say what it was. */
export interface BadAnswer {
  registry: string;
  operation: string;
  /** What it was about: `fedora:43`, a digest. */
  subject?: string | undefined;
  status: number;
  headers: Readonly<Record<string, string | string[] | undefined>>;
  /** At most a few KiB of it. */
  body: string;
  /** The call was made with credentials. */
  authenticated: boolean;
}

/** Turns an answer into an error. The only place where a status becomes a code. */
export function errorOf(answer: BadAnswer): RegistryError {
  const { registry, operation, status, subject } = answer;
  const said = reasonOf(answer.body);
  const code = codeOf(answer, said.codes);
  const retryAfter = header(answer.headers, "retry-after");
  const what = subject === undefined ? operation : `${operation} ${subject}`;
  return new RegistryError(code, `${registry} answered ${status} to ${what}${said.text ? `: ${said.text}` : ""}`, {
    registry,
    operation,
    status,
    subject,
    requestId: requestIdOf(answer.headers),
    retryAfterMs: retryAfterMs(retryAfter),
    tried: retryAfter ? `the registry asks to wait: Retry-After ${clean(retryAfter, 60)}` : undefined,
    next: adviceFor(code, answer, retryAfter),
  });
}

/** Milliseconds a Retry-After header asks for, given as a number or as a date; undefined if there is none or it makes no sense. */
function retryAfterMs(value: string | undefined, now: number = Date.now()): number | undefined {
  if (!value) return undefined;
  const wait = /^\d{1,6}$/.test(value.trim()) ? Number(value) * 1000 : Date.parse(value) - now;
  return Number.isFinite(wait) ? Math.max(0, wait) : undefined;
}

export function requestIdOf(headers: BadAnswer["headers"]): string | undefined {
  for (const name of ["x-request-id", "docker-request-id", "x-amzn-requestid", "cf-ray"]) {
    const value = header(headers, name);
    if (value) return clean(value, 120);
  }
  return undefined;
}

export function header(headers: BadAnswer["headers"], name: string): string | undefined {
  const value = headers[name];
  return Array.isArray(value) ? value[0] : value;
}

/** Text from the other side, fit for one line of a log: no control characters, bounded. */
export function clean(text: string, limit = 300): string {
  const line = text.replace(/[\p{Cc}\p{Cf}\s]+/gu, " ").trim();
  return line.length > limit ? `${line.slice(0, limit)}…` : line;
}

function codeOf(answer: BadAnswer, said: readonly string[]): ErrorCode {
  const { status } = answer;
  if (status === 401) return lacksScope(answer) || said.includes("DENIED") ? "forbidden" : "unauthenticated";
  if (status === 403) return "forbidden";
  // An upload that was forgotten, or that is elsewhere than we think: it is asked again where it stopped, or begun anew.
  if (status === 416 || said.includes("BLOB_UPLOAD_UNKNOWN")) return "unavailable";
  if (status === 404) return "not-found";
  if (status === 405 || status === 501) return "unsupported";
  if (status === 409 || status === 412) return "conflict";
  if (status === 429 || said.includes("TOOMANYREQUESTS")) return "throttled";
  if (status === 507) return "quota";
  if (said.includes("UNSUPPORTED")) return "unsupported";
  if (said.includes("DENIED")) return "forbidden";
  if (said.includes("DIGEST_INVALID") || said.includes("SIZE_INVALID")) return "corrupt";
  if (status >= 400 && status < 500 && status !== 408) return "invalid";
  if (status >= 500 || status === 408) return "unavailable";
  return "unknown";
}

/** A token was given and was good, but not for this. */
function lacksScope(answer: BadAnswer): boolean {
  return answer.authenticated && /error="?insufficient_scope/.test(header(answer.headers, "www-authenticate") ?? "");
}

function adviceFor(code: ErrorCode, answer: BadAnswer, retryAfter: string | undefined): string | undefined {
  switch (code) {
    case "unauthenticated":
      return answer.authenticated
        ? `the credentials for ${answer.registry} were refused: check user name and password, or whether a robot's token has expired`
        : `give credentials for ${answer.registry} in the configuration`;
    case "forbidden":
      return `give the account of ${answer.registry} permission to push to this repository`;
    case "throttled":
      return retryAfter
        ? `try again after ${clean(retryAfter, 60)}`
        : "try again later, or with fewer transfers at once";
    case "unavailable":
      return "try again; everything that arrived is kept and not sent twice";
    case "unsupported":
      return answer.operation.startsWith("DELETE")
        ? "allow deletion on the registry (docker-registry: storage.delete.enabled)"
        : undefined;
    case "unknown":
      return BREAKS_RULES;
    default:
      return undefined;
  }
}

/** The specification's error body: `{"errors":[{code,message,detail}]}`; anything else is quoted as it is. */
function reasonOf(body: string): { codes: string[]; text: string } {
  try {
    const parsed: unknown = JSON.parse(body);
    const errors = (parsed as { errors?: unknown } | null)?.errors;
    if (Array.isArray(errors)) {
      const seen = errors.slice(0, 5).map((error: unknown) => {
        const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown };
        return { code: typeof code === "string" ? code : "", message: typeof message === "string" ? message : "" };
      });
      return {
        codes: seen.map((error) => error.code),
        text: clean(seen.map((error) => `${error.code} ${error.message}`.trim()).join("; ")),
      };
    }
  } catch {
    // Not JSON: a proxy's page, or docker-registry's plain-text 404.
  }
  return { codes: [], text: clean(body.replace(/<[^>]*>/g, " "), 200) };
}
