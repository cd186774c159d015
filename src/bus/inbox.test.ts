import fc from "fast-check";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import type { Database } from "../database/index.ts";
import { testDatabase } from "../database/testing/postgres.ts";
import { acceptDeliveries, INBOX_CHANNEL, type InboxTables, listEvents } from "./inbox.ts";
import type { Delivery } from "./message.ts";
import { BUS_MIGRATIONS } from "./schema.ts";

let database: Database;
beforeAll(async () => {
  database = await testDatabase();
  await database.migrate("bus", BUS_MIGRATIONS);
});
beforeEach(async () => {
  await database.pool.query("truncate inbox, quarantine cascade");
});
afterAll(() => database?.close());

const db = () => database.kysely<InboxTables>();

function delivery(messageId: string, body: unknown = { n: messageId }, more: Partial<Delivery> = {}): Delivery {
  const content = typeof body === "string" ? Buffer.from(body) : Buffer.from(JSON.stringify(body));
  return { routingKey: "org.example.test", content, messageId, contentEncoding: "utf-8", ...more };
}
const quarantined = () => db().selectFrom("quarantine").selectAll().orderBy("id").execute();

test("events are kept as they came, and told of", async () => {
  let told = 0;
  const listener = await database.listen(INBOX_CHANNEL, () => told++);
  const headers = { fedora_messaging_severity: 30, fedora_messaging_schema: "base.message" };
  const odd = { text: "\ud800 \u0000", __proto__: null, deep: { list: [1, null, true] } };
  const said = await acceptDeliveries(db(), "broker", [delivery("a", odd, { headers, priority: 4 })]);
  expect(said).toEqual({ fresh: ["a"], repeated: 0, quarantined: 0 });
  const [event] = await listEvents(db(), { limit: 10 });
  expect(event).toMatchObject({
    ...{ id: "a", topic: "org.example.test", severity: 30, priority: 4, schema: "base.message", headers },
    ...{ body: odd, source: "broker", deliveries: 1, dispatched: false },
  });
  await expect.poll(() => told).toBeGreaterThan(0);
  await listener.close();
});

test("fifty deliveries of one message are one event", async () => {
  const same = Array.from({ length: 25 }, () => delivery("a"));
  expect(await acceptDeliveries(db(), "broker", same)).toEqual({ fresh: ["a"], repeated: 24, quarantined: 0 });
  expect(await acceptDeliveries(db(), "broker", same)).toEqual({ fresh: [], repeated: 25, quarantined: 0 });
  expect(await listEvents(db(), { limit: 10 })).toMatchObject([{ id: "a", deliveries: 50 }]);
});

test("an id that comes back with another body is kept apart, and the first one stays", async () => {
  await acceptDeliveries(db(), "broker", [delivery("a", { n: 1 })]);
  for (let time = 0; time < 2; time++) {
    const said = await acceptDeliveries(db(), "broker", [
      delivery("b"),
      delivery("a", { n: 2 }),
      delivery("a", { n: 1 }),
    ]);
    expect(said).toMatchObject({ quarantined: 1, repeated: time === 0 ? 1 : 2 });
  }
  const first = (await listEvents(db(), { id: "a", limit: 1 }))[0];
  expect(first).toMatchObject({ body: { n: 1 }, deliveries: 5 });
  expect(await quarantined()).toMatchObject([{ id: "a", reason: "another-body", deliveries: 2 }]);
});

test("two bodies under one id in one batch: the first is the event", async () => {
  const said = await acceptDeliveries(db(), "broker", [delivery("a", { n: 1 }), delivery("a", { n: 2 })]);
  expect(said).toEqual({ fresh: ["a"], repeated: 0, quarantined: 1 });
});

test("what nobody can read is in quarantine once, with its reason, its beginning and no header's value", async () => {
  const headers = { authorization: "Bearer hunter2" };
  const poison = delivery("p", "{broken", { headers, routingKey: "bad\u0000topic".replace("\u0000", ".") });
  const large = { ...delivery("l", ""), content: Buffer.alloc(17 * 1024 * 1024, 0x20) };
  const nul = delivery("n", {}, { routingKey: "bad\u0000topic" });
  for (let time = 0; time < 3; time++)
    await acceptDeliveries(db(), "broker", [poison, large, nul, delivery(`ok-${time}`)]);
  const rows = await quarantined();
  expect(rows.map(({ id, reason, deliveries, topic }) => [id, reason, deliveries, topic])).toEqual([
    ["l", "too-large", 3, "org.example.test"],
    ["n", "topic", 3, "bad\\u0000topic"],
    ["p", "not-json", 3, "bad.topic"],
  ]);
  expect(rows.find(({ id }) => id === "l")).toMatchObject({ body_bytes: "17825792" });
  expect(rows.find(({ id }) => id === "l")!.body).toHaveLength(64 * 1024);
  expect(JSON.stringify(rows)).not.toContain("hunter2");
  expect(await listEvents(db(), { limit: 10 })).toHaveLength(3);
});

test("a batch is kept whole or not at all", async () => {
  await database.pool.query("alter table quarantine add constraint nothing check (reason <> 'not-json')");
  try {
    await expect(acceptDeliveries(db(), "broker", [delivery("a"), delivery("p", "{")])).rejects.toThrow();
    expect(await listEvents(db(), { limit: 10 })).toEqual([]);
  } finally {
    await database.pool.query("alter table quarantine drop constraint nothing");
  }
});

test("whatever the order, the batches and the repeats: every id is one event, every other body is in quarantine", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ id: fc.constantFrom("a", "b", "c"), body: fc.integer({ min: 0, max: 2 }) }), {
        maxLength: 20,
      }),
      fc.integer({ min: 1, max: 6 }),
      async (sent, batch) => {
        await database.pool.query("truncate inbox, quarantine cascade");
        const counted = { fresh: 0, repeated: 0, quarantined: 0 };
        for (let at = 0; at < sent.length; at += batch) {
          const deliveries = sent.slice(at, at + batch).map(({ id, body }) => delivery(id, { body }));
          const said = await acceptDeliveries(db(), "broker", deliveries);
          counted.fresh += said.fresh.length;
          counted.repeated += said.repeated;
          counted.quarantined += said.quarantined;
        }
        const ids = new Set(sent.map(({ id }) => id));
        const bodies = new Set(sent.map(({ id, body }) => `${id} ${body}`));
        expect(counted.fresh).toBe(ids.size);
        expect(counted.fresh + counted.repeated + counted.quarantined).toBe(sent.length);
        expect(await listEvents(db(), { limit: 100 })).toHaveLength(ids.size);
        expect(await quarantined()).toHaveLength(bodies.size - ids.size);
      },
    ),
    { numRuns: 40 },
  );
});

test("two processes that accept the same do not stand in each other's way", async () => {
  const batch = (names: readonly string[]) => names.map((name) => delivery(name));
  const names = Array.from({ length: 50 }, (_, index) => `m-${index}`);
  const [one, other] = await Promise.all([
    acceptDeliveries(db(), "broker", batch(names)),
    acceptDeliveries(db(), "broker", batch([...names].reverse())),
  ]);
  expect(one.fresh.length + other.fresh.length).toBe(50);
  expect(one.repeated + other.repeated).toBe(50);
});

test("events are in the order in which they came, whatever their ids", async () => {
  const ids = ["b", "10", "9", "a", "2"];
  await acceptDeliveries(
    db(),
    "broker",
    ids.map((id) => delivery(id)),
  );
  const kept = await listEvents(db(), { limit: 10 });
  expect(kept.reverse().map(({ id }) => id)).toEqual(ids);
});
