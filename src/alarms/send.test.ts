import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import type { Database } from "../database/index.ts";
import { quietCall } from "../lib/call.ts";
import { SlipwayError } from "../lib/errors.ts";
import { hours, minutes, seconds } from "../lib/units.ts";
import type { Notice } from "./alarm.ts";
import { listAlarms } from "./book.ts";
import type { Channel } from "./channels/channel.ts";
import { reconcile } from "./keep.ts";
import type { AlarmTables } from "./schema.ts";
import { sendNotices } from "./send.ts";
import { alarmDatabase } from "./testing/database.ts";

let database: Database;
const db = () => database.kysely<AlarmTables>();

beforeAll(async () => {
  database = await alarmDatabase();
});
afterAll(() => database?.close());
beforeEach(async () => {
  await database.pool.query("truncate alarms, alarm_notices, alarm_looks");
  clock = Date.parse("2026-04-20T03:00:00Z");
  sent = [];
  trouble = undefined;
});

let clock: number;
const now = () => new Date(clock);
let sent: Notice[];
let trouble: SlipwayError | undefined;

/** Takes a notice, or takes it and says that it did not: the answer that is lost. */
const channel = (name: string, loseAnswer = false): Channel => ({
  ...{ name, kind: "webhook" },
  async send(notice) {
    if (trouble !== undefined && !loseAnswer) throw trouble;
    sent.push(notice);
    if (trouble !== undefined) throw trouble;
  },
});

async function look(keys: readonly string[], channels: readonly string[] = ["ops"]): Promise<void> {
  const facts = { kind: "broker", severity: "error", subject: "s", message: "It is away.", next: "Look." } as const;
  const alarms = keys.map((key) => ({ key, ...facts }));
  const settings = { channels: () => channels, settle: 0, keep: hours(999) };
  await reconcile(db(), { alarms, kinds: ["broker"], off: [] }, settings, now());
}

const send = (channels: readonly Channel[] = [channel("ops")], signal?: AbortSignal) =>
  sendNotices(db(), channels, quietCall(signal), now());

async function states(): Promise<string[]> {
  const rows = await db().selectFrom("alarm_notices").selectAll().orderBy("sequence").execute();
  return rows.map(({ what, channel: name, state, attempts }) => `${what} ${name} ${state} ${attempts}`);
}

test("what was written is sent once, to the channels it is for", async () => {
  await look(["broker:a"], ["ops", "log"]);
  expect(await send([channel("log"), channel("ops")])).toBe(2);
  expect(await send([channel("log"), channel("ops")])).toBe(0);
  expect(sent.map(({ what, key }) => `${what} ${key}`)).toEqual(["raised broker:a", "raised broker:a"]);
  expect(new Set(sent.map(({ id }) => id)).size).toBe(2);
  expect(await states()).toEqual(["raised ops sent 1", "raised log sent 1"]);
});

test("several that send at once send each once", async () => {
  await look(["broker:a", "broker:b", "broker:c"]);
  await Promise.all(Array.from({ length: 4 }, () => send()));
  while ((await send()) > 0);
  expect(sent.map(({ key }) => key).sort()).toEqual(["broker:a", "broker:b", "broker:c"]);
});

test("a lost answer is sent again under the same id", async () => {
  await look(["broker:a"]);
  trouble = new SlipwayError("unavailable", "no answer");
  await send([channel("ops", true)]);
  trouble = undefined;
  clock += seconds(30);
  await send();
  expect(sent).toHaveLength(2);
  expect(sent[0]).toEqual(sent[1]);
});

test("a process that died with it: another sends it when the claim has ended", async () => {
  await look(["broker:a"]);
  const stop = new AbortController();
  trouble = new SlipwayError("cancelled", "stopped");
  stop.abort();
  await send([channel("ops")], stop.signal);
  trouble = undefined;
  clock += minutes(1);
  expect(await send()).toBe(0);
  clock += minutes(1);
  expect(await send()).toBe(1);
  expect(await states()).toEqual(["raised ops sent 2"]);
});

test("what cannot be sent is tried less and less often, said where people look, and given up after a day", async () => {
  await look(["broker:a"]);
  trouble = new SlipwayError("forbidden", "channel ops: example.org answers 403\r\n\u001b[31m");
  const tries: number[] = [];
  const begun = clock;
  for (; clock < begun + hours(26); clock += seconds(30)) {
    if ((await send()) > 0) tries.push((clock - begun) / 60_000);
  }
  expect(tries.slice(0, 8)).toEqual([0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 63.5]);
  expect(tries.at(-1)! - tries.at(-2)!, "an hour apart").toBe(60);
  expect(tries.at(-1)).toBeLessThan(25 * 60);
  expect(await states()).toEqual([`raised ops given-up ${tries.length}`]);
  const [one] = await listAlarms(db(), { limit: 1, now: now() });
  expect(one!.told).toMatchObject([
    { state: "given-up", trouble: "forbidden: channel ops: example.org answers 403 [31m" },
  ]);
});

test("an end does not overtake its beginning, and one channel that is away holds up no other", async () => {
  await look(["broker:a"], ["ops", "log"]);
  trouble = new SlipwayError("unavailable", "away");
  await send([channel("ops"), { ...channel("log"), send: async (notice) => void sent.push(notice) }]);
  await look([]);
  trouble = undefined;
  await send([channel("ops"), channel("log")]);
  expect(await states()).toEqual([
    ...["raised ops waiting 1", "raised log sent 1"],
    ...["recovered log sent 1", "recovered ops waiting 0"],
  ]);
  clock += minutes(1);
  while ((await send([channel("ops"), channel("log")])) > 0);
  expect(sent.map(({ what }) => what)).toEqual(["raised", "recovered", "raised", "recovered"]);
});

test("a channel that is no more", async () => {
  await look(["broker:a"]);
  await send([]);
  expect(await states()).toEqual(["raised ops given-up 1"]);
});
