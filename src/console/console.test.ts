import { get, type IncomingMessage } from "node:http";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { enqueueMessages, messageId } from "../bus/outbox.ts";
import { BUS_MIGRATIONS } from "../bus/schema.ts";
import { recordImage, recordVersion } from "../catalog/catalog.ts";
import { CATALOG_MIGRATIONS } from "../catalog/schema.ts";
import type { Database } from "../database/index.ts";
import { testDatabase } from "../database/testing/postgres.ts";
import type { Engine, ListQuery, RunEvent, RunView } from "../durable/index.ts";
import { type Log, silent } from "../lib/call.ts";
import { SlipwayError } from "../lib/errors.ts";
import type { Services, Tables } from "../workflows/index.ts";
import { type ConsoleOptions, type OpenConsole, openConsole } from "./index.ts";

let database: Database;
const db = () => database.kysely<Tables>();

beforeAll(async () => {
  database = await testDatabase();
  await database.migrate("catalog", CATALOG_MIGRATIONS);
  await database.migrate("bus", BUS_MIGRATIONS);
});
afterAll(() => database?.close());

const opened: OpenConsole[] = [];
afterEach(async () => {
  for (const one of opened.splice(0)) await one.close();
});

const run: RunView = {
  ...{ id: "C-1.cloud.1", workflow: "release-compose", title: "C-1 → cloud", labels: {}, root: "C-1.cloud.1" },
  ...{ queue: "releases", state: "done", createdAt: 1 },
};
const LONG = `C-1.${"long".repeat(40)}.1`;

/** An engine with one finished run and one that goes on. */
function fakeEngine(changes: Partial<Engine<Services>> = {}) {
  const asked: ListQuery[] = [];
  const engine: Partial<Engine<Services>> = {
    async list(query = {}) {
      asked.push(query);
      return [run];
    },
    async status(id) {
      if (id === run.id || id === LONG) return { ...run, id };
      if (id === "running") return { ...run, id, state: "running" };
      throw new SlipwayError("not-found", `there is no run ${id}`, { next: "See slipway runs list." });
    },
    steps: async () => [],
    result: async () => ({ result: "done" }),
    logs: async (_, options) => ({ lines: [], next: `after ${options?.after ?? "nothing"}` }),
    ...changes,
  };
  return { engine: engine as Engine<Services>, asked };
}

async function start(engine: Engine<Services>, options: Partial<ConsoleOptions> = {}): Promise<OpenConsole> {
  const one = await openConsole({
    ...{ engine, services: { db: db() }, listen: { host: "127.0.0.1", port: 0 } },
    ...{ version: "1.2.3", systems: ["cloud"], log: silent },
    ...options,
  });
  opened.push(one);
  return one;
}

async function ask(url: string) {
  const response = await fetch(url);
  const text = await response.text();
  const json = response.headers.get("content-type")?.includes("json") ? JSON.parse(text) : undefined;
  return { status: response.status, headers: response.headers, text, json };
}

test("runs are listed, the roots only, as many and as far back as asked", async () => {
  const { engine, asked } = fakeEngine();
  const { url } = await start(engine);
  expect(await ask(`${url}/api/runs`)).toMatchObject({ status: 200, json: { runs: [run] } });
  await ask(`${url}/api/runs?state=failed&limit=7&before=C-0.cloud.1`);
  expect(asked).toEqual([
    { rootsOnly: true, limit: 50 },
    { rootsOnly: true, limit: 7, state: "failed", before: "C-0.cloud.1" },
  ]);
});

test("a run comes with its steps, and with its outcome once it is done", async () => {
  const { url } = await start(fakeEngine().engine);
  expect((await ask(`${url}/api/runs/${run.id}`)).json).toEqual({ run, steps: [], outcome: { result: "done" } });
  expect((await ask(`${url}/api/runs/running`)).json).toMatchObject({ run: { state: "running" }, outcome: null });
  expect((await ask(`${url}/api/runs/${LONG}`)).json).toMatchObject({ run: { id: LONG } });
});

