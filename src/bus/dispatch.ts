/**
 * What is done about events: one row for each event and rule that means it, from the first look to the run it starts.
 *
 * An event is marked as looked at in the transaction that writes its rows, so that it is looked at once, whoever looks
 * and however often they die. A row becomes a run under an id made of event, rule and generation: starting it twice is
 * starting it once. Between the two stands what other events have to do with it: repeats, floods, quiet, pairs, locks.
 */
import { createHash } from "node:crypto";
import type { Generated, Kysely, Transaction } from "kysely";
import { sql } from "kysely";
import type { Json } from "../model.ts";
import type { EventFacts, Keys, Rule } from "../rules/index.ts";
import type { InboxTables } from "./inbox.ts";

export const DISPATCH_MIGRATIONS = [
  {
    name: "bus-0003-dispatches",
    up: `
      create table dispatches (
        event_id text not null references inbox (id) on delete cascade,
        rule text not null,
        -- 1 for the event itself, more for every replay.
        generation integer not null default 1,
        sequence bigint generated always as identity unique,
        side text not null default 'this' check (side in ('this', 'other')),
        state text not null check (state in ('waiting', 'starting', 'started', 'done', 'skipped', 'failed')),
        why text,
        priority smallint not null,
        once_key text,
        throttle_key text,
        debounce_key text,
        join_key text,
        lock_key text,
        -- The other one of a pair.
        other_event text,
        due_at timestamptz not null,
        -- Of a debounce: when the first of those that are one now came.
        held_since timestamptz not null,
        run_id text,
        created_at timestamptz not null default clock_timestamp(),
        changed_at timestamptz not null default clock_timestamp(),
        primary key (event_id, rule, generation)
      );
      create index dispatches_open on dispatches (priority desc, sequence) where state in ('waiting', 'starting');
      create index dispatches_started on dispatches (lock_key) where state in ('starting', 'started');
      create index dispatches_once on dispatches (rule, once_key, created_at) where once_key is not null;
      create index dispatches_throttle on dispatches (rule, throttle_key, changed_at) where throttle_key is not null;
      create index dispatches_held on dispatches (rule, debounce_key, join_key) where state = 'waiting';
      create index dispatches_changed on dispatches (changed_at);
      create table rule_pauses (
        -- A rule's name, or * for all.
        rule text primary key,
        mode text not null check (mode in ('hold', 'drop')),
        reason text not null,
        since timestamptz not null default now()
      );
    `,
  },
] as const;

export type DispatchState = "waiting" | "starting" | "started" | "done" | "skipped" | "failed";

export interface DispatchTables extends InboxTables {
  dispatches: {
    event_id: string;
    rule: string;
    generation: Generated<number>;
    sequence: Generated<string>;
    side: Generated<"this" | "other">;
    state: DispatchState;
    why: string | null;
    priority: number;
    once_key: string | null;
    throttle_key: string | null;
    debounce_key: string | null;
    join_key: string | null;
    lock_key: string | null;
    other_event: string | null;
    due_at: Date;
    held_since: Date;
    run_id: string | null;
    created_at: Generated<Date>;
    changed_at: Generated<Date>;
  };
  rule_pauses: { rule: string; mode: "hold" | "drop"; reason: string; since: Generated<Date> };
}

export interface JudgeOptions {
  readonly rules: readonly Rule[];
  readonly now: Date;
  /** For rules that mean only some of what matches: `by_topic` those with a playbook. Default: all. */
  meant?(rule: string, topic: string): Promise<boolean>;
}

/** Events looked at in one transaction. */
const JUDGED_AT_ONCE = 500;

/**
 * Looks at events nobody has looked at yet, oldest first within a priority, and writes down which rules mean them.
 * Safe to repeat and to do side by side.
 * @returns how many events were looked at; fewer than there may be
 */
