import { type ErrorCode, SlipwayError } from "../lib/errors.ts";

// SQLSTATE (5 characters or its class of 2) and errno → our code and the way out.
// https://www.postgresql.org/docs/18/errcodes-appendix.html
const KNOWN: Readonly<Record<string, readonly [ErrorCode, string]>> = {
  "53100": ["disk-full", "free space where the database keeps its data"],
  ENOSPC: ["disk-full", "free space in the data directory"],
  "28P01": ["unauthenticated", "check user and password of database.url"],
  "28000": ["unauthenticated", "check user and password of database.url, and the server's pg_hba.conf"],
  "3D000": ["not-found", "create the database first (createdb), or correct its name in database.url"],
  "42501": ["forbidden", "grant the database's user the right to create schemas and tables"],
  "53300": ["unavailable", "raise the server's max_connections, or stop other programs that use it"],
  "25P03": ["unavailable", "the process stood still in a transaction, and the server ended it: try again"],
  "55P03": ["unavailable", "another process holds what is needed: try again"],
  "57P03": ["unavailable", "the server is starting or stopping: try again"],
  "08": ["unavailable", "check that the server runs and can be reached"],
  "57": ["unavailable", "the server closed the connection: try again"],
  "40": ["conflict", "try again"],
  ECONNREFUSED: ["unavailable", "check that the server runs and that host and port of database.url are right"],
  ENOENT: ["unavailable", "check that the server runs and that the socket directory of database.url is right"],
  ENOTFOUND: ["unavailable", "check the host name in database.url"],
  EAI_AGAIN: ["unavailable", "check the host name in database.url and the name server"],
  ETIMEDOUT: ["unavailable", "check that the server can be reached"],
  ECONNRESET: ["unavailable", "try again"],
  EPIPE: ["unavailable", "try again"],
  EHOSTUNREACH: ["unavailable", "check that the server can be reached"],
};

/** True when nothing is wrong but the connection: the same statement may succeed on another one. */
export function isDisconnected(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return databaseError(error).code === "unavailable";
}

/** What pg or the operating system said, as an error of ours. Errors of ours pass unchanged. */
export function databaseError(error: unknown, subject?: string): SlipwayError {
  if (error instanceof SlipwayError) return error;
  const code = String((error as { code?: unknown } | null)?.code ?? "");
  const message = error instanceof Error ? error.message : String(error);
  const known = KNOWN[code] ?? KNOWN[code.slice(0, 2)] ?? byMessage(message);
  return new SlipwayError(known?.[0] ?? "unknown", `the database failed: ${message || code}`, {
    subject,
    next: known?.[1],
    cause: error,
  });
}

// pg makes these itself, without a code.
function byMessage(message: string): readonly [ErrorCode, string] | undefined {
  if (/No space left on device/i.test(message)) return KNOWN.ENOSPC;
  if (
    /Connection terminated|timeout expired|timeout exceeded|Client has encountered a connection error|not queryable/i.test(
      message,
    )
  ) {
    return ["unavailable", "check that the server runs and can be reached"];
  }
  if (/password/i.test(message) && /SASL|must be a string/i.test(message)) return KNOWN["28P01"];
  return undefined;
}