test("the log is read page by page", async () => {
  const { url } = await start(fakeEngine().engine);
  expect((await ask(`${url}/api/runs/${run.id}/logs`)).json).toEqual({ lines: [], next: "after nothing" });
  expect((await ask(`${url}/api/runs/${run.id}/logs?after=12`)).json).toEqual({ lines: [], next: "after 12" });
});

test("images, containers and messages are read from the catalog", async () => {
  const version = {
    ...{ id: "v", system: "cloud", composeId: "C-1", kind: "rc", label: undefined, artifactPath: "x.raw.xz" },
    ...{ artifactSha256: "0", subvariant: "Cloud_Base", arch: "x86_64", release: 43 },
  };
  const place = { versionId: "v", target: "aws", cloud: "aws", name: "image-1", key: "k" };
  const message = { id: messageId("console"), topic: "t", headers: {}, body: { a: 1 }, summary: "told" };
  await db()
    .transaction()
    .execute(async (tx) => {
      await recordVersion(tx, version, run.id);
      await recordImage(tx, place, { key: "k", region: "here", id: "ami-1", name: "image-1", state: "active" });
      await enqueueMessages(tx, [message], run.id);
    });
  const { url } = await start(fakeEngine().engine);
  expect((await ask(`${url}/api/images`)).json).toMatchObject({ images: [{ id: "ami-1" }], containers: [] });
  expect((await ask(`${url}/api/images?search=ami-2`)).json).toMatchObject({ images: [] });
  expect((await ask(`${url}/api/images?compose=C-2`)).json).toMatchObject({ images: [] });
  expect((await ask(`${url}/api/messages?run=${run.id}`)).json).toMatchObject({ messages: [{ summary: "told" }] });
  expect((await ask(`${url}/api/messages?run=other`)).json).toEqual({ messages: [] });
  expect((await ask(`${url}/api/about`)).json).toEqual({ version: "1.2.3", systems: ["cloud"] });
});

test.each([
  ["/api/runs?limit=0", 400, "invalid", "limit"],
  ["/api/runs?limit=many", 400, "invalid", "limit"],
  ["/api/runs?state=gone", 400, "invalid", "state"],
  ["/api/runs?state=done&state=failed", 400, "invalid", "state"],
  [`/api/runs?before=${"x".repeat(301)}`, 400, "invalid", "before"],
  ["/api/images?limit=100000", 400, "invalid", "limit"],
  ["/api/runs/gone", 404, "not-found", undefined],
  ["/api/runs/gone/logs", 404, "not-found", undefined],
  ["/api/runs/gone/events", 404, "not-found", undefined],
  ["/api/nothing", 404, "not-found", undefined],
  ["/api/runs/%zz", 400, "invalid", undefined],
])("%s is answered %d with an error of our shape", async (path, status, code, subject) => {
  const { url } = await start(fakeEngine().engine);
  const answer = await ask(`${url}${path}`);
  expect(answer).toMatchObject({ status, json: { error: { code, message: expect.any(String) } } });
  expect(answer.json.error.subject).toBe(subject);
});

test("a page cannot change anything: there is nothing to post to", async () => {
  const { url } = await start(fakeEngine().engine);
  const response = await fetch(`${url}/api/runs`, { method: "POST", body: "{}" });
  expect(response.status).toBe(404);
  expect(await response.json()).toMatchObject({ error: { code: "not-found" } });
});

test("a failure of ours is told to the log and answered 500; a database that is away 503", async () => {
  const told: unknown[] = [];
  const log: Log = { ...silent, error: (...all) => void told.push(all) };
  const broken = (error: Error) => fakeEngine({ list: () => Promise.reject(error) }).engine;
  const first = await start(broken(new TypeError("x is not a function")), { log });
  expect(await ask(`${first.url}/api/runs`)).toMatchObject({ status: 500, json: { error: { code: "unknown" } } });
  expect(told).toEqual([["console request failed", { error: "x is not a function" }]]);
  const second = await start(broken(new SlipwayError("unavailable", "the database is away")), { log });
  expect((await ask(`${second.url}/api/runs`)).status).toBe(503);
  expect(told).toHaveLength(1);
});

