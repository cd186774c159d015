// Workflows for the engine's tests. Every step leaves a row in `effects`, so that a test can count what was done.
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import type { Database } from "../../database/index.ts";
import { testDatabase } from "../../database/testing/postgres.ts";
import { silent } from "../../lib/call.ts";
import { SlipwayError } from "../../lib/errors.ts";
import { ensureTables } from "../dbos.ts";
import { defineStep, defineWorkflow, type EngineOptions, noRetry } from "../index.ts";
import { migrations } from "../migrations.ts";

export interface Services {
  readonly pool: pg.Pool;
}

/** A database with everything the tests need. */
export function storyDatabase(): Promise<Database> {
  return testDatabase({
    name: "story-1",
    async prepare(database) {
      await database.migrate("durable", migrations);
      await ensureTables(database.pool, silent);
      await database.pool.query("CREATE TABLE effects (id serial PRIMARY KEY, run text, step text, attempt int)");
    },
  });
}

export function storyOptions(database: Database): EngineOptions<Services> {
  return {
    database,
    role: "service",
    services: { pool: database.pool },
    queues: [
      { name: "stories", pollMs: 30 },
      { name: "parts", pollMs: 30, perWorker: 4 },
    ],
    log: silent,
    leaseMs: 2000,
  };
}

export const leave = defineStep<{ say: string }, { said: string; attempt: number }, Services>({
  name: "leave",
  retry: noRetry,
  timeoutMs: 20_000,
  async run(ctx, { say }) {
    await ctx.services.pool.query("INSERT INTO effects (run, step, attempt) VALUES ($1, $2, $3)", [
      ctx.run.id,
      ctx.run.step,
      ctx.attempt,
    ]);
    ctx.log.info("left a mark", { say });
    return { said: say, attempt: ctx.attempt };
  },
});

/** Fails as often and with the code it is told, then succeeds. */
export const fail = defineStep<{ times: number; code: "unavailable" | "invalid" }, { attempt: number }, Services>({
  name: "fail",
  retry: { attempts: 3, backoffMs: 1, factor: 1, maxMs: 1 },
  timeoutMs: 20_000,
  async run(ctx, { times, code }) {
    if (ctx.attempt > times) return { attempt: ctx.attempt };
    const error = new SlipwayError(code, `failed with geheim ${ctx.attempt}`, { subject: "a thing", next: "look" });
    throw Object.assign(error, { cloud: "aws", region: "us-east-1", requestId: "r-1" });
  },
});

/** Goes on until its signal is aborted, and says so. */
export const wait = defineStep<null, null, Services>({
  name: "wait",
  retry: noRetry,
  timeoutMs: 60_000,
  async run(ctx) {
    await ctx.services.pool.query("INSERT INTO effects (run, step, attempt) VALUES ($1, $2, $3)", [
      ctx.run.id,
      `${ctx.run.step} began`,
      ctx.attempt,
    ]);
    ctx.log.info("waiting", { password: "geheim" });
    ctx.progress({ percent: 10 });
    if (ctx.attempt > 1) return null;
    try {
      await sleep(60_000, undefined, { signal: ctx.signal });
    } catch {
      // A stopped process must not write; this one tells only where a test listens to it.
      process.send?.({ aborted: ctx.run.step });
      throw ctx.signal.reason;
    }
    return null;
  },
});

export const part = defineWorkflow<{ name: string }, string, Services>({
  name: "part",
  async run(flow, { name }) {
    await flow.step(leave, { say: name }, { key: "only" });
    return `part ${name}`;
  },
});

/** Two steps, two branches of two steps each, two children, one more step. */
export const story = defineWorkflow<null, string[], Services>({
  name: "story",
  async run(flow) {
    await flow.step(leave, { say: "a" }, { key: "a" });
    const began = await flow.now();
    const branches = await flow.settle(
      ["x", "y"].map((name) => async () => {
        // The second branch is the faster one, then the slower: their calls must not be mixed up on a replay.
        await flow.step(leave, { say: name }, { key: `${name}1` });
        if (name === "x") await flow.sleep(15);
        return (await flow.step(leave, { say: name }, { key: `${name}2` })).said;
      }),
    );
    const parts = ["p", "q"].map((name) => async () => {
      const child = await flow.start(part, { name }, { runId: `${flow.runId}.${name}`, queue: "parts", title: name });
      return child.result();
    });
    const children = await flow.settle(parts);
    await flow.step(leave, { say: String(began) }, { key: "z" });
    return [...branches, ...children].map((outcome) => (outcome.ok ? outcome.value : outcome.error.code));
  },
});

export const STORY_STEPS = ["a", "x1", "y1", "x2", "y2", "only", "z"];
export const STORY_RESULT = ["x", "y", "part p", "part q"];

export const failing = defineWorkflow<{ times: number; code: "unavailable" | "invalid" }, number, Services>({
  name: "failing",
  async run(flow, input) {
    return (await flow.step(fail, input, { key: "it" })).attempt;
  },
});

export const failingParent = defineWorkflow<null, Record<string, unknown>, Services>({
  name: "failing-parent",
  async run(flow) {
    const child = await flow.start(
      failing,
      { times: 9, code: "invalid" },
      { runId: `${flow.runId}.child`, queue: "parts" },
    );
    const [outcome] = await flow.settle([() => child.result()]);
    return outcome?.ok === false ? { ...outcome.error, message: outcome.error.message } : {};
  },
});

export const waiting = defineWorkflow<null, string, Services>({
  name: "waiting",
  async run(flow) {
    await flow.step(leave, { say: "before" }, { key: "before" });
    await flow.step(wait, null, { key: "long" });
    await flow.step(leave, { say: "after" }, { key: "after" });
    return "waited";
  },
});

export const waitingParent = defineWorkflow<null, string, Services>({
  name: "waiting-parent",
  async run(flow) {
    const child = await flow.start(waiting, null, { runId: `${flow.runId}.child`, queue: "parts" });
    return child.result();
  },
});

export const careless = defineWorkflow<null, null, Services>({
  name: "careless",
  async run(flow) {
    await Promise.all([flow.step(leave, { say: "1" }, { key: "1" }), flow.step(leave, { say: "2" }, { key: "2" })]);
    return null;
  },
});

export const allWorkflows = [story, part, failing, failingParent, waiting, waitingParent, careless];
