import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { silent } from "../lib/call.ts";
import { livingOf } from "./kill-tree.ts";
import { killLeftovers } from "./private-place.ts";
import { allProcesses, hasInEnvironment } from "./processes.ts";
import { runProgram } from "./run-program.ts";
import { environmentOf, FAMILY, familyOf, livingAmong, runScript } from "./testing/run.ts";

let root: string;
beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), "programs-")));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const gone = (pids: readonly number[]) => expect.poll(() => livingAmong(pids), { timeout: 20_000 }).toEqual([]);
const rejects = (result: Promise<unknown>, what: object) => expect(result).rejects.toMatchObject(what);

describe("what a program finds", () => {
  test("its own directory, a clean environment and nothing to read", async () => {
    const { heard, result } = runScript(
      `console.log(JSON.stringify({ cwd: process.cwd(), env: process.env, mode: require("node:fs").statSync("..").mode & 0o777,
        stdin: require("node:fs").readFileSync(0, "utf8") }))`,
      { root, environment: { GIVEN: "yes" } },
    );
    expect(await result).toEqual({ code: 0, artifacts: [] });
    const found = JSON.parse(heard.stdout[0]!);
    const directory = found.cwd.replace(/\/work$/, "");
    expect(directory.startsWith(join(root, "run-"))).toBe(true);
    expect(found).toMatchObject({ mode: 0o700, stdin: "" });
    expect(found.env).toEqual({
      ...{ GIVEN: "yes", HOME: `${directory}/home`, TMPDIR: `${directory}/tmp`, LANG: "C.UTF-8" },
      ...{ PATH: expect.any(String), SLIPWAY_PROGRAM: expect.stringMatching(/^[0-9a-f]{32}$/) },
    });
  });

  test("bytes on its input, files that were prepared, and arguments no shell has seen", async () => {
    const { heard, result } = runScript("", {
      root,
      argv: [
        process.execPath,
        "-e",
        "process.stdin.pipe(process.stdout);console.log(process.argv[1])",
        "$(id) ; `x` *",
      ],
      stdin: Buffer.from("from outside\n"),
    });
    await result;
    expect(heard.stdout.sort()).toEqual(["$(id) ; `x` *", "from outside"]);

    const prepared = runScript('console.log(require("node:fs").readFileSync("in.txt", "utf8"))', {
      root,
      prepare: async ({ work }) => writeFileSync(join(work, "in.txt"), "prepared"),
    });
    await prepared.result;
    expect(prepared.heard.stdout).toEqual(["prepared"]);
  });

  test("limits", async () => {
    const { heard, result } = runScript("", {
      root,
      argv: ["cat", "/proc/self/limits"],
      limits: { addressSpace: 2 ** 30, cpu: 100, processes: 5000, fileBytes: 2 ** 20, openFiles: 77, nice: 1 },
    });
    await result;
    const limit = (name: string) => heard.stdout.find((line) => line.startsWith(name))?.split(/ {2,}/)[1];
    expect(
      ["Max address space", "Max cpu time", "Max processes", "Max file size", "Max open files"].map(limit),
    ).toEqual([2 ** 30, 100, 5000, 2 ** 20, 77].map(String));
  });

  test("a PATH without the programs that set limits: it runs, and the log says so", async () => {
    const warned: string[] = [];
    const log = { ...silent, warn: (message: string) => warned.push(message) };
    await runProgram(
      {
        argv: [process.execPath, "-e", ""],
        root,
        owner: "o",
        timeoutMs: 60_000,
        environment: { PATH: root },
        limits: { cpu: 1 },
      },
      { signal: new AbortController().signal, log, line() {} },
    );
    expect(warned).toEqual(["a program runs without limits, what sets them is not installed"]);
  });
});

