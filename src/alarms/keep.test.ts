import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Database } from "../database/index.ts";
import { hours, minutes } from "../lib/units.ts";
import type { Alarm, AlarmKind } from "./alarm.ts";
import { listAlarms, snoozeAlarm } from "./book.ts";
import { type KeepSettings, lastLook, reconcile, watchedSince } from "./keep.ts";
import type { AlarmTables } from "./schema.ts";
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
});

let clock: number;
const now = () => new Date(clock);
const pass = (ms: number) => {
  clock += ms;
};

const SETTINGS: KeepSettings = {
  channels: () => ["ops", "log"],
  settle: minutes(5),
  keep: hours(24 * 30),
};

const alarm = (key = "broker:consuming", more: Partial<Alarm> = {}): Alarm => ({
  ...{ key, kind: "broker" as AlarmKind, severity: "error" as const, subject: "broker" },
  ...{ message: "The broker is away.", next: "Ask the one who runs it." },
  ...more,
});

interface More {
  readonly kinds?: readonly AlarmKind[];
  readonly off?: readonly AlarmKind[];
  readonly settings?: Partial<KeepSettings>;
}

const look = (alarms: readonly Alarm[], { kinds = ["broker"], off = [], settings = {} }: More = {}) =>
  reconcile(db(), { alarms, kinds, off }, { ...SETTINGS, ...settings }, now());

/** `raised ops`: what was written to be sent, in order. */
async function notices(): Promise<string[]> {
  const rows = await db().selectFrom("alarm_notices").select(["what", "channel"]).orderBy("sequence").execute();
  return rows.map(({ what, channel }) => `${what} ${channel}`);
}

const NOTHING = { raised: [], reminded: [], recovered: [] };
const KEY = "broker:consuming";

test("an alarm is told once when it begins and once when it is over", async () => {
  expect(await look([alarm()])).toEqual({ ...NOTHING, raised: [KEY] });
  for (let minute = 0; minute < 3; minute++) {
    pass(minutes(1));
    expect(await look([alarm()])).toEqual(NOTHING);
  }
  expect(await notices()).toEqual(["raised ops", "raised log"]);
  pass(minutes(1));
  expect(await look([]), "it may come back yet").toEqual(NOTHING);
  pass(minutes(5));
  expect(await look([])).toEqual({ ...NOTHING, recovered: [KEY] });
  pass(minutes(5));
  expect(await look([])).toEqual(NOTHING);
  expect(await notices()).toEqual(["raised ops", "raised log", "recovered log", "recovered ops"]);
});

test("what comes and goes is one alarm; after the settle time it is another", async () => {
  await look([alarm()]);
  for (let time = 0; time < 5; time++) {
    pass(minutes(4));
    expect(await look([])).toEqual(NOTHING);
    pass(minutes(4));
    expect(await look([alarm()])).toEqual(NOTHING);
  }
  pass(minutes(1));
  await look([]);
  pass(minutes(6));
  expect((await look([])).recovered).toEqual([KEY]);
  pass(minutes(1));
  expect((await look([alarm()])).raised).toEqual([KEY]);
  const ids = await db().selectFrom("alarm_notices").select("id").execute();
  expect(new Set(ids.map(({ id }) => id)).size, "each has an id of its own").toBe(6);
});

test("two that look at once tell once", async () => {
  const both = await Promise.all(Array.from({ length: 6 }, () => look([alarm(), alarm("broker:publishing")])));
  expect(both.flatMap(({ raised }) => raised).sort()).toEqual([KEY, "broker:publishing"]);
  expect(await notices()).toHaveLength(4);
});

test("a reminder comes when it is asked for, and not before", async () => {
  const settings = { remind: hours(4) };
  await look([alarm()], { settings });
  pass(hours(3));
  expect(await look([alarm()], { settings })).toEqual(NOTHING);
  pass(hours(1));
  expect((await look([alarm()], { settings })).reminded).toEqual([KEY]);
  pass(hours(4));
  expect((await look([alarm()], { settings })).reminded).toEqual([KEY]);
  expect(await notices()).toHaveLength(6);
});

test("what gets worse is told again, once", async () => {
  const ending = alarm(KEY, { severity: "warning", message: "It ends in 3 d." });
  await look([ending]);
  pass(hours(72));
  const ended = alarm(KEY, { severity: "error", message: "It ended." });
  expect((await look([ended])).reminded).toEqual([KEY]);
  expect(await look([ended])).toEqual(NOTHING);
  expect(await look([ending]), "better is no news").toEqual(NOTHING);
});

