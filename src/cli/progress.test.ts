import { stripVTControlCharacters } from "node:util";
import { expect, test } from "vitest";
import { MiB } from "../lib/units.ts";
import type { Paint } from "./output.ts";
import { createProgress, type ProgressRow } from "./progress.ts";
import { fakeStream } from "./testing/streams.ts";

const same = (text: string) => text;
const plain: Paint = { good: same, bad: same, warn: same, dim: same, bold: same };

function row(changes: Partial<ProgressRow> = {}): ProgressRow {
  return { id: "1", label: "image → aws", state: "running", ...changes };
}

const upload = (done: number) => row({ note: "upload-disk", doneBytes: done * MiB, totalBytes: 100 * MiB });

test("a log gets a line when something begins, comes another ten per cent, and ends; never the same twice", () => {
  const { stream, text } = fakeStream();
  const progress = createProgress(stream, plain);
  progress.update([row({ state: "waiting" })]);
  for (const done of [0, 3, 9, 10, 11, 55, 58]) progress.update([upload(done)]);
  progress.update([row()]);
  progress.update([row({ note: "register-image" })]);
  progress.update([row({ note: "register-image" })]);
  progress.line("by the way");
  progress.update([row({ state: "done", note: "12.0 s" })]);
  progress.update([row({ state: "done", note: "12.0 s" })]);
  progress.end();
  expect(text().split("\n")).toEqual([
    "running image → aws 0% of 100 MiB (upload-disk)",
    "running image → aws 10% of 100 MiB (upload-disk)",
    "running image → aws 50% of 100 MiB (upload-disk)",
    "running image → aws (register-image)",
    "by the way",
    "done    image → aws (12.0 s)",
    "",
  ]);
});

const ESCAPE = "\x1b";
/** Up so many lines, and everything from there on erased. */
const REDRAW = new RegExp(`(${ESCAPE}\\[\\d+A${ESCAPE}\\[0J|\n)`);

/** What a terminal shows after everything that was written to it. */
function screen(written: string): string[] {
  const lines = [""];
  let at = 0;
  for (const part of written.split(REDRAW)) {
    if (part.startsWith(`${ESCAPE}[`) && part.endsWith("J")) {
      at -= Number.parseInt(part.slice(2), 10);
      lines.length = at + 1;
      lines[at] = "";
    } else if (part === "\n") lines[++at] = "";
    else lines[at] += stripVTControlCharacters(part);
  }
  return lines;
}

test("a terminal is redrawn in place: one line a row, and a line of text stays above", () => {
  const { stream, text } = fakeStream(true);
  const progress = createProgress(stream, plain);
  progress.update([row({ state: "waiting" }), row({ id: "2", label: "b" })]);
  progress.line("joined run x");
  progress.update([upload(25), row({ id: "2", label: "b", state: "failed", note: "no" })]);
  progress.end();
  const [first, bar, second, ...rest] = screen(text());
  expect(first).toBe("joined run x");
  expect(bar).toMatch(/^● image → aws {2}━+ {2}25% {2}25 MiB of 100 MiB$/);
  expect([second, ...rest]).toEqual(["✖ b  no", ""]);
});

test("a bar tells rate and what is left", () => {
  const { stream, text } = fakeStream(true, { columns: 120 });
  createProgress(stream, plain).update([{ ...upload(50), bytesPerSecond: 10 * MiB }]);
  expect(text()).toContain(" 50%  50 MiB of 100 MiB  10 MiB/s  5.0 s left");
});

test("a row never takes two lines: it is cut, and an error of many lines is one", () => {
  const { stream, text } = fakeStream(true, { columns: 40 });
  const paint = { ...plain, dim: (part: string) => `\x1b[2m${part}\x1b[22m` };
  const progress = createProgress(stream, paint);
  const note = `first\nsecond\r\x1b[5A ${"long ".repeat(30)}`;
  progress.update([row({ state: "failed", note })]);
  progress.update([row({ state: "failed", note })]);
  const [line, ...rest] = screen(text());
  expect(line).toMatch(/^✖ image → aws {2}first second long/);
  expect(line?.length).toBeLessThan(40);
  expect(rest).toEqual([""]);
  expect(text().endsWith(`${ESCAPE}[22m\n`)).toBe(true);
});

test("where there are more rows than lines, those that are done give way", () => {
  const { stream, text } = fakeStream(true, { rows: 6 });
  const rows = Array.from({ length: 8 }, (_, index) =>
    row({ id: String(index), label: `row ${index}`, state: index < 5 ? "done" : "running" }),
  );
  createProgress(stream, plain).update(rows);
  expect(screen(text())).toEqual(["● row 5", "● row 6", "● row 7", ""]);
});

test("a disk of no bytes has no bar and divides by nothing", () => {
  const { stream, text } = fakeStream(true);
  createProgress(stream, plain).update([row({ note: "upload-disk", doneBytes: 0, totalBytes: 0 })]);
  expect(screen(text())[0]).toBe("● image → aws  upload-disk");
});
