import type { Socket } from "node:net";
import type pg from "pg";
import { afterEach, expect, test } from "vitest";
import type { Database } from "../database/index.ts";
import { type Engine, openEngine, type RunEvent } from "./index.ts";
import {
  allWorkflows,
  careless,
  failing,
  failingParent,
  type Services,
  STORY_RESULT,
  STORY_STEPS,
  story,
  storyDatabase,
  storyOptions,
  waiting,
  waitingParent,
} from "./testing/story.ts";

const opened: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const thing of opened.reverse()) await thing.close();
  opened.length = 0;
});

async function engineOn(database: Database, more = {}): Promise<Engine<Services>> {
  const engine = await openEngine({ ...storyOptions(database), ...more });
  opened.push(engine);
  engine.register(allWorkflows);
  await engine.launch();
  return engine;
}

async function fresh(more = {}): Promise<{ database: Database; engine: Engine<Services> }> {
  const database = await storyDatabase();
  opened.push(database);
  return { database, engine: await engineOn(database, more) };
}

async function until(check: () => Promise<boolean>): Promise<void> {
  while (!(await check())) await new Promise((resolve) => setTimeout(resolve, 10));
}

function effects(database: Database): Promise<string[]> {
  return database.pool.query("SELECT step FROM effects ORDER BY id").then(({ rows }) => rows.map((row) => row.step));
}

test("a run of steps, branches and children is carried out once, and can be looked at", async () => {
  const { database, engine } = await fresh();
  const start = { runId: "s1", queue: "stories", title: "A story", labels: { compose: "c1" } };
  const first = await engine.start(story, null, start);
  const second = await engine.start(story, null, start);
  expect(await first.result()).toEqual(STORY_RESULT);
  expect(await second.result()).toEqual(STORY_RESULT);
  expect((await effects(database)).sort()).toEqual([...STORY_STEPS, "only"].sort());

  expect(await engine.status("s1")).toMatchObject({ state: "done", title: "A story", root: "s1" });
  const byLabel = await engine.list({ labels: { compose: "c1" } });
  expect(byLabel.map((run) => run.id)).toEqual(["s1"]);
  const all = await engine.list({ state: "done" });
  expect(all.map((run) => run.id).sort()).toEqual(["s1", "s1.p", "s1.q"]);
  expect((await engine.list({ before: all[0]!.id, limit: 1 })).map((run) => run.id)).toEqual([all[1]!.id]);
  expect((await engine.steps("s1")).map((step) => step.key)).toEqual(expect.arrayContaining(["a", "x1", "z"]));
  expect(await engine.steps("s1.p")).toMatchObject([{ key: "only", name: "leave", state: "done" }]);
  const { lines, next } = await engine.logs("s1", { tree: true });
  expect(lines.filter((line) => line.run === "s1.q")).toMatchObject([
    { level: "info", message: "left a mark", fields: { say: "q" }, step: "only", attempt: 1 },
  ]);
  expect((await engine.logs("s1", { tree: true, after: next })).lines).toEqual([]);

  expect(await engine.forget(Date.now() + 1000)).toBe(3);
  await expect(engine.status("s1")).rejects.toMatchObject({ code: "not-found" });
});

test("an id that belongs to another workflow is refused, and so is one that is none", async () => {
  const { engine } = await fresh();
  await (await engine.start(failing, { times: 0, code: "invalid" }, { runId: "same", queue: "stories" })).result();
  await expect(engine.start(story, null, { runId: "same", queue: "stories" })).rejects.toMatchObject({
    code: "conflict",
    subject: "same",
  });
  await expect(engine.start(story, null, { runId: "a b", queue: "stories" })).rejects.toMatchObject({
    code: "invalid",
  });
});

const attempts = [
  { name: "a transient error that passes", times: 2, code: "unavailable", attempts: 3 },
  { name: "a transient error that stays", times: 9, code: "unavailable", attempts: 3, fails: true },
  { name: "a permanent error", times: 9, code: "invalid", attempts: 1, fails: true },
] as const;
for (const { name, times, code, attempts: expected, ...rest } of attempts) {
  test(`${name} takes ${expected} attempts, each on record`, async () => {
    const { engine } = await fresh({ mask: (text: string) => text.replaceAll("geheim", "***") });
    const run = await engine.start(failing, { times, code }, { runId: "f", queue: "stories" });
    const ended = await run.result().catch((error) => error);
    const [step] = await engine.steps("f");
    expect(step?.attempts).toHaveLength(expected);
    if (!("fails" in rest)) {
      expect(ended).toBe(expected);
      expect(step?.attempts.map((attempt) => attempt.state)).toEqual(["failed", "failed", "done"]);
      return;
    }
    const report = { code, subject: "a thing", next: "look", cloud: "aws", region: "us-east-1", requestId: "r-1" };
    expect(ended).toMatchObject({ ...report, message: `failed with *** ${expected}` });
    expect((await engine.status("f")).error).toMatchObject(report);
    expect(step?.error).toMatchObject(report);
    expect(JSON.stringify([await engine.steps("f"), await engine.logs("f")])).not.toContain("geheim");
  });
}

