import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import pg from "pg";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Database } from "../database/index.ts";
import { type CrashPoint, type Engine, openEngine } from "./index.ts";
import {
  allWorkflows,
  type Services,
  STORY_RESULT,
  STORY_STEPS,
  story,
  storyDatabase,
  storyOptions,
  waiting,
} from "./testing/story.ts";

const LEASE_MS = 1000;

let database: Database;
let engine: Engine<Services>; // never launched: it starts runs and looks at them, the workers carry them out
const workers: Worker[] = [];

beforeEach(async () => {
  database = await storyDatabase();
  engine = await openEngine(storyOptions(database));
  engine.register(allWorkflows);
});
afterEach(async () => {
  for (const worker of workers) worker.process.kill("SIGKILL");
  workers.length = 0;
  await engine.close();
  await database.close();
});

interface Worker {
  readonly process: ChildProcess;
  /** Resolves with the first message that has this field. */
  said(field: string): Promise<unknown>;
}

function begin(options: { crash?: Pick<CrashPoint, "at" | "step">; leaseMs?: number } = {}): Worker {
  const argument = JSON.stringify({ url: database.url, leaseMs: LEASE_MS, ...options });
  const process_ = fork(new URL("./testing/worker.ts", import.meta.url), [argument]);
  const messages: Record<string, unknown>[] = [];
  process_.on("message", (message: Record<string, unknown>) => messages.push(message));
  const worker: Worker = {
    process: process_,
    async said(field) {
      for (;;) {
        const found = messages.find((message) => field in message);
        if (found) return found[field];
        await once(process_, "message");
      }
    },
  };
  workers.push(worker);
  return worker;
}

async function until(check: () => Promise<boolean>): Promise<void> {
  while (!(await check())) await new Promise((resolve) => setTimeout(resolve, 20));
}

async function effects(): Promise<string[]> {
  const { rows } = await database.pool.query<{ step: string }>("SELECT step FROM effects ORDER BY id");
  return rows.map((row) => row.step);
}

async function executor(id: unknown): Promise<{ epoch: number; alive: boolean } | undefined> {
  const { rows } = await database.pool.query<{ epoch: number; alive: boolean }>(
    "SELECT epoch::int, ended_at IS NULL AND expires_at > clock_timestamp() AS alive FROM executors WHERE id = $1",
    [id],
  );
  return rows[0];
}

// In one branch first, then in the other: while the one is killed over and over, the other finishes.
const chains = [
  ["a", "x1", "x2", "only", "z"],
  ["y1", "y2"],
];
for (const steps of chains) {
  test(`killed at every boundary of ${steps.join(", ")}, the run ends as if nothing had happened`, async () => {
    await engine.start(story, null, { runId: "k", queue: "stories" });
    for (const step of steps) {
      for (const at of ["begin", "done", "kept"] as const) {
        const worker = begin({ crash: { at, step } });
        expect(await once(worker.process, "exit")).toEqual([null, "SIGKILL"]);
      }
    }
    begin();
    expect(await engine.result("k")).toEqual(STORY_RESULT);
    const done = await effects();
    expect([...new Set(done)].sort()).toEqual([...STORY_STEPS].sort());
    // Killed between doing and recording, a step is done again; once recorded, never.
    for (const step of ["a", "z"].filter((name) => steps.includes(name))) {
      expect(done.filter((name) => name === step)).toHaveLength(2);
    }
  }, 60_000);
}

test("a stopped owner is taken over; when it goes on it notices, aborts, and writes nothing", async () => {
  const first = begin();
  const owner = await first.said("executor");
  await engine.start(waiting, null, { runId: "w", queue: "stories" });
  await until(async () => (await effects()).includes("long began"));
  first.process.kill("SIGSTOP");

  const second = begin();
  expect(await engine.result("w")).toBe("waited");
  const { rows: before } = await database.pool.query("SELECT * FROM run_attempts ORDER BY started_at");
  expect((await executor(owner))?.alive).toBe(false);

  first.process.kill("SIGCONT");
  expect(await first.said("aborted")).toBe("long");
  await until(async () => (await executor(owner))?.alive === true);
  expect((await executor(owner))?.epoch).toBe(3);
  expect((await database.pool.query("SELECT * FROM run_attempts ORDER BY started_at")).rows).toEqual(before);
  expect(await effects()).toEqual(["before", "long began", "long began", "after"]);
  expect((await engine.steps("w"))[1]?.attempts).toMatchObject([
    { state: "abandoned", executor: owner },
    { state: "done", executor: await second.said("executor") },
  ]);
}, 60_000);

test("cut off from the database, a worker stops its steps; when it is back, it goes on under a new lease", async () => {
  const worker = begin();
  const owner = await worker.said("executor");
  await engine.start(waiting, null, { runId: "w", queue: "stories" });
  await until(async () => (await effects()).includes("long began"));
  const url = new URL(database.url);
  const name = url.pathname.slice(1);
  url.pathname = "/postgres";
  const admin = new pg.Client({ connectionString: url.href });
  await admin.connect();
  await admin.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS false`);
  await admin.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", [name]);

  expect(await worker.said("aborted")).toBe("long");
  await admin.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS true`);
  await admin.end();
  expect(await engine.result("w")).toBe("waited");
  expect(await effects()).toEqual(["before", "long began", "long began", "after"]);
  expect((await executor(owner))?.epoch).toBe(2);
}, 60_000);

test("two processes that start one run at once get one run, and both its result", async () => {
  const both = [begin(), begin()];
  await Promise.all(both.map((worker) => worker.said("executor")));
  for (const worker of both) worker.process.send({ start: "one" });
  expect(await Promise.all(both.map((worker) => worker.said("result")))).toEqual([STORY_RESULT, STORY_RESULT]);
  expect(await effects()).toHaveLength(STORY_STEPS.length + 1);
}, 60_000);

test("a command follows a live service, and goes on itself when the service is killed", async () => {
  const service = begin();
  const owner = await service.said("executor");
  const command = await openEngine({ ...storyOptions(database), role: "command", leaseMs: LEASE_MS });
  command.register(allWorkflows);
  await command.launch();
  try {
    expect(command.working).toBe(false);
    const run = await command.start(waiting, null, { runId: "w", queue: "stories" });
    await until(async () => (await effects()).includes("long began"));
    expect((await command.status("w")).executor).toBe(owner);
    service.process.kill("SIGKILL");
    expect(await run.result()).toBe("waited");
    expect(command.working).toBe(true);
  } finally {
    await command.close();
  }
}, 60_000);
