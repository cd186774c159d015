import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { SlipwayError } from "../lib/errors.ts";
import { minutes } from "../lib/units.ts";

const LOOK_MS = 50;
const LONGEST_MS = minutes(2);

/**
 * Does something while no other process does the same on this database: DBOS makes its tables without a lock of its
 * own, and two processes that meet on a new database run into each other.
 *
 * The lock is asked for again and again instead of waited for: a waiting statement holds a snapshot, and DBOS creates
 * indexes concurrently, which waits for every snapshot. The two would wait for each other.
 * @throws SlipwayError `unavailable` when the other one does not come to an end
 */
export async function oneAtATime(pool: pg.Pool, what: string, work: () => Promise<void>): Promise<void> {
  const client = await pool.connect();
  try {
    const deadline = performance.now() + LONGEST_MS;
    while (!(await tryLock(client, what))) {
      if (performance.now() > deadline) {
        throw new SlipwayError("unavailable", "another process has held the database's set-up for too long", {
          subject: what,
          next: "Look for a Slipway process that hangs, stop it, and start again.",
        });
      }
      await sleep(LOOK_MS);
    }
    try {
      await work();
    } finally {
      await client.query("SELECT pg_advisory_unlock(hashtextextended($1, 0))", [what]);
    }
  } finally {
    client.release();
  }
}

async function tryLock(client: pg.PoolClient, what: string): Promise<boolean> {
  const { rows } = await client.query<{ locked: boolean }>(
    "SELECT pg_try_advisory_lock(hashtextextended($1, 0)) AS locked",
    [what],
  );
  return rows[0]?.locked === true;
}