test("every answer forbids foreign scripts and frames, and is for this origin alone", async () => {
  const { url } = await start(fakeEngine().engine);
  for (const path of ["/", "/api/runs", "/api/nothing", `/api/runs/${run.id}`]) {
    const { headers } = await ask(`${url}${path}`);
    expect(headers.get("content-security-policy"), path).toMatch(/default-src 'none'.*frame-ancestors 'none'/);
    expect(headers.get("x-content-type-options"), path).toBe("nosniff");
    expect(headers.get("access-control-allow-origin"), path).toBeNull();
  }
});

function askAs(url: string, host: string, path = "/api/about"): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    get(`${url}${path}`, { headers: { host } }, (response) => {
      response.resume();
      resolve(response);
    }).on("error", reject);
  });
}

test.each([
  ["evil.example", 421],
  ["evil.example:8080", 421],
  ["127.0.0.1.evil.example", 421],
  ["localhost.evil.example", 421],
  ["localhost", 200],
  ["LocalHost:1", 200],
  ["192.168.1.7:8080", 200],
  ["[::1]:8080", 200],
  ["slipway.example", 200],
])("asked for as %s it answers %d", async (host, status) => {
  const { url } = await start(fakeEngine().engine, { hosts: ["slipway.example"] });
  const answer = await askAs(url, host);
  expect(answer.statusCode).toBe(status);
  expect((await askAs(url, host, "/")).statusCode).toBe(status);
});

test("events come while they happen, and the stream ends with the run", async () => {
  let tell: (event: RunEvent) => void = () => {};
  let finish: () => void = () => {};
  let watching: () => void = () => {};
  const watched = new Promise<void>((resolve) => {
    watching = resolve;
  });
  const { engine } = fakeEngine({
    watch(_, onEvent, options) {
      expect(options?.logs).toBe(true);
      tell = onEvent;
      watching();
      return new Promise((resolve) => {
        finish = resolve;
      });
    },
  });
  const { url } = await start(engine);
  const response = await fetch(`${url}/api/runs/running/events`);
  await watched;
  expect(response.headers.get("content-type")).toBe("text/event-stream");
  expect(response.headers.get("cache-control")).toBe("no-store");
  expect(response.headers.get("content-security-policy")).toContain("default-src 'none'");
  const parts = response.body!.pipeThrough(new TextDecoderStream()).values();
  tell({ kind: "run", run });
  expect((await parts.next()).value).toBe(`event: run\ndata: ${JSON.stringify({ kind: "run", run })}\n\n`);
  const line = { at: 1, level: "info", message: "two\nlines", run: run.id } as const;
  tell({ kind: "log", line });
  expect((await parts.next()).value).toBe(`event: log\ndata: ${JSON.stringify({ kind: "log", line })}\n\n`);
  finish();
  expect((await parts.next()).value).toBe("event: end\ndata: {}\n\n");
  expect((await parts.next()).done).toBe(true);
});

/** Watches until the signal; `seen` settles when it came. */
function patientEngine() {
  let left: () => void = () => {};
  const seen = new Promise<void>((resolve) => {
    left = resolve;
  });
  const { engine } = fakeEngine({
    async watch(_, onEvent, options) {
      onEvent({ kind: "run", run });
      await new Promise<void>((resolve) => options?.signal?.addEventListener("abort", () => resolve()));
      left();
      throw options?.signal?.reason;
    },
  });
  return { engine, seen };
}

test("a browser that goes away is not watched for any longer", async () => {
  const { engine, seen } = patientEngine();
  const { url } = await start(engine);
  const leaving = new AbortController();
  const response = await fetch(`${url}/api/runs/running/events`, { signal: leaving.signal });
  await response.body!.getReader().read();
  leaving.abort();
  await seen;
});

test("the console closes although somebody watches", async () => {
  const { engine, seen } = patientEngine();
  const one = await start(engine);
  const response = await fetch(`${one.url}/api/runs/running/events`);
  await response.body!.getReader().read();
  await one.close();
  await seen;
});

test("an address that is taken is told with what to do", async () => {
  const { url } = await start(fakeEngine().engine);
  const port = Number(new URL(url).port);
  await expect(start(fakeEngine().engine, { listen: { host: "127.0.0.1", port } })).rejects.toMatchObject({
    code: "conflict",
    message: `127.0.0.1:${port} is in use`,
    next: expect.stringContaining("--listen"),
  });
});
