/** What became of events, as people ask for it. */
import { type Kysely, sql } from "kysely";
import type { DispatchState, DispatchTables } from "./schema.ts";

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
