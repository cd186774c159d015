import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { SlipwayError } from "../lib/errors.ts";
import { createOutput } from "./output.ts";
import { type GlobalOptions, runProgram } from "./program.ts";
import type { Session } from "./session.ts";

afterEach(() => vi.restoreAllMocks());

/** Runs one command line; `session` is what a command finds, nothing by default. */
async function slipway(args: readonly string[], session: Partial<Session> = {}) {
  const written = { stdout: "", stderr: "", all: "" };
  for (const name of ["stdout", "stderr"] as const) {
    vi.spyOn(process[name], "write").mockImplementation((text) => {
      written[name] += String(text);
      written.all += String(text);
      return true;
    });
  }
  const opened: GlobalOptions[] = [];
  let closed = 0;
  const exit = await runProgram(args, "1.2.3", (options) => {
    opened.push(options);
    const json = options.output === "json";
    const output = createOutput({ json, stdout: process.stdout, stderr: process.stderr, colour: false });
    return { output, close: async () => void closed++, ...session } as Session;
  });
  vi.restoreAllMocks();
  return { ...written, exit, opened, closed };
}

/** A transcript holds command lines and what they print, nothing else. `vitest -u` writes it anew. */
test.each(["help.txt", "mistakes.txt"])("%s", async (name) => {
  const path = join(import.meta.dirname, "testdata", name);
  const commands = readFileSync(path, "utf8").match(/^\$ slipway.*$/gm) ?? [];
  expect(commands.length).toBeGreaterThan(0);
  const transcript: string[] = [];
  for (const command of commands) {
    const { all, exit, opened } = await slipway(command.split(" ").slice(2));
    expect(opened, "neither help nor a mistake opens anything").toEqual([]);
    transcript.push(`${command}\n${all.trimEnd()}\n[exit ${exit}]\n`);
  }
  await expect(transcript.join("\n")).toMatchFileSnapshot(path);
});

test("the version is printed alone, on stdout", async () => {
  expect(await slipway(["--version"])).toMatchObject({ exit: 0, stdout: "1.2.3\n", stderr: "" });
});

test("every command there is has its file", async () => {
  const program = readFileSync(new URL("program.ts", import.meta.url), "utf8");
  const files = [...program.matchAll(/import\("(\.\/commands\/[^"]+)"\)/g)].map(([, file]) => file ?? "");
  expect(files.length).toBeGreaterThan(5);
  for (const file of new Set(files)) expect(existsSync(new URL(file, import.meta.url)), file).toBe(true);
});

test("options for all commands may stand before or after the command", async () => {
  const session = { config: async () => Promise.reject(new SlipwayError("invalid", "no")) };
  const before = await slipway(["--config", "a.yaml", "--output", "json", "config", "check"], session);
  const after = await slipway(["config", "check", "--config", "a.yaml", "--output", "json"], session);
  expect(before.opened).toEqual([{ config: "a.yaml", output: "json" }]);
  expect(after.opened).toEqual(before.opened);
});

test("what a command throws is printed as an error, exit 1, and the session is closed", async () => {
  const failing = {
    planning: async () => Promise.reject(new SlipwayError("invalid", "no such key", { next: "Mend it." })),
  };
  const people = await slipway(["plan", "/nowhere"], failing);
  expect(people).toMatchObject({ exit: 1, stdout: "", closed: 1 });
  expect(people.stderr).toBe("error [invalid] no such key\n  next   Mend it.\n");
  const programs = await slipway(["--output", "json", "plan", "/nowhere"], failing);
  expect(programs).toMatchObject({ exit: 1, stdout: "", closed: 1 });
  expect(JSON.parse(programs.stderr)).toEqual({
    error: { code: "invalid", message: "no such key", next: "Mend it." },
  });
});
