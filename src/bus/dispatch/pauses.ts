/** Standing still: rules that start nothing, because a person said so. */
import { type Kysely, sql } from "kysely";
import { INBOX_CHANNEL } from "../inbox.ts";
import type { DispatchTables } from "./schema.ts";

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
  await sql`select pg_notify(${INBOX_CHANNEL}, '')`.execute(db);
  return gone.numDeletedRows > 0n;
}