export async function judgeEvents(db: Kysely<DispatchTables>, options: JudgeOptions): Promise<number> {
  return db.transaction().execute(async (tx) => {
    const events = await tx
      .selectFrom("inbox")
      .select(["id", "topic", "severity", "priority", "source", "headers", "body"])
      .where("dispatched_at", "is", null)
      // A shadow is only compared with.
      .where("source", "<>", "shadow")
      .orderBy("priority", "desc")
      .orderBy("sequence")
      .limit(JUDGED_AT_ONCE)
      .forUpdate()
      .skipLocked()
      .execute();
    if (events.length === 0) return 0;
    const plain: NewDispatch[] = [];
    for (const row of events) await judgeEvent(tx, factsOf(row), 1, options, plain);
    await insert(tx, plain);
    const ids = events.map(({ id }) => id);
    await tx.updateTable("inbox").set({ dispatched_at: sql`now()` }).where("id", "in", ids).execute();
    return events.length;
  });
}

/**
 * Does again what an event does: of every rule that means it, or the one named, as a new generation. A person wants it,
 * so nothing that holds back repeats or floods holds it back; a lock does.
 * @returns rule → generation
 */
export async function replayEvent(
  db: Kysely<DispatchTables>,
  eventId: string,
  options: JudgeOptions & { readonly only?: string | undefined },
): Promise<Readonly<Record<string, number>>> {
  return db.transaction().execute(async (tx) => {
    const row = await tx.selectFrom("inbox").selectAll().where("id", "=", eventId).forUpdate().executeTakeFirst();
    if (row === undefined || row.source === "shadow") return {};
    const facts = factsOf(row);
    const again: Record<string, number> = {};
    for (const rule of options.rules) {
      if (options.only !== undefined && rule.name !== options.only) continue;
      const last = await tx
        .selectFrom("dispatches")
        .select((all) => all.fn.max("generation").as("generation"))
        .where("event_id", "=", eventId)
        .where("rule", "=", rule.name)
        .executeTakeFirst();
      const generation = (last?.generation ?? 0) + 1;
      const plain: NewDispatch[] = [];
      await judgeEvent(tx, facts, generation, { ...options, rules: [rule] }, plain);
      if (plain.length > 0) again[rule.name] = generation;
      await insert(tx, plain);
    }
    return again;
  });
}

function factsOf(row: Omit<EventFacts, "headers" | "body"> & { headers: string; body: string }): EventFacts {
  const parsed = (text: string) => JSON.parse(text) as Record<string, Json>;
  return { ...row, headers: parsed(row.headers), body: parsed(row.body) };
}

/** What has nothing to do with other events is left in `plain`, to be written with many others. */
async function judgeEvent(
  tx: Transaction<DispatchTables>,
  event: EventFacts,
  generation: number,
  { rules, now, meant }: JudgeOptions,
  plain: NewDispatch[],
): Promise<void> {
  for (const rule of rules) {
    if (!rule.enabled) continue;
    const verdict = rule.judge(event);
    if (verdict.matches === false) continue;
    if (meant !== undefined && !(await meant(rule.name, event.topic))) continue;
    const row = {
      event_id: event.id,
      rule: rule.name,
      generation,
      priority: Math.max(0, Math.min(255, event.priority)),
      held_since: now,
      ...{ run_id: null, other_event: null },
    };
    if (verdict.matches === "error") {
      plain.push({ ...row, ...NO_KEYS, side: "this", state: "failed", why: verdict.why, due_at: now });
      continue;
    }
    const { side, keys } = verdict;
    const base = { ...row, ...keyColumns(keys), side, state: "waiting" as const, why: null };
    if (generation > 1) plain.push({ ...base, due_at: now });
    else if (rule.join && keys.join !== undefined) await joinPair(tx, base, rule.join.within, now);
    else if (rule.debounce) await takePlace(tx, base, rule.debounce, now);
    else plain.push({ ...base, due_at: now });
  }
}

type NewDispatch = Omit<
  DispatchTables["dispatches"],
  "sequence" | "created_at" | "changed_at" | "generation" | "side"
