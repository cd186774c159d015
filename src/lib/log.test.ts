import { afterEach, expect, test, vi } from "vitest";
import { createLog } from "./log.ts";

afterEach(() => vi.restoreAllMocks());

function linesOf(tell: () => void): Record<string, unknown>[] {
  let written = "";
  vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    written += String(text);
    return true;
  });
  tell();
  vi.restoreAllMocks();
  expect(written === "" || written.endsWith("\n")).toBe(true);
  return written
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line));
}

test("an entry is one line of JSON, with its facts beside time, level and message", () => {
  const lines = linesOf(() => createLog("debug").warn("two\nlines", { region: "here", count: 2 }));
  expect(lines).toEqual([
    { time: expect.stringMatching(/Z$/), level: "warn", message: "two\nlines", region: "here", count: 2 },
  ]);
});

test("what is below the level asked for is not written", () => {
  const log = createLog("warn");
  const lines = linesOf(() => {
    log.debug("a");
    log.info("b");
    log.warn("c");
    log.error("d");
  });
  expect(lines.map((line) => line.message)).toEqual(["c", "d"]);
});

test("a field cannot pass for the message or its level", () => {
  const [line] = linesOf(() => createLog("debug").error("the truth", { message: "a lie", level: "debug", time: 0 }));
  expect(line).toMatchObject({ level: "error", message: "the truth", time: expect.any(String) });
});

test("an error says its name and message, and not what hangs on it", () => {
  const error = Object.assign(new TypeError("no"), { request: { headers: { authorization: "secret" } } });
  expect(linesOf(() => createLog("debug").error("failed", { error }))).toMatchObject([
    { error: { name: "TypeError", message: "no" } },
  ]);
});

test("what JSON cannot hold is written all the same", () => {
  const circle: Record<string, unknown> = { name: "round" };
  circle.self = circle;
  const [cycle, big] = linesOf(() => {
    createLog("debug").info("cycle", { circle });
    createLog("debug").info("big", { bytes: 2n ** 64n });
  });
  expect(String(cycle?.unprintable)).toMatch(/cycle.*round/);
  expect(String(big?.unprintable)).toMatch(/big.*18446744073709551616n/);
});
