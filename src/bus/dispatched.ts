/** What became of events, as people ask for it; and the pauses they set. */
import { type Kysely, sql } from "kysely";
import type { DispatchState, DispatchTables } from "./dispatch.ts";

export interface Dispatched {
  readonly eventId: string;
  readonly rule: string;
  readonly generation: number;
  readonly state: DispatchState;
  readonly why?: string;
  readonly runId?: string;
  readonly otherEvent?: string;
  /** What waits does so until then, at least. */
  readonly dueAt: string;
  readonly changedAt: string;
}

/** In the order in which they came. */
export async function listDispatches(
  db: Kysely<DispatchTables>,
  filter: {
    readonly eventId?: string;
    readonly rule?: string;
    readonly states?: readonly DispatchState[];
    limit: number;
  },
): Promise<Dispatched[]> {
  let query = db.selectFrom("dispatches").selectAll().orderBy("sequence", "desc").limit(filter.limit);
  if (filter.eventId !== undefined) query = query.where("event_id", "=", filter.eventId);
  if (filter.rule !== undefined) query = query.where("rule", "=", filter.rule);
  if (filter.states !== undefined) query = query.where("state", "in", filter.states);
  const rows = await query.execute();
  return rows.reverse().map((row) => ({
    eventId: row.event_id,
    rule: row.rule,
    generation: row.generation,
    state: row.state,
    ...(row.why === null ? {} : { why: row.why }),
    ...(row.run_id === null ? {} : { runId: row.run_id }),
    ...(row.other_event === null ? {} : { otherEvent: row.other_event }),
    dueAt: row.due_at.toISOString(),
    changedAt: row.changed_at.toISOString(),
  }));
}

export interface RuleCounts {
  readonly rule: string;
  readonly waiting: number;
  readonly started: number;
  readonly skipped: number;
  readonly failed: number;
  readonly lastAt: string;
}

/** Of the last so many days. */
export async function countByRule(db: Kysely<DispatchTables>, days: number): Promise<RuleCounts[]> {
  const count = (...states: DispatchState[]) => sql<string>`count(*) filter (where state in (${sql.join(states)}))`;
  const rows = await db
    .selectFrom("dispatches")
    .select((all) => [
      "rule",
      count("waiting").as("waiting"),
      count("starting", "started", "done").as("started"),
      count("skipped").as("skipped"),
      count("failed").as("failed"),
      all.fn.max("changed_at").as("last_at"),
    ])
    .where("changed_at", ">", sql<Date>`now() - ${days} * interval '1 day'`)
    .groupBy("rule")
    .execute();
  return rows.map((row) => ({
    rule: row.rule,
    waiting: Number(row.waiting),
    started: Number(row.started),
    skipped: Number(row.skipped),
    failed: Number(row.failed),
    lastAt: (row.last_at as Date).toISOString(),
  }));
}

export interface Pause {
  /** A rule's name, or `*` for all. */
  readonly rule: string;
  readonly mode: "hold" | "drop";
  readonly reason: string;
  readonly since: string;
}

export async function listPauses(db: Kysely<DispatchTables>): Promise<Pause[]> {
  const rows = await db.selectFrom("rule_pauses").selectAll().orderBy("rule").execute();
  return rows.map((row) => ({ ...row, since: row.since.toISOString() }));
}

/** Safe to repeat: the newest reason and mode count. */
export async function setPause(db: Kysely<DispatchTables>, pause: Omit<Pause, "since">): Promise<void> {
  const { mode, reason } = pause;
  await db
    .insertInto("rule_pauses")
    .values(pause)
    .onConflict((conflict) => conflict.column("rule").doUpdateSet({ mode, reason }))
    .execute();
}

/** @returns whether there was one */
export async function clearPause(db: Kysely<DispatchTables>, rule: string): Promise<boolean> {
  const gone = await db.deleteFrom("rule_pauses").where("rule", "=", rule).executeTakeFirst();
  // Whoever dispatches looks again at once.
  await sql`select pg_notify('slipway_inbox', '')`.execute(db);
  return gone.numDeletedRows > 0n;
}

export interface Quarantined {
  readonly id: string;
  readonly reason: string;
  readonly detail: string;
  readonly topic: string;
  readonly source: string;
  readonly bytes: number;
  readonly deliveries: number;
  readonly firstAt: string;
  readonly lastAt: string;
}

/** Newest first. */
export async function listQuarantined(db: Kysely<DispatchTables>, limit: number): Promise<Quarantined[]> {
  const rows = await db
    .selectFrom("quarantine")
    .select(["id", "reason", "detail", "topic", "source", "body_bytes", "deliveries", "first_at", "last_at"])
    .orderBy("last_at", "desc")
    .limit(limit)
    .execute();
  return rows.map(({ body_bytes, first_at, last_at, ...row }) => ({
    ...row,
    bytes: Number(body_bytes),
    firstAt: first_at.toISOString(),
    lastAt: last_at.toISOString(),
  }));
}
