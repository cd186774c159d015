import { promisify } from "node:util";
import { zstdCompress, zstdDecompressSync } from "node:zlib";
import type pg from "pg";
import type { Log, LogFields } from "../lib/call.ts";
import { KiB, MiB } from "../lib/units.ts";
import type { Json } from "../model.ts";
import { masked } from "./errors.ts";
import type { Lease } from "./lease.ts";
import { GUARD } from "./lease.ts";
import { CHANGES } from "./migrations.ts";
import type { LogLine, LogPage } from "./types.ts";

const compress = promisify(zstdCompress);

// A line every now and then is seen within this; a flood goes out in chunks that compress well.
const FLUSH_MS = 500;
const CHUNK_BYTES = 64 * KiB;
const LINE_BYTES = 16 * KiB;
// What one attempt may write. A loop that logs every request must not fill the database.
const ATTEMPT_BYTES = 16 * MiB;
// Kept in memory while the database cannot be reached.
const PENDING_BYTES = 4 * MiB;
const CHUNKS_PER_PAGE = 200;

export interface LogPlace {
  readonly run: string;
  readonly root: string;
  readonly step?: string;
  readonly attempt?: number;
}

interface Pending {
  readonly place: LogPlace;
  lines: string[];
  bytes: number;
}

/**
 * Writes log lines as compressed chunks per attempt, soon enough to be read while the attempt runs. A line is kept
 * without waiting: what was logged in the last half second before a kill is lost, and nothing else.
 */
export class LogWriter {
  readonly #pool: pg.Pool;
  readonly #executor: string;
  readonly #lease: Lease;
  readonly #mask: (text: string) => string;
  #pending: Pending[] = [];
  #pendingBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #flushing: Promise<void> = Promise.resolve();

  constructor(pool: pg.Pool, executor: string, lease: Lease, mask: (text: string) => string) {
    this.#pool = pool;
    this.#executor = executor;
    this.#lease = lease;
    this.#mask = mask;
  }

  /** A log for one attempt of a step, or for the workflow itself. */
  at(place: LogPlace): Log {
    let written = 0;
    const write = (level: LogLine["level"], message: string, fields?: LogFields) => {
      if (written > ATTEMPT_BYTES) return;
      let line = this.#line(level, message, fields);
      written += line.length;
      if (written > ATTEMPT_BYTES) line = this.#line("warn", "this log is too long: the rest is left out");
      this.#add(place, line);
    };
    return {
      debug: (message, fields) => write("debug", message, fields),
      info: (message, fields) => write("info", message, fields),
      warn: (message, fields) => write("warn", message, fields),
      error: (message, fields) => write("error", message, fields),
    };
  }

  /** Resolves when everything logged before the call is in the database, or was given up. */
  flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const chunks = this.#pending;
    this.#pending = [];
    this.#pendingBytes = 0;
    // One after the other, so that the chunks of an attempt keep their order.
    this.#flushing = this.#flushing.then(() => this.#store(chunks)).catch(() => this.#keep(chunks));
    return this.#flushing;
  }

  #line(level: LogLine["level"], message: string, fields?: LogFields): string {
    const at = Date.now();
    const line = (more?: Json) => JSON.stringify({ at, level, message: this.#mask(message), fields: more });
    const full = line(fields === undefined ? undefined : masked(asJson(fields), this.#mask));
    if (full.length <= LINE_BYTES) return full;
    return JSON.stringify({
      at,
      level,
      message: this.#mask(message).slice(0, LINE_BYTES / 2),
      fields: { cut: full.length },
    });
  }

  #add(place: LogPlace, line: string): void {
    const last = this.#pending.findLast((pending) => samePlace(pending.place, place));
    if (last && last.bytes < CHUNK_BYTES) {
      last.lines.push(line);
      last.bytes += line.length;
    } else this.#pending.push({ place, lines: [line], bytes: line.length });
    this.#pendingBytes += line.length;
    if (this.#pendingBytes > CHUNK_BYTES) void this.flush();
    else this.#timer ??= setTimeout(() => void this.flush(), FLUSH_MS).unref();
  }

  #keep(chunks: Pending[]): void {
    const bytes = chunks.reduce((sum, chunk) => sum + chunk.bytes, this.#pendingBytes);
    if (bytes > PENDING_BYTES || !this.#lease.held()) return;
    this.#pending = [...chunks, ...this.#pending];
    this.#pendingBytes = bytes;
    this.#timer ??= setTimeout(() => void this.flush(), FLUSH_MS).unref();
  }

  async #store(chunks: Pending[]): Promise<void> {
    if (chunks.length === 0) return;
    const packed = await Promise.all(chunks.map((chunk) => compress(`${chunk.lines.join("\n")}\n`)));
    const client = await this.#pool.connect();
    try {
      await client.query("BEGIN");
      // Readers go by `seq` and would miss a chunk that becomes visible after a higher one.
      await client.query("SELECT pg_advisory_xact_lock(hashtextextended('slipway logs', 0))");
      for (const [index, { place }] of chunks.entries()) {
        await client.query(`INSERT INTO run_logs (run, step, attempt, chunk) SELECT $3, $4, $5, $6 WHERE ${GUARD}`, [
          this.#executor,
          this.#lease.epoch,
          place.run,
          place.step ?? null,
          place.attempt ?? null,
          packed[index],
        ]);
      }
      for (const root of new Set(chunks.map((chunk) => chunk.place.root))) {
        await client.query("SELECT pg_notify($1, $2)", [CHANGES, root]);
      }
      await client.query("COMMIT");
    } catch (error) {
      await client.query("ROLLBACK").catch(() => {});
      throw error;
    } finally {
      client.release();
    }
  }
}

/** Lines of the runs given, in the order they were stored, from the cursor on. */
export async function readLogs(pool: pg.Pool, runs: readonly string[], after: string | undefined): Promise<LogPage> {
  const { rows } = await pool.query<{
    seq: string;
    run: string;
    step: string | null;
    attempt: number | null;
    chunk: Buffer;
  }>(
    `SELECT seq, run, step, attempt, chunk FROM run_logs WHERE run = ANY($1) AND seq > $2::bigint ORDER BY seq LIMIT $3`,
    [runs, /^\d{1,18}$/.test(after ?? "") ? after : "0", CHUNKS_PER_PAGE],
  );
  const lines: LogLine[] = [];
  for (const { run, step, attempt, chunk } of rows) {
    const where = { run, ...(step === null ? {} : { step }), ...(attempt === null ? {} : { attempt }) };
    for (const text of zstdDecompressSync(chunk, { maxOutputLength: 4 * MiB })
      .toString("utf8")
      .split("\n")) {
      if (text !== "") lines.push({ ...(JSON.parse(text) as Omit<LogLine, "run">), ...where });
    }
  }
  return { lines, next: rows.at(-1)?.seq ?? after ?? "0" };
}

function samePlace(a: LogPlace, b: LogPlace): boolean {
  return a.run === b.run && a.step === b.step && a.attempt === b.attempt;
}

// Fields come from anywhere: errors, big numbers and circles must not break the log.
function asJson(fields: LogFields): Json {
  try {
    return JSON.parse(
      JSON.stringify(fields, (_key, value: unknown) => {
        if (typeof value === "bigint") return String(value);
        if (value instanceof Error) return { name: value.name, message: value.message };
        return value;
      }),
    ) as Json;
  } catch {
    return { unprintable: true };
  }
}