> & { readonly generation: number; readonly side?: "this" | "other" };

/** A row has 16 columns, and PostgreSQL takes 65,535 parameters. */
const INSERTED_AT_ONCE = 2000;

async function insert(tx: Transaction<DispatchTables>, rows: readonly NewDispatch[]): Promise<void> {
  for (let at = 0; at < rows.length; at += INSERTED_AT_ONCE) {
    await tx
      .insertInto("dispatches")
      .values(rows.slice(at, at + INSERTED_AT_ONCE))
      .onConflict((conflict) => conflict.columns(["event_id", "rule", "generation"]).doNothing())
      .execute();
  }
}

const NO_KEYS = { once_key: null, throttle_key: null, debounce_key: null, join_key: null, lock_key: null };

function keyColumns(keys: Keys) {
  return {
    once_key: keys.once ?? null,
    throttle_key: keys.throttle ?? null,
    debounce_key: keys.debounce ?? null,
    join_key: keys.join ?? null,
    lock_key: keys.lock ?? null,
  };
}

/** The last of several stands for all: it waits for quiet, but not longer than the first may. */
async function takePlace(
  tx: Transaction<DispatchTables>,
  row: Omit<NewDispatch, "due_at">,
  { quiet, at_most }: { quiet: number; at_most: number },
  now: Date,
): Promise<void> {
  // Two transactions must not both find nobody waiting.
  await lockName(tx, `debounce ${row.rule} ${row.debounce_key ?? ""}`);
  const before = await tx
    .updateTable("dispatches")
    .set({ state: "skipped", why: `a later one came: ${row.event_id}`, changed_at: sql`clock_timestamp()` })
    .where("rule", "=", row.rule)
    .where("state", "=", "waiting")
    .where("generation", "=", 1)
    .where(sql<boolean>`debounce_key is not distinct from ${row.debounce_key}`)
    .returning("held_since")
    .execute();
  const since = Math.min(now.getTime(), ...before.map(({ held_since }) => held_since.getTime()));
  const due = new Date(Math.min(now.getTime() + quiet, since + at_most));
  await insert(tx, [{ ...row, held_since: new Date(since), due_at: due }]);
}

/** Whichever comes second makes the pair due; what is done is about `this` side's event. */
async function joinPair(
  tx: Transaction<DispatchTables>,
  row: Omit<NewDispatch, "due_at">,
  within: number,
  now: Date,
): Promise<void> {
  await lockName(tx, `join ${row.rule} ${row.join_key ?? ""}`);
  const other = await tx
    .selectFrom("dispatches")
    .select(["event_id", "generation"])
    .where("rule", "=", row.rule)
    .where("join_key", "=", row.join_key)
    .where("side", "=", row.side === "this" ? "other" : "this")
    .where("state", "=", "waiting")
    .where("other_event", "is", null)
    .where("due_at", ">", now)
    .orderBy("sequence")
    .limit(1)
    .executeTakeFirst();
  if (other === undefined) {
    await insert(tx, [{ ...row, due_at: new Date(now.getTime() + within) }]);
    return;
  }
  const paired = row.side === "this" ? row.event_id : other.event_id;
  const spent = { state: "skipped" as const, why: `it is done with ${paired}` };
  const change =
    row.side === "this" ? { ...spent, other_event: row.event_id } : { other_event: row.event_id, due_at: now };
  await tx
    .updateTable("dispatches")
    .set({ ...change, changed_at: sql`clock_timestamp()` })
    .where("event_id", "=", other.event_id)
    .where("rule", "=", row.rule)
    .where("generation", "=", other.generation)
    .execute();
  await insert(tx, [{ ...row, ...(row.side === "this" ? {} : spent), other_event: other.event_id, due_at: now }]);
}

async function lockName(tx: Transaction<DispatchTables>, name: string): Promise<void> {
  await sql`select pg_advisory_xact_lock(hashtextextended(${`slipway ${name}`}, 0))`.execute(tx);
}

