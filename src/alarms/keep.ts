/**
 * What was true, since when, and what was told about it.
 *
 * An alarm is told once when it becomes true and once when it is over, whoever looks, however many look, and however
 * often they die: what is to be told is written in the transaction that notes why, and sent later (`send.ts`). What
 * comes and goes is one alarm until it has been over for the settle time, so nobody is told of an end that is none.
 */
import { type Kysely, type Selectable, sql, type Transaction } from "kysely";
import { messageId } from "../bus/outbox.ts";
import type { Alarm, AlarmKind, Notice } from "./alarm.ts";
import type { AlarmTables } from "./schema.ts";
import { plain } from "./text.ts";

/** What somebody who looked has found. */
export interface Look {
  readonly alarms: readonly Alarm[];
  /** Kinds that could be looked at: of the others nothing is known, and nothing of them ends. */
  readonly kinds: readonly AlarmKind[];
  /** Kinds nobody wants to know of (any more): what is open ends without a word. */
  readonly off: readonly AlarmKind[];
}

/** Times are milliseconds. */
export interface KeepSettings {
  /** Names of the channels that are told of a kind. */
  channels(kind: AlarmKind): readonly string[];
  /** How long it must have been over before that is believed and told. */
  readonly settle: number;
  /** How often it is told again while it lasts; undefined: never. */
  readonly remind?: number | undefined;
  /** How long what is over is remembered. */
  readonly keep: number;
}

export interface Reconciled {
  /** Keys that were told as raised, told again, told as over. */
  readonly raised: readonly string[];
  readonly reminded: readonly string[];
  readonly recovered: readonly string[];
}

type Row = Selectable<AlarmTables["alarms"]>;

/** The name in `alarm_looks` under which each round is noted. */
const ROUND = "round";

/**
 * Compares what is true with what was told, and writes down what is to be told now. One process at a time, the others
 * wait. Safe to repeat: the same look again tells nothing.
 * @throws what the database throws; then nothing was noted
 */
export async function reconcile(
  db: Kysely<AlarmTables>,
  look: Look,
  settings: KeepSettings,
  now: Date,
): Promise<Reconciled> {
  return db.transaction().execute(async (tx) => {
    await sql`select pg_advisory_xact_lock(hashtextextended('slipway alarms', 0))`.execute(tx);
    const told = { raised: [] as string[], reminded: [] as string[], recovered: [] as string[] };
    const rows = new Map((await rowsOf(tx, look)).map((row) => [row.key, row]));
    const nowTrue = new Map(look.alarms.map((alarm) => [alarm.key, alarm]));
    for (const alarm of nowTrue.values()) {
      const before = rows.get(alarm.key);
      const row = await noteTrue(tx, alarm, before, now);
      if (row.snoozed_until !== null && row.snoozed_until > now) continue;
      const worse = before?.severity === "warning" && row.severity === "error";
      const what = wordFor(row, worse, settings, now);
      const channels = settings.channels(row.kind);
      // Nobody can be told yet: it is news still when a channel is there.
      if (what === undefined || channels.length === 0) continue;
      await tell(tx, row, what, channels, now);
      await change(tx, row.key, { told_at: now, snoozed_until: null, snooze_reason: null });
      told[what].push(row.key);
    }
    for (const row of rows.values()) {
      if (row.recovered_at !== null || nowTrue.has(row.key)) continue;
      if (look.off.includes(row.kind)) await change(tx, row.key, { recovered_at: now });
      else if (look.kinds.includes(row.kind) && (await noteOver(tx, row, settings, now))) told.recovered.push(row.key);
    }
    await forget(tx, settings, now);
    await tx
      .insertInto("alarm_looks")
      .values({ name: ROUND, first_at: now, last_at: now })
      .onConflict((conflict) => conflict.column("name").doUpdateSet({ last_at: now }))
      .execute();
    return told;
  });
}

/** All that are open, and those that were and are true again. */
async function rowsOf(tx: Transaction<AlarmTables>, look: Look): Promise<Row[]> {
  const keys = look.alarms.map(({ key }) => key);
  return tx
    .selectFrom("alarms")
    .selectAll()
    .where((where) =>
      where.or([
        where("recovered_at", "is", null),
        ...(keys.length === 0 ? [] : [sql<boolean>`key = any(${keys}::text[])`]),
      ]),
    )
    .execute();
}