describe("silence", () => {
  const silence = (ms: number) => snoozeAlarm(db(), { key: KEY, until: new Date(clock + ms), reason: "upgrade" });

  test("what is silenced says nothing, and is told again at the end if it is still true", async () => {
    await look([alarm()]);
    await silence(hours(2));
    pass(hours(1));
    expect(await look([alarm()], { settings: { remind: minutes(1) } })).toEqual(NOTHING);
    pass(hours(1));
    expect((await look([alarm()])).reminded).toEqual([KEY]);
    pass(minutes(1));
    expect(await look([alarm()])).toEqual(NOTHING);
  });

  test("what is over meanwhile is told at the end", async () => {
    await look([alarm()]);
    await silence(hours(2));
    pass(minutes(10));
    await look([]);
    pass(minutes(10));
    expect(await look([])).toEqual(NOTHING);
    pass(hours(2));
    expect((await look([])).recovered).toEqual([KEY]);
  });

  test("one that was never told and is over is nobody's business", async () => {
    await look([alarm()], { settings: { channels: () => [] } });
    await silence(hours(1));
    await look([]);
    pass(hours(2));
    expect(await look([])).toEqual(NOTHING);
    expect(await notices()).toEqual([]);
  });

  test("a time that has passed ends it", async () => {
    await look([alarm()]);
    await silence(hours(2));
    await silence(0);
    expect((await look([alarm()])).reminded).toEqual([KEY]);
  });

  test("only what is open can be silenced", async () => {
    await expect(silence(hours(1))).rejects.toMatchObject({ code: "not-found", subject: KEY });
  });
});

describe("an end nobody is told of", () => {
  test("what could not be looked at is not over", async () => {
    await look([alarm()]);
    for (let time = 0; time < 3; time++) {
      pass(hours(1));
      expect(await look([], { kinds: ["quarantine"] })).toEqual(NOTHING);
    }
    expect(await listAlarms(db(), { limit: 10, now: now() })).toMatchObject([{ key: KEY, state: "open" }]);
  });

  test("what only grew old ends in silence, what was mended before is told", async () => {
    const expiring = (key: string) => alarm(key, { kind: "run-failed", expiresAt: new Date(clock + hours(24)) });
    const both = [expiring("run-failed:a"), expiring("run-failed:b")];
    const kinds: AlarmKind[] = ["run-failed"];
    await look(both, { kinds });
    pass(hours(1));
    await look(both.slice(1), { kinds });
    pass(minutes(5));
    expect((await look(both.slice(1), { kinds })).recovered).toEqual(["run-failed:a"]);
    pass(hours(24));
    await look([], { kinds });
    pass(minutes(5));
    expect(await look([], { kinds })).toEqual(NOTHING);
    expect(await listAlarms(db(), { limit: 10, now: now() })).toEqual([]);
  });

  test("a kind that is switched off", async () => {
    await look([alarm()]);
    expect(await look([], { kinds: [], off: ["broker"] })).toEqual(NOTHING);
    expect(await listAlarms(db(), { limit: 10, now: now() })).toEqual([]);
    expect(await notices()).toHaveLength(2);
  });
});

test("the first channel there is, is told; the end is told to those who heard the beginning", async () => {
  await look([alarm()], { settings: { channels: () => [] } });
  pass(minutes(1));
  expect((await look([alarm()], { settings: { channels: () => ["late"] } })).raised).toEqual([KEY]);
  await look([], { settings: { channels: () => ["other"], settle: 0 } });
  expect(await notices()).toEqual(["raised late", "recovered late"]);
});

test("what is over is forgotten after its time, with what was told of it; what is open stays", async () => {
  const settings = { keep: hours(24), settle: 0 };
  const other = alarm("broker:publishing");
  await look([alarm(), other], { settings });
  await look([other], { settings });
  await database.pool.query("update alarm_notices set state = 'sent'");
  pass(hours(25));
  await look([other], { settings });
  expect(await listAlarms(db(), { ended: true, limit: 10, now: now() })).toMatchObject([{ key: "broker:publishing" }]);
  expect((await look([], { settings })).recovered).toEqual(["broker:publishing"]);
  expect(await lastLook(db())).toEqual(now());
});

test("a list says since when, who was told, and what silences it", async () => {
  await look([alarm()]);
  await snoozeAlarm(db(), { key: KEY, until: new Date(clock + hours(2)), reason: "upgrade" });
  const [one] = await listAlarms(db(), { limit: 10, now: now() });
  const at = now().toISOString();
  expect(one).toEqual({
    ...alarm(),
    ...{ state: "open", since: at, lastSeen: at, snoozedUntil: "2026-04-20T05:00:00.000Z", snoozeReason: "upgrade" },
    told: ["ops", "log"].map((channel) => ({ channel, what: "raised", state: "waiting", at })),
  });
});

test("what is watched has a beginning that stays", async () => {
  const first = now();
  expect(await watchedSince(db(), ["system fedora"], first)).toEqual(new Map([["system fedora", first]]));
  pass(hours(5));
  const second = await watchedSince(db(), ["system fedora", "system eln"], now());
  expect(second.get("system fedora")).toEqual(first);
  expect(second.get("system eln")).toEqual(now());
});

test("text from elsewhere can be kept whatever it is", async () => {
  await look([alarm(KEY, { message: "a\0b\r\nBcc: x\ud800\u202e<b>@room</b>", subject: "\u0007" })]);
  const [one] = await listAlarms(db(), { limit: 10, now: now() });
  expect(one).toMatchObject({ message: "a b Bcc: x\ufffd<b>@room</b>", subject: "" });
});
