import type pg from "pg";
import { SlipwayError } from "../lib/errors.ts";

/** One change of a room's tables. Never edited once released: a new one is added at the list's end. */
export interface Migration {
  readonly name: string;
  /** May hold several statements. Runs in one transaction with the others of its room. */
  readonly up: string;
}

/**
 * Applies what the list has and the database has not yet, in order, in one transaction.
 *
 * Safe from several processes at once, and repeatable. `IF NOT EXISTS` on the table below alone would race: two
 * processes creating it at the same moment collide in the catalogue, hence the lock first.
 * @throws SlipwayError `conflict` when the database has been migrated by a newer version
 */
export async function migrate(pool: pg.Pool, room: string, migrations: readonly Migration[]): Promise<void> {
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    await client.query("SELECT pg_advisory_xact_lock(hashtextextended('slipway migrations', 0))");
    await client.query(
      `CREATE TABLE IF NOT EXISTS slipway_migrations (
         room text NOT NULL, name text NOT NULL, position int NOT NULL,
         applied_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (room, name))`,
    );
    const { rows } = await client.query<{ name: string }>(
      "SELECT name FROM slipway_migrations WHERE room = $1 ORDER BY position",
      [room],
    );
    for (const [position, { name }] of rows.entries()) {
      if (migrations[position]?.name === name) continue;
      throw new SlipwayError("conflict", "the database was migrated by another version of Slipway", {
        subject: `${room}: ${name}`,
        next: "run the version that migrated it, or a newer one",
      });
    }
    for (const [position, migration] of migrations.entries()) {
      if (position < rows.length) continue;
      await client.query(migration.up);
      await client.query("INSERT INTO slipway_migrations (room, name, position) VALUES ($1, $2, $3)", [
        room,
        migration.name,
        position,
      ]);
    }
    await client.query("COMMIT");
  } catch (error) {
    await client.query("ROLLBACK").catch(() => {});
    throw error;
  } finally {
    client.release();
  }
}
