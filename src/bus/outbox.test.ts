import { afterAll, beforeAll, expect, test } from "vitest";
import type { Database } from "../database/index.ts";
import { testDatabase } from "../database/testing/postgres.ts";
import {
  claimMessages,
  enqueueMessages,
  listMessages,
  messageId,
  nextMessage,
  type OutboxTables,
  settleMessage,
} from "./outbox.ts";
import { BUS_MIGRATIONS } from "./schema.ts";

let database: Database;

beforeAll(async () => {
  database = await testDatabase();
  await database.migrate("bus", BUS_MIGRATIONS);
});
afterAll(() => database?.close());

const db = () => database.kysely<OutboxTables>();

function message(name: string, topic = `published.${name}`) {
  const body = { name, regions: { here: "i-1" } };
  return { id: messageId("test", name), topic, headers: { priority: 0 }, body, summary: `told ${name}` };
}

async function enqueue(runId: string, ...messages: ReturnType<typeof message>[]) {
  await db()
    .transaction()
    .execute((tx) => enqueueMessages(tx, messages, runId));
}

test("a message waits as it was written, and a repeat changes nothing", async () => {
  const first = message("repeat");
  await enqueue("run-1", first);
  const before = await listMessages(db(), { runId: "run-1", limit: 10 });
  expect(before).toEqual([{ ...first, state: "waiting", runId: "run-1", createdAt: expect.any(String), attempts: 0 }]);
  await enqueue("run-1", { ...first, summary: "told otherwise" });
  await enqueue("run-1-again", first, message("repeat-next"));
  expect(await listMessages(db(), { runId: "run-1", limit: 10 })).toEqual(before);
  const others = await listMessages(db(), { runId: "run-1-again", limit: 10 });
  expect(others.map((sent) => sent.id)).toEqual([message("repeat-next").id]);
});

test("a fact that is not committed is not announced", async () => {
  const failed = db()
    .transaction()
    .execute(async (tx) => {
      await enqueueMessages(tx, [message("lost")], "run-2");
      throw new Error("the fact could not be recorded");
    });
  await expect(failed).rejects.toThrow("could not be recorded");
  expect(await listMessages(db(), { runId: "run-2", limit: 10 })).toEqual([]);
});

test("no message is no statement", async () => {
  await enqueue("run-3");
  expect(await listMessages(db(), { runId: "run-3", limit: 10 })).toEqual([]);
});

test("newest first, no more than asked for", async () => {
  for (const name of ["a", "b", "c"]) await enqueue("run-4", message(name));
  const sent = await listMessages(db(), { runId: "run-4", limit: 2 });
  expect(sent.map((one) => one.body.name)).toEqual(["c", "b"]);
});

test("a topic is searched for as it stands: no character is a pattern", async () => {
  await enqueue("run-5", message("one", "x.Cloud_Base.y"), message("two", "x.CloudXBase.y"), message("three", "x.%.y"));
  const found = async (topic: string) =>
    (await listMessages(db(), { topic, limit: 10 })).map((one) => one.topic).sort();
  expect(await found("Cloud_Base")).toEqual(["x.Cloud_Base.y"]);
  expect(await found("%")).toEqual(["x.%.y"]);
  expect(await found("\\")).toEqual([]);
});

test("each message is claimed by one, in order, and what became of it is kept", async () => {
  await database.pool.query("truncate outbox");
  const names = ["one", "two", "three", "four"];
  for (const name of names) await enqueue("run-5", message(`claim-${name}`));
  const claimed = (await Promise.all([claimMessages(db(), 2), claimMessages(db(), 2)])).flat();
  expect(claimed.map(({ body }) => body.name).sort()).toEqual(names.map((name) => `claim-${name}`).sort());
  expect(await claimMessages(db(), 10)).toEqual([]);
  const [one, two, three, four] = names.map((name) => message(`claim-${name}`).id);
  await settleMessage(db(), one!, { how: "delivered" });
  await settleMessage(db(), two!, { how: "delivered-with-warning", trouble: "nobody listens" });
  await settleMessage(db(), three!, { how: "again", trouble: "nobody listens", afterMs: 0, unroutable: true });
  await settleMessage(db(), four!, { how: "invalid", trouble: "release: is no number" });
  // Whoever was late does not take it back.
  await settleMessage(db(), one!, { how: "again", trouble: "late", afterMs: 0, unroutable: false });
  const states = (await listMessages(db(), { runId: "run-5", limit: 10 })).reverse();
  expect(states.map(({ state, trouble }) => [state, trouble])).toEqual([
    ["delivered", undefined],
    ["delivered-with-warning", "nobody listens"],
    ["waiting", "nobody listens"],
    ["invalid", "release: is no number"],
  ]);
  expect(await claimMessages(db(), 10)).toMatchObject([{ id: three, attempts: 2, unroutable: 1 }]);
  expect(await nextMessage(db(), 600_000)).toBeGreaterThan(1000);
});

test("what was claimed by somebody who died is there again", async () => {
  await database.pool.query("truncate outbox");
  await enqueue("run-6", message("died"));
  await claimMessages(db(), 1);
  await database.pool.query("update outbox set next_at = now()");
  expect(await claimMessages(db(), 1)).toMatchObject([{ attempts: 2 }]);
});
