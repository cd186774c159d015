/** From rows to runs: what is due and may start now, and why the rest does not. */
import { createHash } from "node:crypto";
import { type Kysely, sql } from "kysely";
import type { Rule } from "../../rules/index.ts";
import { type DispatchState, type DispatchTables, lockName } from "./schema.ts";

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