async function noteTrue(tx: Transaction<AlarmTables>, alarm: Alarm, row: Row | undefined, now: Date): Promise<Row> {
  const facts = {
    kind: alarm.kind,
    severity: alarm.severity,
    subject: plain(alarm.subject, 200),
    message: plain(alarm.message),
    next: plain(alarm.next),
    expires_at: alarm.expiresAt ?? null,
    last_at: now,
    over_since: null,
  };
  const again = row === undefined || row.recovered_at !== null;
  const begun = again ? { first_at: now, told_at: null, recovered_at: null, snoozed_until: null } : {};
  return tx
    .insertInto("alarms")
    .values({
      ...{ key: alarm.key, first_at: now, told_at: null, recovered_at: null },
      ...{ snoozed_until: null, snooze_reason: null },
      ...facts,
    })
    .onConflict((conflict) => conflict.column("key").doUpdateSet({ ...facts, ...begun }))
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** What is to be said of one that is true and not silenced, if anything. */
function wordFor(row: Row, worse: boolean, { remind }: KeepSettings, now: Date): "raised" | "reminded" | undefined {
  if (row.told_at === null) return "raised";
  // A certificate that was to end and has ended is other news.
  if (worse) return "reminded";
  // Somebody silenced it, the time is up and it is still there.
  if (row.snoozed_until !== null) return "reminded";
  return remind !== undefined && now.getTime() - row.told_at.getTime() >= remind ? "reminded" : undefined;
}

/** @returns whether its end is told */
async function noteOver(tx: Transaction<AlarmTables>, row: Row, settings: KeepSettings, now: Date): Promise<boolean> {
  const since = row.over_since ?? now;
  if (row.over_since === null) await change(tx, row.key, { over_since: now });
  if (row.snoozed_until !== null && row.snoozed_until > now) return false;
  if (now.getTime() - since.getTime() < settings.settle) return false;
  await change(tx, row.key, { recovered_at: now, snoozed_until: null, snooze_reason: null });
  const expired = row.expires_at !== null && row.expires_at <= now;
  if (row.told_at === null || expired) return false;
  await tell(tx, row, "recovered", await toldChannels(tx, row), now);
  return true;
}

/** Whoever was told that it began is told that it is over, and nobody else. */
async function toldChannels(tx: Transaction<AlarmTables>, row: Row): Promise<string[]> {
  const rows = await tx
    .selectFrom("alarm_notices")
    .select("channel")
    .distinct()
    .orderBy("channel")
    .where("alarm_key", "=", row.key)
    .where("since", "=", row.first_at)
    .execute();
  return rows.map(({ channel }) => channel);
}

async function tell(
  tx: Transaction<AlarmTables>,
  row: Row,
  what: "raised" | "reminded" | "recovered",
  channels: readonly string[],
  now: Date,
): Promise<void> {
  const { key, kind, severity, subject, message, next } = row;
  const since = row.first_at.toISOString();
  // One that is told again says something else each time; the beginning and the end are said once.
  const which = what === "reminded" ? now.toISOString() : "";
  for (const channel of new Set(channels)) {
    const id = messageId("alarm", key, since, what, which, channel);
    const notice: Notice = { id, what, key, kind, severity, subject, message, next, since, at: now.toISOString() };
    await tx
      .insertInto("alarm_notices")
      .values({
        ...{ id, alarm_key: key, since: row.first_at, what, channel, notice: JSON.stringify(notice) },
        ...{ next_at: now, created_at: now, trouble: null, settled_at: null },
      })
      .onConflict((conflict) => conflict.column("id").doNothing())
      .execute();
  }
}

async function change(tx: Transaction<AlarmTables>, key: string, set: Partial<Row>): Promise<void> {
  await tx.updateTable("alarms").set(set).where("key", "=", key).execute();
}

async function forget(tx: Transaction<AlarmTables>, { keep }: KeepSettings, now: Date): Promise<void> {
  const before = new Date(now.getTime() - keep);
  await tx.deleteFrom("alarms").where("recovered_at", "<", before).execute();
  // Those of an open alarm say who hears of its end.
  await sql`
    delete from alarm_notices
    where created_at < ${before} and state <> 'waiting'
      and not exists (select from alarms where key = alarm_notices.alarm_key and recovered_at is null)
  `.execute(tx);
  // Of what is watched still it is noted again at each look.
  await tx.deleteFrom("alarm_looks").where("last_at", "<", before).execute();
}

/**
 * Since when these are watched: for what has never come, the time to count from. Notes that they were looked at.
 * Safe to repeat.
 */
export async function watchedSince(
  db: Kysely<AlarmTables>,
  names: readonly string[],
  now: Date,
): Promise<ReadonlyMap<string, Date>> {
  if (names.length === 0) return new Map();
  const rows = await db
    .insertInto("alarm_looks")
    .values([...new Set(names)].sort().map((name) => ({ name, first_at: now, last_at: now })))
    .onConflict((conflict) => conflict.column("name").doUpdateSet({ last_at: now }))
    .returning(["name", "first_at"])
    .execute();
  return new Map(rows.map((row) => [row.name, row.first_at]));
}

/** When somebody last looked at everything; undefined if nobody ever has. */
export async function lastLook(db: Kysely<AlarmTables>): Promise<Date | undefined> {
  const row = await db.selectFrom("alarm_looks").select("last_at").where("name", "=", ROUND).executeTakeFirst();
  return row?.last_at;
}
