/** What accompanies every call that may take time: how to stop it, and where its story is told. */
export interface CallContext {
  /** Aborted on cancel, on a lost lease and on the step's deadline. Always honoured. */
  readonly signal: AbortSignal;
  readonly log: Log;
}

/** Structured log: a constant message (from warning up), the facts in fields. Never a secret. */
export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

export type LogFields = Readonly<Record<string, unknown>>;

export const silent: Log = { debug() {}, info() {}, warn() {}, error() {} };

/** A context for tests and one-off calls: never aborted, says nothing. */
export function quietCall(signal: AbortSignal = new AbortController().signal): CallContext {
  return { signal, log: silent };
}
