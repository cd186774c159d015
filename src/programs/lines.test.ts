import fc from "fast-check";
import { expect, test } from "vitest";
import { type LineLimits, splitLines } from "./lines.ts";
import { maskOf } from "./mask.ts";

function linesOf(chunks: readonly (string | Uint8Array)[], limits: Partial<LineLimits> = {}, secrets: string[] = []) {
  const said: string[] = [];
  const all = { perLine: 40, total: 10_000, tail: 3, ...limits };
  const lines = splitLines(all, maskOf(secrets), (line) => said.push(line));
  for (const chunk of chunks) lines.push(Buffer.from(chunk as string));
  lines.end();
  return said;
}

const cases = [
  { name: "lines", input: "a\n\nb\n", lines: ["a", "", "b"] },
  { name: "a last line without its end", input: "a\nb", lines: ["a", "b"] },
  { name: "Windows' ends", input: "a\r\nb\r\n", lines: ["a", "b"] },
  { name: "a progress bar", input: "1%\r50%\r100%\ndone", lines: ["100%", "done"] },
  { name: "a progress bar that was stopped", input: "1%\r50%\r", lines: ["50%"] },
  { name: "colours", input: "\u001b[0;31mred\u001b[0m\n", lines: ["red"] },
  { name: "controls", input: "a\0b\u001bc\td\n", lines: ["a\ufffdb\ufffdc\td"] },
  { name: "a long line", input: `${"x".repeat(41)}\nb`, lines: [`${"x".repeat(40)} [cut]`, "b"] },
  { name: "a line just so long", input: `${"x".repeat(40)}\n`, lines: ["x".repeat(40)] },
];
test.each(cases)("$name", ({ input, lines }) => {
  expect(linesOf([input])).toEqual(lines);
});

test("what is no UTF-8 is still a line", () => {
  expect(linesOf([Uint8Array.of(0x61, 0xff, 0xc3), Uint8Array.of(0x0a, 0x62)])).toEqual(["a\ufffd\ufffd", "b"]);
});

test("beyond the total the end is kept, and what is between is counted", () => {
  const input = Array.from({ length: 100 }, (_, n) => `line ${n}\n`).join("");
  expect(linesOf([input], { total: 14 })).toEqual([
    ...["line 0", "line 1"],
    ...["[95 lines left out: the output is longer than 14 characters]", "line 97", "line 98", "line 99"],
  ]);
});

test("where chunks end changes nothing", () => {
  const text = fc.array(fc.constantFrom("a", "ü", "🚢", "\r", "\n", "\r\n", "secret!", "\u001b[1m", "xxxxxxxxxxxx"));
  fc.assert(
    fc.property(text, fc.array(fc.nat(300), { maxLength: 20 }), (parts, cuts) => {
      const bytes = Buffer.from(parts.join(""));
      const borders = [0, ...cuts.map((at) => at % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
      const chunks = borders.slice(1).map((end, n) => bytes.subarray(borders[n]!, end));
      const whole = linesOf([bytes], {}, ["secret!"]);
      expect(linesOf(chunks, {}, ["secret!"])).toEqual(whole);
      for (const line of whole) expect(line).not.toContain("secret!");
    }),
  );
});

test("no part of a secret is shown, whatever is cut", () => {
  const secret = "Zq7!Zq7!xk";
  const part = fc.constantFrom("aaaaaaaaa", "b", secret, "\u001b[31m", "\n");
  fc.assert(
    fc.property(fc.array(part, { maxLength: 30 }), fc.integer({ min: 1, max: 50 }), (parts, perLine) => {
      for (const line of linesOf([parts.join("")], { perLine }, [secret])) expect(line).not.toMatch(/[Zq7!xk]/);
    }),
  );
});
