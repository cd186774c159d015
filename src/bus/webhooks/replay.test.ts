/** The replay protection is the inbox's: held here against the real one. */
import { createHmac } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Database } from "../../database/index.ts";
import { testDatabase } from "../../database/testing/postgres.ts";
import { silent } from "../../lib/call.ts";
import { acceptDeliveries, type InboxTables, listEvents } from "../inbox.ts";
import { BUS_MIGRATIONS } from "../schema.ts";
import { parseSchedule } from "../timers/schedule.ts";
import { firing } from "../timers/timers.ts";
import { createWebhookReceiver } from "./receiver.ts";

let database: Database;
beforeAll(async () => {
  database = await testDatabase();
  await database.migrate("bus", BUS_MIGRATIONS);
});
afterAll(() => database?.close());
const db = () => database.kysely<InboxTables>();

test("a webhook that is replayed, at the same time too, is one event that was delivered more than once", async () => {
  const { handle } = createWebhookReceiver({
    sources: { hub: { forge: "github", secrets: async () => ["hush"] } },
    accept: (deliveries) => acceptDeliveries(db(), "webhook", deliveries),
    log: silent,
  });
  const body = '{"ref":"main"}';
  const signature = `sha256=${createHmac("sha256", "hush").update(body).digest("hex")}`;
  const call = (delivery: string, event: string) =>
    handle({
      name: "hub",
      headers: { "x-github-event": event, "x-github-delivery": delivery, "x-hub-signature-256": signature },
      body: Buffer.from(body),
    });
  const answers = await Promise.all([call("1", "push"), call("1", "push"), call("2", "push"), call("3", "push")]);
  answers.push(await call("4", "release"));
  expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, 200, 200, 202]);
  expect(await listEvents(db(), { topic: "github.", limit: 10 })).toMatchObject([
    { id: answers[0]!.body.id, source: "webhook", topic: "github.push", body: { ref: "main" }, deliveries: 5 },
  ]);
});

test("a timer that two services fire, one in time and one late, is one event and no forgery", async () => {
  const timer = { name: "nightly", topic: "slipway.timer.nightly", body: {}, schedule: parseSchedule("@daily", "UTC") };
  const scheduled = new Date("2026-11-01T00:00:00Z");
  const accept = (late: boolean) => acceptDeliveries(db(), "timer", [firing(timer, scheduled, late)]);
  expect(await accept(false)).toMatchObject({ fresh: [expect.any(String)], quarantined: 0 });
  expect(await accept(true)).toEqual({ fresh: [], repeated: 1, quarantined: 0 });
});
