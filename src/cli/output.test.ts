import { stripVTControlCharacters } from "node:util";
import { expect, test } from "vitest";
import { SlipwayError } from "../lib/errors.ts";
import { bytes, createOutput, describeError, duration, type Paint, table } from "./output.ts";
import { fakeStream } from "./testing/streams.ts";

const same = (text: string) => text;
const plain: Paint = { good: same, bad: same, warn: same, dim: same, bold: same };

function outputOn(options: { json?: boolean; terminal?: boolean; colour?: boolean }) {
  const [stdout, stderr] = [fakeStream(options.terminal), fakeStream(options.terminal)];
  const output = createOutput({ json: false, colour: true, ...options, stdout: stdout.stream, stderr: stderr.stream });
  return { output, stdout, stderr };
}

test("data is JSON for programs and a text for people, and ends with one line end either way", () => {
  const [machine, person] = [outputOn({ json: true }), outputOn({})];
  for (const { output } of [machine, person]) output.data({ a: [1] }, () => "a is 1");
  expect(machine.stdout.text()).toBe('{\n  "a": [\n    1\n  ]\n}\n');
  expect(person.stdout.text()).toBe("a is 1\n");
  person.output.data(null, () => "");
  expect(person.stdout.text()).toBe("a is 1\n");
});

test("conversation goes to stderr: stdout stays data", () => {
  const { output, stdout, stderr } = outputOn({ json: true });
  output.say("run x");
  output.error(new SlipwayError("quota", "full"));
  expect(stdout.text()).toBe("");
  expect(stderr.text()).toBe('run x\n{"error":{"code":"quota","message":"full"}}\n');
});

test("an error for programs has everything it said under stable names", () => {
  const { output, stderr } = outputOn({ json: true });
  const error = new SlipwayError("quota", "full", { subject: "s", tried: "t", next: "n" });
  output.error(Object.assign(error, { cloud: "aws", operation: "CopyImage", region: "r", requestId: "q" }));
  expect(JSON.parse(stderr.text())).toEqual({
    error: {
      ...{ code: "quota", message: "full", subject: "s", tried: "t", next: "n" },
      ...{ cloud: "aws", operation: "CopyImage", region: "r", requestId: "q" },
    },
  });
  stderr.clear();
  output.error(new TypeError("x is not a function"));
  expect(JSON.parse(stderr.text())).toEqual({ error: { code: "unknown", message: "x is not a function" } });
});

test("an error for people says what, about what, where, what was tried and what next", () => {
  const report = { code: "throttled", message: "asked too fast", subject: "ami-1", tried: "5 attempts", next: "Wait." };
  const where = { cloud: "aws", operation: "CopyImage", region: "eu-west-1", requestId: "q-1" };
  expect(describeError({ ...report, ...where, code: "throttled" }, plain)).toBe(
    [
      "error [throttled] asked too fast",
      "  about  ami-1",
      "  where  aws CopyImage eu-west-1 (request q-1)",
      "  tried  5 attempts",
      "  next   Wait.",
      "",
    ].join("\n"),
  );
  expect(describeError({ code: "unknown", message: "hm" }, plain)).toBe("error [unknown] hm\n");
});

test("what a server says in its error does not act on the terminal", () => {
  const hostile = "a\x1b[2J\x1b]0;title\x07b\x9bc\r\u0000d\nsecond\tline";
  const text = describeError({ code: "unknown", message: hostile, subject: hostile, next: hostile }, plain);
  expect(text).not.toMatch(/[^\P{Cc}\n\t]/u);
  expect(text).toContain("second\tline");
});

test.each([
  { name: "a terminal", terminal: true, colour: true, painted: true },
  { name: "a terminal with NO_COLOR", terminal: true, colour: false, painted: false },
  { name: "a file", terminal: false, colour: true, painted: false },
])("$name: colour is $painted", ({ terminal, colour, painted }) => {
  const { output, stdout, stderr } = outputOn({ terminal, colour });
  output.data(1, (paint) => paint.good("fine"));
  output.error(new SlipwayError("quota", "full"));
  expect(stdout.text() !== stripVTControlCharacters(stdout.text())).toBe(painted);
  expect(stderr.text() !== stripVTControlCharacters(stderr.text())).toBe(painted);
  expect(output.terminal).toBe(terminal);
});

test("columns are as wide as their longest cell; colour takes no room; nothing trails", () => {
  const red = { ...plain, bad: (text: string) => `\x1b[31m${text}\x1b[39m` };
  const text = table(["state", "name", "id"], [[red.bad("failed"), "a", "1"], ["ok", "longer", ""], ["ok"]], red);
  expect(stripVTControlCharacters(text)).toBe(
    ["state   name    id", "failed  a       1", "ok      longer", "ok"].join("\n"),
  );
  expect(table(["a", "b"], [], plain)).toBe("a  b");
});

test.each([
  [0, "0 B"],
  [1023, "1023 B"],
  [1024, "1.0 KiB"],
  [10 * 1024, "10 KiB"],
  [1024 ** 2 - 1, "1.0 MiB"],
  [5.5 * 1024 ** 3, "5.5 GiB"],
  [4000 * 1024 ** 4, "4000 TiB"],
])("%d bytes are %s", (count, text) => {
  expect(bytes(count)).toBe(text);
});

test.each([
  [0, "0 ms"],
  [999, "999 ms"],
  [1000, "1.0 s"],
  [59_940, "59.9 s"],
  [59_960, "1 min 0 s"],
  [119_600, "2 min 0 s"],
  [3_599_700, "1 h 0 min"],
  [7_500_000, "2 h 5 min"],
])("%d ms are %s", (milliseconds, text) => {
  expect(duration(milliseconds)).toBe(text);
});