describe("how it can end", () => {
  afterEach(() => expect(readdirSync(root)).toEqual([]));

  test("well, with a code that is accepted", async () => {
    expect(await runScript("process.exit(3)", { root, accept: [0, 3] }).result).toMatchObject({ code: 3 });
  });

  test("at once, and what it said is heard", async () => {
    const runs = Array.from({ length: 30 }, (_, n) =>
      runScript("", { root, owner: String(n), argv: ["echo", "heard"] }),
    );
    await Promise.all(runs.map(({ result }) => result));
    expect(runs.map(({ heard }) => heard.stdout)).toEqual(runs.map(() => ["heard"]));
  });

  test("with another code: its last words are in the error, without secrets", async () => {
    const { heard, result } = runScript('console.error("the key is hunter2!"); process.exit(2)', {
      root,
      secrets: ["hunter2!"],
    });
    await rejects(result, {
      code: "invalid",
      message: expect.stringMatching(/failed with exit code 2: the key is \*\*\*$/),
    });
    expect(heard.stderr).toEqual(["the key is ***"]);
  });

  const missing = { name: "not there", argv: ["no-such-program"] as const, code: "not-found" };
  test.each([
    missing,
    { name: "no program", argv: ["/etc/passwd"] as const, code: "not-found" },
    { name: "a relative path", argv: ["./x"] as const, code: "not-found" },
  ])("not at all: $name", async ({ argv, code }) => {
    await rejects(runScript("", { root, argv }).result, { code, next: expect.stringContaining("PATH") });
  });

  test("a missing program names its package", async () => {
    const result = runScript("", { root, argv: ["ansible-playbook"], environment: { PATH: "/nowhere" } }).result;
    await rejects(result, { code: "not-found", next: expect.stringContaining("ansible-core") });
  });

  test("an argument list that is too long does not tell its secrets", async () => {
    const argv = ["true", "hunter2!".repeat(500_000)] as const;
    const error = await runScript("", { root, argv, secrets: ["hunter2!"] }).result.catch((error: unknown) => error);
    expect(error).toMatchObject({ code: "invalid" });
    expect(String((error as Error).cause)).not.toContain("hunter2!");
  });

  test("by a signal of somebody else's", async () => {
    await rejects(runScript('process.kill(process.pid, "SIGKILL")', { root }).result, { code: "unknown" });
  });

  test("at a limit", async () => {
    await rejects(runScript("for (;;);", { root, limits: { cpu: 1 } }).result, { code: "quota" });
  });

  test("cancelled before it began", async () => {
    const signal = AbortSignal.abort();
    await rejects(runScript("", { root }, { signal }).result, { code: "cancelled" });
  });

  test("cancelled, with everything it started", async () => {
    const stop = new AbortController();
    let family: number[] = [];
    const { result } = runScript(
      FAMILY,
      { root },
      {
        signal: stop.signal,
        onLine(line) {
          family = familyOf(line) ?? [];
          stop.abort();
        },
      },
    );
    await rejects(result, { code: "cancelled" });
    expect(family).toHaveLength(3);
    expect(livingAmong(family)).toEqual([]);
  });

  test("cancelled, though it does not listen", async () => {
    const stop = new AbortController();
    const deaf = 'process.on("SIGTERM", () => console.log("no")); console.log("ready"); setInterval(() => {}, 1000)';
    const { heard, result } = runScript(
      deaf,
      { root, graceMs: 200 },
      { signal: stop.signal, onLine: () => stop.abort() },
    );
    await rejects(result, { code: "cancelled" });
    expect(heard.stdout).toEqual(["ready", "no"]);
  });

  test("asked to end, it may clean up", async () => {
    const stop = new AbortController();
    const polite =
      'process.on("SIGTERM", () => { console.log("bye"); process.exit(0) }); console.log("ready"); setInterval(() => {}, 1000)';
    const { heard, result } = runScript(polite, { root }, { signal: stop.signal, onLine: () => stop.abort() });
    expect(await result).toMatchObject({ code: 0 });
    expect(heard.stdout).toEqual(["ready", "bye"]);
  });

  test("well, though its timeout is a year", async () => {
    expect(await runScript("", { root, timeoutMs: 365 * 24 * 3_600_000 }).result).toMatchObject({ code: 0 });
  });

  test("by its timeout", async () => {
    await rejects(runScript("setInterval(() => {}, 1000)", { root, timeoutMs: 300 }).result, {
      ...{ code: "unavailable", message: expect.stringContaining("longer than 0.3 s") },
    });
  });

  test("well, and what it left behind ends too", async () => {
    let family: number[] = [];
    const { result } = runScript(
      FAMILY.replace(/setInterval.*\n$/, "between.on('close', () => process.exit(0))\n"),
      { root },
      {
        onLine: (line) => {
          family = familyOf(line) ?? [];
        },
      },
    );
    await result;
    expect(family).toHaveLength(3);
    await gone(family);
  });

  test("with a directory it may not be removed from", async () => {
    const script = 'const fs = require("node:fs"); fs.mkdirSync("a/b", { recursive: true }); fs.chmodSync("a", 0)';
    expect(await runScript(script, { root }).result).toMatchObject({ code: 0 });
  });
});

