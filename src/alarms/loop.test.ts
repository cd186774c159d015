import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { Database } from "../database/index.ts";
import type { Log } from "../lib/call.ts";
import { hours, minutes } from "../lib/units.ts";
import { ALARM_KINDS, type Notice } from "./alarm.ts";
import { listAlarms } from "./book.ts";
import type { Channel } from "./channels/channel.ts";
import { emptyMemory, lookAround, type Memory } from "./look.ts";
import { type AlarmLoop, type WatchOptions, watchAlarms, watchOnce } from "./loop.ts";
import type { AlarmTables } from "./schema.ts";
import { alarmDatabase } from "./testing/database.ts";
import { fakeRuns } from "./testing/world.ts";
import type { BrokerState } from "./watch-broker.ts";

let database: Database;
let clock: number;
let broker: BrokerState;
let sent: Notice[];
let said: string[];
let loop: AlarmLoop | undefined;
const runs = fakeRuns();

beforeAll(async () => {
  database = await alarmDatabase();
});
afterAll(() => database?.close());
beforeEach(async () => {
  await database.pool.query("truncate alarms, alarm_notices, alarm_looks");
  clock = Date.parse("2026-04-20T03:00:00Z");
  broker = { consuming: false, publishing: undefined, trouble: "ECONNREFUSED" };
  sent = [];
  said = [];
  runs.clear();
});
afterEach(async () => {
  await loop?.close();
  loop = undefined;
});

const channel: Channel = { name: "ops", kind: "webhook", send: async (notice) => void sent.push(notice) };
const note = (message: string) => void said.push(message);
const log: Log = { debug() {}, info: note, warn: note, error: note };

const options = (): WatchOptions => ({
  db: database.kysely<AlarmTables>(),
  ...{ runs, channels: [channel], log, everyMs: 5 },
  settings: {
    ...{ channels: () => ["ops"], settle: minutes(5), keep: hours(99), remind: undefined },
    after: Object.fromEntries(ALARM_KINDS.map((kind) => [kind, minutes(10)])),
    ...{ runsAfter: hours(6), failures: 3, expected: [], rules: [], certificates: [], peers: [] },
  },
  broker: () => broker,
  now: () => new Date(clock),
});

const told = () => sent.map(({ what, key }) => `${what} ${key}`);

/** A service: what it remembers dies with it. */
function service() {
  const memory = emptyMemory();
  return (ms: number) => {
    clock += ms;
    return watchOnce(options(), memory, new AbortController().signal);
  };
}

test("from a door that shuts to one that opens: two words, whoever watches and dies meanwhile", async () => {
  const first = service();
  await first(0);
  await first(minutes(9));
  expect(told()).toEqual([]);
  await first(minutes(1));
  expect(told()).toEqual(["raised broker:consuming"]);
  // Another process has not seen it shut for long enough; what it finds is not believed at once.
  const second = service();
  for (let minute = 0; minute < 4; minute++) await second(minutes(1));
  for (let minute = 0; minute < 12; minute++) await Promise.all([first(minutes(1)), second(0)]);
  expect(told()).toEqual(["raised broker:consuming"]);
  broker = { ...broker, consuming: true, trouble: undefined };
  await second(minutes(1));
  await second(minutes(5));
  await first(0);
  expect(told()).toEqual(["raised broker:consuming", "recovered broker:consuming"]);
});

test("a kind that cannot be looked at hides no other, and nothing of it ends", async () => {
  const { settings, db } = options();
  const bad = { ...runs, list: () => Promise.reject(new Error("syntax error")) };
  const look = () =>
    lookAround({ db, runs: bad, now: new Date(clock) }, settings, () => broker, { ...emptyMemory(), shut }, log);
  const shut = new Map([["consuming" as const, clock - hours(1)]]);
  const { alarms, kinds, off } = await look();
  expect(alarms.map(({ key }) => key)).toEqual(["broker:consuming"]);
  expect(ALARM_KINDS.filter((kind) => !kinds.includes(kind))).toEqual(["queue-age", "run-failed"]);
  expect(off).toEqual([]);
  expect(said).toEqual(["a kind of alarm cannot be looked at", "a kind of alarm cannot be looked at"]);
});

test("a database that is away is said once and waited for", async () => {
  let away = true;
  const given = options();
  const db = new Proxy(given.db, {
    get(target, name) {
      if (away) throw Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });
      const value = Reflect.get(target, name) as unknown;
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  let rounds = 0;
  const now = () => {
    rounds++;
    return new Date(clock);
  };
  loop = watchAlarms({ ...given, db, now });
  await expect.poll(() => rounds).toBeGreaterThan(3);
  expect(said).toEqual(["alarms cannot be watched for now"]);
  away = false;
  // It has been shut all the while.
  clock += minutes(11);
  await expect.poll(() => told()).toEqual(["raised broker:consuming"]);
  await loop.close();
  expect(await listAlarms(given.db, { limit: 9, now: new Date(clock) })).toMatchObject([{ key: "broker:consuming" }]);
});

test("closing stops what is being sent, and whoever comes next sends it", async () => {
  const given = options();
  let begun = false;
  const slow: Channel = {
    ...channel,
    send: (_, { signal }) => {
      begun = true;
      return new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(new Error("stopped"))));
    },
  };
  clock -= minutes(11);
  const memory: Memory = { ...emptyMemory(), shut: new Map([["consuming", clock]]) };
  clock += minutes(11);
  const stop = new AbortController();
  const round = watchOnce({ ...given, channels: [slow] }, memory, stop.signal);
  await expect.poll(() => begun).toBe(true);
  stop.abort();
  await round;
  clock += minutes(2);
  await watchOnce(given, memory, new AbortController().signal);
  expect(told()).toEqual(["raised broker:consuming"]);
});
