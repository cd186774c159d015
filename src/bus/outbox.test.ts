import { afterAll, beforeAll, expect, test } from "vitest";
import type { Database } from "../database/index.ts";
import { testDatabase } from "../database/testing/postgres.ts";
import { enqueueMessages, listMessages, messageId, OUTBOX_MIGRATIONS, type OutboxTables } from "./outbox.ts";

let database: Database;

beforeAll(async () => {
  database = await testDatabase();
  await database.migrate("bus", OUTBOX_MIGRATIONS);
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
  expect(before).toEqual([{ ...first, state: "waiting", runId: "run-1", createdAt: expect.any(String) }]);
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
