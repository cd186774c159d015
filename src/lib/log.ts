import { inspect } from "node:util";
import type { Log, LogFields } from "./call.ts";

const LEVELS = ["debug", "info", "warn", "error"] as const;
type Level = (typeof LEVELS)[number];

/**
 * The process's own log: one JSON object a line on stderr. What a run says goes into the run's log instead.
 * Callers keep secrets out of messages and fields.
 */
export function createLog(from: Level): Log {
  const write = (level: Level) => (message: string, fields?: LogFields) => {
    if (LEVELS.indexOf(level) < LEVELS.indexOf(from)) return;
    const facts = { time: new Date().toISOString(), level, message };
    // First for the order, last because no field may pass for one of them.
    process.stderr.write(`${toLine({ ...facts, ...fields, ...facts })}\n`);
  };
  return { debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") };
}

function toLine(entry: object): string {
  try {
    return JSON.stringify(entry, (_, value: unknown) =>
      value instanceof Error ? { name: value.name, message: value.message } : value,
    );
  } catch {
    // A cycle or a BigInt: better badly written than lost.
    return JSON.stringify({ unprintable: inspect(entry, { breakLength: Number.POSITIVE_INFINITY }).slice(0, 10_000) });
  }
}