test("a child's error reaches its parent with all fields", async () => {
  const { engine } = await fresh();
  const run = await engine.start(failingParent, null, { runId: "fp", queue: "stories" });
  expect(await run.result()).toMatchObject({ code: "invalid", next: "look", cloud: "aws", requestId: "r-1" });
});

test("two calls at once outside of settle are refused, for a replay could not tell them apart", async () => {
  const { engine } = await fresh();
  const run = await engine.start(careless, null, { runId: "c", queue: "stories" });
  await expect(run.result()).rejects.toMatchObject({ code: "invalid", next: expect.stringContaining("settle") });
});

test("a step's log and progress can be read while it runs, masked; watching ends with the run", async () => {
  const { engine } = await fresh({ mask: (text: string) => text.replaceAll("geheim", "***") });
  await engine.start(waiting, null, { runId: "w", queue: "stories" });
  const events: RunEvent[] = [];
  const seen = Promise.withResolvers<void>();
  const watching = engine.watch(
    "w",
    (event) => {
      events.push(event);
      const told = JSON.stringify(events);
      if (told.includes('"waiting","fields"') && told.includes('"percent":10')) seen.resolve();
    },
    { logs: true },
  );
  await seen.promise;
  expect((await engine.status("w")).state).toBe("running");
  expect(JSON.stringify(events)).toContain("***");
  expect(JSON.stringify(events)).not.toContain("geheim");
  await engine.cancel("w");
  await watching;
  expect(events.at(-1)).toMatchObject({ kind: "run", run: { id: "w", state: "cancelled" } });
});

test("cancelling stops the run, its child and their signals; resuming goes on after the last finished step", async () => {
  const { database, engine } = await fresh();
  const run = await engine.start(waitingParent, null, { runId: "wp", queue: "stories" });
  await until(async () => (await effects(database)).includes("long began"));
  await engine.cancel("wp");
  await expect(run.result()).rejects.toMatchObject({ code: "cancelled" });
  await until(async () => (await engine.steps("wp.child")).at(-1)?.state !== "running");
  expect((await engine.list()).map((view) => view.state)).toEqual(["cancelled", "cancelled"]);

  await engine.resume("wp");
  await engine.resume("wp");
  expect(await run.result()).toBe("waited");
  expect(await effects(database)).toEqual(["before", "long began", "long began", "after"]);
  expect((await engine.steps("wp.child")).map((step) => step.attempts.length)).toEqual([1, 2, 1]);
});

test("closing hands what runs to the next engine", async () => {
  const { database, engine } = await fresh();
  await engine.start(waiting, null, { runId: "h", queue: "stories" });
  await until(async () => (await effects(database)).includes("long began"));
  await engine.close();
  const next = await engineOn(database);
  expect(await next.result("h")).toBe("waited");
  expect(await effects(database)).toEqual(["before", "long began", "long began", "after"]);
});

test("runs go on when connections break in the middle of a write", async () => {
  const database = await storyDatabase();
  opened.push(database);
  const sockets = new Set<Socket>();
  const watched = (pool: pg.Pool) => {
    pool.on("connect", (client) => {
      sockets.add((client as unknown as { connection: { stream: Socket } }).connection.stream);
    });
    return pool;
  };
  watched(database.pool);
  // What the steps do themselves is not the engine's to try again.
  const calm = database.newPool(4);
  opened.push({ close: () => calm.end() });
  const shaken = { ...database, newPool: (...args: [number, number?]) => watched(database.newPool(...args)) };
  const engine = await engineOn(shaken, { services: { ...storyOptions(database).services, pool: calm } });
  const ids = Array.from({ length: 8 }, (_, n) => `broken-${n}`);
  const handles = [];
  for (const runId of ids) handles.push(await engine.start(story, null, { runId, queue: "stories" }));
  for (let round = 0; round < 15; round++) {
    await new Promise((resolve) => setTimeout(resolve, 15));
    for (const socket of sockets) socket.destroy(Object.assign(new Error("write EPIPE"), { code: "EPIPE" }));
    sockets.clear();
  }
  for (const handle of handles) expect(await handle.result()).toEqual(STORY_RESULT);
});
