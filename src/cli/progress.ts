/**
 * Progress for people who watch: bars that are redrawn on a terminal, and elsewhere a line when something begins, ends
 * or has come another ten per cent, because a log full of bars helps nobody.
 */
import { bytes, duration, harmless, type Paint, visible } from "./output.ts";

export interface ProgressRow {
  readonly id: string;
  readonly label: string;
  readonly state: "waiting" | "running" | "done" | "failed";
  /** What it does at the moment: a step's name, a count of regions, an error's first words. */
  readonly note?: string | undefined;
  readonly doneBytes?: number | undefined;
  readonly totalBytes?: number | undefined;
  readonly bytesPerSecond?: number | undefined;
}

export interface ProgressView {
  /** Shows this state of all rows; rows keep the order in which they came. */
  update(rows: readonly ProgressRow[]): void;
  /** A line above the bars that stays. */
  line(text: string): void;
  end(): void;
}

const ESCAPE = "\x1b";
const STYLE = new RegExp(`(${ESCAPE}\\[[0-9;]*m)`);
const SYMBOLS = { waiting: "○", running: "●", done: "✔", failed: "✖" } as const;

export function createProgress(stream: NodeJS.WriteStream, paint: Paint): ProgressView {
  return stream.isTTY === true ? terminalProgress(stream, paint) : plainProgress(stream);
}

function terminalProgress(stream: NodeJS.WriteStream, paint: Paint): ProgressView {
  let drawn = 0;
  let latest: readonly ProgressRow[] = [];
  const erase = () => {
    if (drawn > 0) stream.write(`\x1b[${drawn}A\x1b[0J`);
    drawn = 0;
  };
  const draw = () => {
    const width = stream.columns ?? 80;
    // More rows than the screen has cannot be redrawn in place: those that are done give way first.
    const room = Math.max(4, (stream.rows ?? 24) - 2);
    const rows = latest.length <= room ? latest : latest.filter((row) => row.state !== "done").slice(0, room);
    for (const row of rows) stream.write(`${shorten(formatRow(row, width, paint), width)}\n`);
    drawn = rows.length;
  };
  return {
    update(rows) {
      latest = rows;
      erase();
      draw();
    },
    line(text) {
      erase();
      stream.write(`${text}\n`);
      draw();
    },
    end() {
      drawn = 0;
      latest = [];
    },
  };
}

function plainProgress(stream: NodeJS.WriteStream): ProgressView {
  const told = new Map<string, string>();
  return {
    update(rows) {
      for (const row of rows) {
        const tenth = percent(row) === undefined ? undefined : Math.floor(percent(row)! / 10) * 10;
        const key = `${row.state} ${row.state === "running" ? (tenth ?? row.note ?? "") : ""}`;
        if (row.state === "waiting" || told.get(row.id) === key) continue;
        // Between two steps there is nothing to tell.
        if (row.state === "running" && row.note === undefined && told.has(row.id)) continue;
        told.set(row.id, key);
        const amount = tenth === undefined ? "" : ` ${tenth}% of ${bytes(row.totalBytes!)}`;
        stream.write(
          `${row.state.padEnd(7)} ${row.label}${amount}${row.note === undefined ? "" : ` (${oneLine(row.note)})`}\n`,
        );
      }
    },
    line: (text) => void stream.write(`${text}\n`),
    end() {},
  };
}

function formatRow(row: ProgressRow, width: number, paint: Paint): string {
  const colour = { waiting: paint.dim, running: paint.bold, done: paint.good, failed: paint.bad }[row.state];
  const label = `${colour(SYMBOLS[row.state])} ${row.label}`;
  const done = percent(row);
  if (row.state !== "running" || done === undefined) {
    return row.note === undefined ? label : `${label}  ${paint.dim(oneLine(row.note))}`;
  }
  const cells = Math.max(8, Math.min(28, width - visible(label) - 58));
  const full = Math.round((done / 100) * cells);
  // What crawls has no rate worth reading and no end worth promising.
  const rate = (row.bytesPerSecond ?? 0) < 1024 ? 0 : row.bytesPerSecond!;
  const left = rate > 0 ? `  ${duration(((row.totalBytes! - row.doneBytes!) / rate) * 1000)} left` : "";
  const facts = `${done.toFixed(0).padStart(3)}%  ${bytes(row.doneBytes!)} of ${bytes(row.totalBytes!)}${rate > 0 ? `  ${bytes(rate)}/s` : ""}${left}`;
  return `${label}  ${paint.good("━".repeat(full))}${paint.dim("━".repeat(cells - full))} ${facts}`;
}

function percent(row: ProgressRow): number | undefined {
  if (row.totalBytes === undefined || row.totalBytes === 0 || row.doneBytes === undefined) return undefined;
  return Math.min(100, (row.doneBytes / row.totalBytes) * 100);
}

/** An error's message may have many lines, and a vendor's may have anything. */
function oneLine(text: string): string {
  return harmless(text).replace(/\s+/g, " ").trim();
}

/** Cuts what does not fit, so that one row is one line and redrawing stays in place. */
function shorten(text: string, width: number): string {
  if (visible(text) < width) return text;
  let seen = 0;
  let cut = "";
  // Escape sequences take no room on the screen.
  for (const part of text.split(STYLE)) {
    if (part.startsWith(ESCAPE)) cut += part;
    else {
      const room = Math.max(0, width - 1 - seen);
      cut += part.slice(0, room);
      seen += Math.min(part.length, room);
    }
  }
  return cut;
}