/** A run that has to be started; starting it again is harmless. */
export interface Order {
  readonly runId: string;
  readonly eventId: string;
  readonly otherEvent: string | undefined;
  readonly rule: string;
  readonly generation: number;
}

export interface TakeOptions {
  readonly rules: readonly Rule[];
  readonly now: Date;
  /** The reason of the freeze window that a rule is in now; undefined outside of one. */
  frozen?(rule: Rule): string | undefined;
  /** Why nothing that a rule asks for is ever done here; undefined if it may be. */
  barred?(rule: Rule): string | undefined;
  /** Default: 100. */
  readonly limit?: number;
}

/** Whoever took a row and did not start it within this time has died. */
const STARTING_MS = 30_000;

/**
 * Takes what is due and may start now, and writes down why the rest does not. What is returned has to be started and
 * then told by `markStarted`; if nobody does, it is returned again. One process at a time, however many ask.
 */
export async function takeDue(db: Kysely<DispatchTables>, options: TakeOptions): Promise<readonly Order[]> {
  const { now, limit = 100 } = options;
  const frozen = (rule: Rule) => options.frozen?.(rule);
  const rules = new Map(options.rules.map((rule) => [rule.name, rule]));
  return db.transaction().execute(async (tx) => {
    await lockName(tx, "dispatch");
    const pauses = await tx.selectFrom("rule_pauses").selectAll().execute();
    const pauseOf = (rule: string) => pauses.find((one) => one.rule === rule) ?? pauses.find((one) => one.rule === "*");
    const held = [...rules.values()]
      .filter(
        (rule) => pauseOf(rule.name)?.mode === "hold" || (rule.during_freeze === "hold" && frozen(rule) !== undefined),
      )
      .map(({ name }) => name);
    const due = await tx
      .selectFrom("dispatches")
      .selectAll()
      .where((where) =>
        where.or([
          where.and([where("state", "=", "waiting"), where("due_at", "<=", now)]),
          where.and([
            where("state", "=", "starting"),
            where("changed_at", "<", sql<Date>`clock_timestamp() - ${STARTING_MS} * interval '1 ms'`),
          ]),
        ]),
      )
      .$if(held.length > 0, (query) =>
        query.where((where) => where.or([where("state", "=", "starting"), where("rule", "not in", held)])),
      )
      .where((where) =>
        where.or([
          where("lock_key", "is", null),
          where("state", "=", "starting"),
          where.not(
            where.exists(
              where
                .selectFrom("dispatches as holder")
                .select("holder.event_id")
                .whereRef("holder.lock_key", "=", "dispatches.lock_key")
                .where("holder.state", "in", ["starting", "started"]),
            ),
          ),
        ]),
      )
      .orderBy("priority", "desc")
      .orderBy("sequence")
      .limit(limit)
      .execute();

    const orders: Order[] = [];
    const locked = new Set<string>();
    for (const row of due) {
      const at = { eventId: row.event_id, rule: row.rule, generation: row.generation };
      const rule = rules.get(row.rule);
      const why = row.state === "starting" ? undefined : await whyNot(row, rule);
      if (why !== undefined) {
        await change(tx, at, { state: "skipped", why });
        continue;
      }
      if (row.lock_key !== null && row.state === "waiting") {
        if (locked.has(row.lock_key)) continue;
        locked.add(row.lock_key);
      }
      const runId = row.run_id ?? runIdOf(at);
      await change(tx, at, { state: "starting", run_id: runId });
      orders.push({ ...at, runId, otherEvent: row.other_event ?? undefined });
    }
    return orders;

    async function whyNot(row: (typeof due)[number], rule: Rule | undefined): Promise<string | undefined> {
      if (rule === undefined) return "the rule is gone";
      if (!rule.enabled) return "the rule is switched off";
      const barred = options.barred?.(rule);
      if (barred !== undefined) return barred;
      const pause = pauseOf(rule.name);
      if (pause?.mode === "drop") return `paused: ${pause.reason}`;
      const freeze = rule.during_freeze === "drop" ? frozen(rule) : undefined;
      if (freeze !== undefined) return `frozen: ${freeze}`;
      if (row.generation > 1) return undefined;
      if (row.join_key !== null && row.other_event === null) return "the other event of the pair did not come in time";
      if (rule.once) {
        const since = new Date(now.getTime() - rule.once.within);
        const earlier = await startedBefore("once_key", row.once_key, since);
        if (earlier.length > 0) return `done once already for ${row.once_key}: ${earlier[0]}`;
      }
      if (rule.throttle) {
        const since = new Date(now.getTime() - rule.throttle.per);
        const earlier = await startedBefore("throttle_key", row.throttle_key, since);
        if (earlier.length >= rule.throttle.most) return `throttled: ${earlier.length} in the time given`;
      }
      return undefined;

      async function startedBefore(column: "once_key" | "throttle_key", key: string | null, since: Date) {
        const rows = await tx
          .selectFrom("dispatches")
          .select("event_id")
          .where("rule", "=", row.rule)
          .where(sql<boolean>`${sql.ref(column)} is not distinct from ${key}`)
          .where("state", "in", ["starting", "started", "done"])
          .where("held_since", ">", since)
          .limit(1000)
          .execute();
        return rows.map(({ event_id }) => event_id);
      }
    }
  });
}

