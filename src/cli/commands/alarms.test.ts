import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import type { Alarm } from "../../alarms/alarm.ts";
import type { AlarmTables, Channel, Notice } from "../../alarms/index.ts";
import { reconcile } from "../../alarms/keep.ts";
import { sendNotices } from "../../alarms/send.ts";
import { alarmDatabase } from "../../alarms/testing/database.ts";
import type { Database } from "../../database/index.ts";
import { quietCall } from "../../lib/call.ts";
import { SlipwayError } from "../../lib/errors.ts";
import { hours, minutes } from "../../lib/units.ts";
import { createOutput } from "../output.ts";
import type { Session } from "../session.ts";
import { fakeStream } from "../testing/streams.ts";
import { listAlarms, snoozeAlarm, testChannel } from "./alarms.ts";

const NOW = Date.parse("2026-04-20T03:00:00Z");
let database: Database;
let sent: Notice[];

beforeAll(async () => {
  database = await alarmDatabase();
});
afterAll(() => database?.close());
beforeEach(async () => {
  vi.useFakeTimers({ toFake: ["Date"], now: NOW });
  await database.pool.query("truncate alarms, alarm_notices, alarm_looks");
  sent = [];
});
afterEach(() => vi.useRealTimers());

const db = () => database.kysely<AlarmTables>();
const good: Channel = { name: "room", kind: "matrix", send: async (notice) => void sent.push(notice) };
const away: Channel = {
  ...{ name: "post", kind: "mail" },
  send: () => Promise.reject(new SlipwayError("unavailable", "channel post: mail.example.org answers nothing")),
};

/** What a command prints. */
async function said(work: (session: Session) => Promise<number>, json = false): Promise<string> {
  const stdout = fakeStream();
  const output = createOutput({ json, stdout: stdout.stream, stderr: fakeStream().stream, colour: false });
  const alarms = async () => ({ db: db(), channels: [good, away] });
  expect(await work({ output, alarms, call: quietCall() } as unknown as Session)).toBe(0);
  return stdout.text();
}

const pass = (ms: number) => vi.setSystemTime(Date.now() + ms);

async function look(...alarms: Alarm[]): Promise<void> {
  const settings = { channels: () => ["room", "post"], settle: 0, keep: hours(99) };
  await reconcile(db(), { alarms, kinds: ["broker"], off: [] }, settings, new Date());
  await sendNotices(db(), [good, away], quietCall(), new Date());
}

const ALARM: Alarm = {
  ...{ key: "broker:consuming", kind: "broker", severity: "error", subject: "consuming" },
  ...{ message: "Events have not been taken for 12 min.", next: "slipway doctor" },
};

const list = (options: { ended?: boolean } = {}) => said((session) => listAlarms(session, { limit: "50", ...options }));

test("an empty list is good news only when somebody looks", async () => {
  expect(await list()).toBe('Nobody has ever looked: alarms are watched by "slipway serve".\n');
  await look();
  expect(await list()).toBe("Nothing is wrong.\n");
  pass(minutes(11));
  expect(await list()).toBe(
    'Nobody has looked since 2026-04-20T03:00:00.000Z: alarms are watched by "slipway serve".\n',
  );
});

test("what is wrong, since when, who was told and who could not be, and what to do", async () => {
  await look(ALARM);
  pass(minutes(5));
  expect(await list()).toBe(
    [
      "error broker:consuming  Events have not been taken for 12 min.",
      "  since  2026-04-20 03:00, for 5 min now",
      "  told   room at 2026-04-20 03:00, post not yet: unavailable: channel post: mail.example.org answers nothing",
      "  next   slipway doctor",
      "",
    ].join("\n"),
  );
  const snoozed = await said((session) => snoozeAlarm(session, ALARM.key, { for: "2h", reason: "upgrade\u001b[31m" }));
  expect(snoozed).toBe(
    "broker:consuming is silent until 2026-04-20 05:05; it is told again then if it is still true.\n",
  );
  expect(await list()).toContain("\n  silent until 2026-04-20 05:05: upgrade\n");
  expect(await said((session) => snoozeAlarm(session, ALARM.key, { for: "0m", reason: "done" }))).toBe(
    "broker:consuming speaks again.\n",
  );
  pass(minutes(5));
  await look();
  expect(await list()).toBe("Nothing is wrong.\n");
  expect(await list({ ended: true })).toContain("ended broker:consuming  Events");
});

test("for programs: the same, with when somebody last looked", async () => {
  await look(ALARM);
  const found = JSON.parse(await said((session) => listAlarms(session, { limit: "50" }), true));
  expect(found).toMatchObject({
    ...{ lookedAt: "2026-04-20T03:00:00.000Z", stale: false },
    alarms: [{ key: ALARM.key, state: "open", told: [{ channel: "room", state: "sent" }, { channel: "post" }] }],
  });
});

test("a test is sent at once, and its error is the command's", async () => {
  const answer = await said((session) => testChannel(session, "room"));
  expect(sent).toMatchObject([
    { what: "test", key: "test:room", message: expect.stringContaining("nothing is wrong") },
  ]);
  expect(answer).toBe(`Sent. Its id is ${sent[0]!.id}.\n`);
  await expect(said((session) => testChannel(session, "post"))).rejects.toMatchObject({ code: "unavailable" });
  await expect(said((session) => testChannel(session, "root"))).rejects.toMatchObject({
    code: "not-found",
    next: "There are room, post.",
  });
});

test("what cannot be a time or a count is said", async () => {
  const snooze = said((session) => snoozeAlarm(session, ALARM.key, { for: "soon", reason: "x" }));
  await expect(snooze).rejects.toMatchObject({ code: "invalid", subject: "--for" });
  await expect(said((session) => listAlarms(session, { limit: "0" }))).rejects.toMatchObject({ code: "invalid" });
});
