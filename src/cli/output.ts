/**
 * How commands speak: JSON on stdout when asked for or when nobody watches, tables for people on a terminal, logs and
 * errors on stderr. One place, so that every command looks the same and no colour reaches a file.
 */
import { stripVTControlCharacters, styleText } from "node:util";
import { type ErrorReport, reportOf } from "../lib/errors.ts";

/** 77 is what plume said, and what scripts around it test for: some targets failed and the rest is done. */
export const EXIT = { done: 0, failed: 1, usage: 2, changes: 10, partial: 77 } as const;

export interface Output {
  readonly json: boolean;
  readonly terminal: boolean;
  /** Prints data: as JSON, or by `human` for people. */
  data(value: unknown, human: (paint: Paint) => string): void;
  /** A line of conversation; goes to stderr, so that stdout stays data. */
  say(line: string): void;
  error(error: unknown): void;
  readonly paint: Paint;
}

export interface Paint {
  good(text: string): string;
  bad(text: string): string;
  warn(text: string): string;
  dim(text: string): string;
  bold(text: string): string;
}

export function createOutput(options: {
  json: boolean;
  stdout: NodeJS.WriteStream;
  stderr: NodeJS.WriteStream;
  colour: boolean;
}): Output {
  const paint = painter(options.colour && options.stdout.isTTY === true);
  const errorPaint = painter(options.colour && options.stderr.isTTY === true);
  return {
    json: options.json,
    terminal: options.stderr.isTTY === true,
    paint,
    data(value, human) {
      const text = options.json ? JSON.stringify(value, null, 2) : human(paint);
      options.stdout.write(text.endsWith("\n") || text === "" ? text : `${text}\n`);
    },
    say: (line) => void options.stderr.write(`${line}\n`),
    error(error) {
      const report = reportOf(error);
      options.stderr.write(options.json ? `${JSON.stringify({ error: report })}\n` : describeError(report, errorPaint));
    },
  };
}

/** What happened, to what, what was tried, what to do next. */
export function describeError(report: ErrorReport, paint: Paint): string {
  const where = [report.cloud, report.operation, report.region].filter((part) => part !== undefined).join(" ");
  const lines = [`${paint.bad("error")} ${paint.dim(`[${report.code}]`)} ${harmless(report.message)}`];
  if (report.subject !== undefined) lines.push(`  ${paint.dim("about")}  ${harmless(report.subject)}`);
  if (where !== "") {
    lines.push(
      `  ${paint.dim("where")}  ${harmless(`${where}${report.requestId === undefined ? "" : ` (request ${report.requestId})`}`)}`,
    );
  }
  if (report.tried !== undefined) lines.push(`  ${paint.dim("tried")}  ${harmless(report.tried)}`);
  if (report.next !== undefined) lines.push(`  ${paint.dim("next")}   ${harmless(report.next)}`);
  return `${lines.join("\n")}\n`;
}

/** Left-aligned columns, as wide as their longest cell; the last one is not padded. */
export function table(head: readonly string[], rows: readonly (readonly string[])[], paint: Paint): string {
  const widths = head.map((title, column) =>
    Math.max(visible(title), ...rows.map((row) => visible(row[column] ?? ""))),
  );
  const line = (cells: readonly string[], style: (text: string) => string = (text) => text) =>
    cells
      .map((cell, column) => (column === cells.length - 1 ? style(cell) : style(pad(cell, widths[column]!))))
      .join("  ")
      .trimEnd();
  return [line(head, paint.dim), ...rows.map((row) => line(row))].join("\n");
}

export function bytes(count: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = count;
  let unit = 0;
  // What would round up to 1024 is one of the next unit.
  while (value >= (unit === 0 ? 1024 : 1023.5) && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return unit === 0 ? `${Math.round(value)} B` : `${value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`;
}

export function duration(milliseconds: number): string {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  // Rounded before it is taken apart: there is no "1 min 60 s".
  const tenths = Math.round(milliseconds / 100);
  if (tenths < 600) return `${(tenths / 10).toFixed(1)} s`;
  const seconds = Math.round(milliseconds / 1000);
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function visible(text: string): number {
  return stripVTControlCharacters(text).length;
}

/** Text that came from elsewhere, without what would act on a terminal. Line ends stay. */
export function harmless(text: string): string {
  return stripVTControlCharacters(text).replace(/[^\P{Cc}\n\t]/gu, "");
}

function pad(text: string, width: number): string {
  return text + " ".repeat(Math.max(0, width - visible(text)));
}

function painter(colour: boolean): Paint {
  const style = (format: Parameters<typeof styleText>[0]) => (text: string) =>
    colour ? styleText(format, text, { validateStream: false }) : text;
  return { good: style("green"), bad: style("red"), warn: style("yellow"), dim: style("dim"), bold: style("bold") };
}