interface At {
  readonly eventId: string;
  readonly rule: string;
  readonly generation: number;
}

async function change(
  db: Kysely<DispatchTables>,
  at: At,
  set: { state: DispatchState; why?: string | null; run_id?: string },
): Promise<void> {
  await db
    .updateTable("dispatches")
    .set({ ...set, changed_at: sql`clock_timestamp()` })
    .where("event_id", "=", at.eventId)
    .where("rule", "=", at.rule)
    .where("generation", "=", at.generation)
    .execute();
}

/** The runs of these orders are there. Safe to repeat. */
export async function markStarted(db: Kysely<DispatchTables>, orders: readonly Order[]): Promise<void> {
  for (const order of orders) await change(db, order, { state: "started" });
}

/** A run cannot be started, and never will: the rule or the event does not allow it. */
export async function markFailed(db: Kysely<DispatchTables>, order: Order, why: string): Promise<void> {
  await change(db, order, { state: "failed", why: why.slice(0, 1000) });
}

/** Runs whose end somebody waits for with a lock. */
export async function lockHolders(db: Kysely<DispatchTables>): Promise<readonly string[]> {
  const rows = await db
    .selectFrom("dispatches")
    .select("run_id")
    .where("state", "=", "started")
    .where("lock_key", "is not", null)
    .execute();
  return rows.flatMap(({ run_id }) => run_id ?? []);
}

/** These runs have ended: what waits for their locks may start. */
export async function markEnded(db: Kysely<DispatchTables>, runIds: readonly string[]): Promise<void> {
  if (runIds.length === 0) return;
  await db
    .updateTable("dispatches")
    .set({ state: "done", changed_at: sql`clock_timestamp()` })
    .where("run_id", "in", runIds)
    .where("state", "=", "started")
    .execute();
}

/** Milliseconds until something may be due, at most `most`. */
export async function nextDue(db: Kysely<DispatchTables>, now: Date, most: number): Promise<number> {
  const row = await db
    .selectFrom("dispatches")
    .select((all) => all.fn.min("due_at").as("due_at"))
    .where("state", "=", "waiting")
    .where("due_at", ">", now)
    .executeTakeFirst();
  const at = row?.due_at as Date | null | undefined;
  return at ? Math.max(1, Math.min(most, at.getTime() - now.getTime())) : most;
}

/** The same for the same event, rule and generation, for ever. */
function runIdOf({ eventId, rule, generation }: At): string {
  const hash = createHash("sha256")
    .update(JSON.stringify([eventId, rule]))
    .digest("hex")
    .slice(0, 20);
  return `event.${rule}.${hash}.${generation}`;
}
