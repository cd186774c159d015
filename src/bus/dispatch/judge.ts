/** From events to rows: who means an event, and what others that were there before have to do with it. */
import { type Kysely, sql, type Transaction } from "kysely";
import type { Json } from "../../model.ts";
import type { EventFacts, Keys, Rule } from "../../rules/index.ts";
import { type DispatchTables, lockName } from "./schema.ts";

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