describe("when the worker is gone", () => {
  async function startWorker(owner: string) {
    const worker = spawn(process.execPath, [join(import.meta.dirname, "testing/worker.ts"), root, owner], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let family: number[] | undefined;
    for await (const line of createInterface({ input: worker.stdout })) {
      family = familyOf(line);
      if (family !== undefined) break;
    }
    return {
      worker,
      family: family!,
      token: environmentOf(family![2]!).find((v) => v.startsWith("SLIPWAY_PROGRAM="))!,
    };
  }
  async function kill({ worker }: Awaited<ReturnType<typeof startWorker>>, guardToo: boolean) {
    // The guard is the worker's only child that has no mark.
    const guards = allProcesses().filter(
      ({ parent, pid }) => parent === worker.pid && environmentOf(pid).join("") === "",
    );
    expect(guards).toHaveLength(1);
    if (guardToo) process.kill(guards[0]!.pid, "SIGSTOP");
    const exit = once(worker, "exit");
    worker.kill("SIGKILL");
    await exit;
    if (guardToo) process.kill(guards[0]!.pid, "SIGKILL");
  }

  test("its programs are gone too, with their directories", async () => {
    const run = await startWorker("a");
    expect(livingAmong(run.family)).toEqual(run.family);
    await kill(run, false);
    await gone(run.family);
    await expect.poll(() => readdirSync(root), { timeout: 20_000 }).toEqual([]);
  });

  test("together with its guard, the next one cleans up, and an unmarked program of the same user lives", async () => {
    const run = await startWorker("a");
    await kill(run, true);
    expect(livingAmong(run.family)).toEqual(run.family);
    expect(await killLeftovers(root)).toEqual({ removed: [{ owner: "a", killed: true }] });
    expect(livingAmong(run.family)).toEqual([]);
    expect(readdirSync(root)).toEqual([]);
    expect(await killLeftovers(root)).toEqual({ removed: [] });
  });

  test("though its program's leader is dead, whoever has the mark is found", async () => {
    const run = await startWorker("a");
    await kill(run, true);
    process.kill(run.family[0]!, "SIGKILL");
    await gone([run.family[0]!]);
    await killLeftovers(root);
    expect(livingAmong(run.family)).toEqual([]);
  });

  test("one that lives is left alone, unless its work was taken over", async () => {
    const run = await startWorker("a");
    try {
      expect(await killLeftovers(root)).toEqual({ removed: [] });
      expect(await killLeftovers(root, "b")).toEqual({ removed: [] });
      expect(livingAmong(run.family)).toEqual(run.family);
      // A run of the same owner does it by itself.
      await runScript("", { root, owner: "a" }).result;
      expect(livingAmong(run.family)).toEqual([]);
    } finally {
      run.worker.kill("SIGKILL");
    }
  });

  test("a place that somebody else has made is not believed", async () => {
    const run = await startWorker("a");
    const [name] = readdirSync(root);
    await kill(run, true);
    renameSync(join(root, name!), join(root, "elsewhere"));
    symlinkSync("elsewhere", join(root, name!));
    expect(await killLeftovers(root)).toEqual({ removed: [] });
    for (const pid of run.family) process.kill(pid, "SIGKILL");
  });

  test("what another host or container left is not ours to judge, what an earlier boot left is", async () => {
    await runScript("", { root }).result;
    const run = await startWorker("a");
    const [name] = readdirSync(root);
    const path = join(root, name!, "state.json");
    const state = JSON.parse(readFileSync(path, "utf8"));
    await kill(run, true);
    writeFileSync(path, JSON.stringify({ ...state, space: "elsewhere" }));
    expect(await killLeftovers(root, "a")).toEqual({ removed: [] });
    writeFileSync(path, JSON.stringify({ ...state, boot: "earlier" }));
    expect(await killLeftovers(root)).toEqual({ removed: [{ owner: "a", killed: false }] });
    expect(existsSync(path)).toBe(false);
    // Only because this test pretended: they do live.
    for (const pid of livingAmong(run.family)) process.kill(pid, "SIGKILL");
  });
});

test("nobody is in a tree who only mentions its mark", () => {
  expect(hasInEnvironment(process.pid, "PAT")).toBe(false);
  expect(livingOf({ token: "no such" })).toEqual([]);
});
