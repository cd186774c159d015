import type pg from "pg";
import { isAlive, isDisconnected, thisHost, thisProcess } from "../database/index.ts";
import type { Log } from "../lib/call.ts";
import { SlipwayError } from "../lib/errors.ts";
import { requeueRunsOf } from "./dbos.ts";
import { SWEEP_LOCK } from "./migrations.ts";
import type { Room } from "./room.ts";

/** Each waits for the lock as long as the server lets somebody stand still with it. */
const JOIN_ATTEMPTS = 5;

export interface LeaseOptions {
  /** Of its own, so that renewals never queue behind work. */
  readonly pool: pg.Pool;
  readonly executor: string;
  readonly role: string;
  readonly version: string;
  readonly leaseMs: number;
  readonly log: Log;
  readonly room: Room;
  /** Called when this process must stop acting: aborts everything local and resolves when that has ended. */
  onLost(): Promise<void>;
}

/**
 * The right to act, for a while. Every executor has a row that it renews every quarter of `leaseMs`; the others take
 * its runs away when the row is over, by raising its epoch. It stops by itself after half a lease without renewal,
 * before anybody could have begun: a process that was stopped, or cut off from the database, finds its own clock past
 * that point as soon as it runs again.
 *
 * DBOS refuses the checkpoints of an execution whose run was taken away. The lease is for all that is not a checkpoint:
 * signals, calls to clouds, and our own tables, whose every write carries the lease as a condition (`GUARD`).
 */
export class Lease {
  readonly #options: LeaseOptions;
  #epoch = 0;
  #state: "none" | "held" | "lost" | "ended" = "none";
  #renewedMonotonic = 0;
  #renewedWall = 0;
  #timers: NodeJS.Timeout[] = [];
  #renewing = false;
  #stopping = false;
  #waiting = new Set<() => void>();

  constructor(options: LeaseOptions) {
    this.#options = options;
  }

  get epoch(): number {
    return this.#epoch;
  }

  async start(): Promise<void> {
    await this.#joinPatiently();
    const { leaseMs } = this.#options;
    // The watch is apart from the renewal, which may hang in a dead connection.
    this.#timers = [
      setInterval(() => this.held(), Math.max(10, leaseMs / 16)),
      setInterval(() => void this.#tick(), Math.max(20, leaseMs / 4)),
    ];
    for (const timer of this.#timers) timer.unref();
  }

  /** By our own clocks, both of them: one stands still while a machine sleeps, the other can be set back. */
  held(): boolean {
    if (this.#state !== "held") return false;
    const elapsed = Math.max(performance.now() - this.#renewedMonotonic, Date.now() - this.#renewedWall);
    if (elapsed < this.#options.leaseMs / 2) return true;
    this.#lose("no renewal for half a lease");
    return false;
  }

  /** Resolves when the lease is held (again), with false when it never will be. */
  async regained(): Promise<boolean> {
    while (!this.held() && this.#state !== "ended") {
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
    return this.#state === "held";
  }

  /**
   * Asks the database.
   * @throws SlipwayError `cancelled` when the lease or the run is somebody else's by now
   */
  async confirm(runId: string, owner: string | undefined): Promise<void> {
    if (this.held()) {
      const { rows } = await this.#options.pool.query(
        `SELECT FROM executors e JOIN dbos.workflow_status w ON w.workflow_uuid = $3
         WHERE e.id = $1 AND e.epoch = $2 AND e.ended_at IS NULL AND e.expires_at > clock_timestamp()
           AND w.owner_xid IS NOT DISTINCT FROM $4`,
        [this.#options.executor, this.#epoch, runId, owner ?? null],
      );
      if (rows.length > 0 && this.held()) return;
    }
    throw new SlipwayError("cancelled", "another process has taken over this run", { subject: runId });
  }

  /** Gives the lease back, and the runs that were begun with it to whoever is there. */
  async end(): Promise<void> {
    this.#state = "ended";
    this.#wake();
    for (const timer of this.#timers) clearInterval(timer);
    if (this.#epoch === 0) return;
    await this.#alone(async (client) => {
      await client.query(
        "UPDATE executors SET ended_at = clock_timestamp(), epoch = epoch + 1 WHERE id = $1 AND epoch = $2",
        [this.#options.executor, this.#epoch],
      );
      await requeue(client, [this.#options.executor]);
    });
  }

  /** Declares the executors dead whose lease is over or whose process is gone, and hands on what they had begun. */
  async sweep(): Promise<void> {
    if (!this.held()) return;
    const host = thisHost();
    await this.#alone(async (client) => {
      const { rows: neighbours } = await client.query<{ id: string; pid: number; process_started: string }>(
        "SELECT id, pid, process_started FROM executors WHERE host = $1 AND ended_at IS NULL AND id <> $2",
        [host, this.#options.executor],
      );
      const dead = neighbours
        .filter((other) => !isAlive({ pid: other.pid, started: other.process_started }))
        .map((other) => other.id);
      const { rows: ended } = await client.query<{ id: string }>(
        `UPDATE executors SET ended_at = clock_timestamp(), epoch = epoch + 1
         WHERE ended_at IS NULL AND id <> $2 AND (id = ANY($1) OR expires_at < clock_timestamp()) RETURNING id`,
        [dead, this.#options.executor],
      );
      // Also runs that an executor took from the queue after it was declared dead, not knowing it yet.
      const { rows: owners } = await client.query<{ id: string }>(
        `SELECT DISTINCT executor_id AS id FROM dbos.workflow_status w WHERE status = 'PENDING'
         AND NOT EXISTS (SELECT FROM executors e WHERE e.id = w.executor_id AND e.ended_at IS NULL)`,
      );
      const gone = [...new Set([...ended, ...owners].map((row) => row.id))];
      if (gone.length === 0) return;
      const requeued = await requeue(client, gone);
      if (requeued.length > 0) this.#options.log.info("took over runs of executors that are gone", { gone, requeued });
    });
  }

  /** A sweeper that stands still holds the lock until the server ends its transaction. */
  async #joinPatiently(): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#join();
      } catch (error) {
        if (attempt === JOIN_ATTEMPTS || !isDisconnected(error)) throw error;
      }
    }
  }

  async #join(): Promise<void> {
    const { executor, role, version, leaseMs } = this.#options;
    const { pid, started } = thisProcess();
    const clocks = [performance.now(), Date.now()] as const;
    // Under the lock, because a sweeper may be about to requeue what this executor is about to begin.
    await this.#alone(async (client) => {
      const { rows } = await client.query<{ epoch: string }>(
        `INSERT INTO executors (id, role, version, host, pid, process_started, epoch, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, 1, clock_timestamp() + $7 * interval '1 ms')
         ON CONFLICT (id) DO UPDATE SET epoch = executors.epoch + 1, expires_at = excluded.expires_at, ended_at = NULL
         RETURNING epoch`,
        [executor, role, version, thisHost(), pid, started, leaseMs],
      );
      if (this.#epoch > 0) await requeue(client, [executor]);
      this.#epoch = Number(rows[0]?.epoch);
    });
    [this.#renewedMonotonic, this.#renewedWall] = clocks;
    if (this.#state !== "ended") this.#state = "held";
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }

  #lose(why: string): void {
    if (this.#state !== "held") return;
    this.#state = "lost";
    this.#options.log.warn("lost the lease: stopping what runs here", { why, executor: this.#options.executor });
    this.#stopping = true;
    this.#options
      .onLost()
      .catch(() => {})
      .finally(() => {
        this.#stopping = false;
      });
  }

  /** Renews; after a loss, joins again under a new epoch once everything local has stopped. */
  async #tick(): Promise<void> {
    if (this.#renewing || this.#stopping || this.#state === "ended") return;
    this.#renewing = true;
    try {
      if (this.#state === "lost") {
        await this.#join();
        this.#options.log.info("took a new lease", { executor: this.#options.executor, epoch: this.#epoch });
        return;
      }
      const clocks = [performance.now(), Date.now()] as const;
      const { rowCount } = await this.#options.pool.query(
        `UPDATE executors SET expires_at = clock_timestamp() + $3 * interval '1 ms'
         WHERE id = $1 AND epoch = $2 AND ended_at IS NULL AND expires_at > clock_timestamp()`,
        [this.#options.executor, this.#epoch, this.#options.leaseMs],
      );
      if (rowCount === 1) [this.#renewedMonotonic, this.#renewedWall] = clocks;
      else this.#lose("another process has taken it");
    } catch (error) {
      // Tried again at the next tick; `held` tells when it has been too long.
      this.#options.room.notice(error);
    } finally {
      this.#renewing = false;
    }
  }

  async #alone(action: (client: pg.PoolClient) => Promise<void>): Promise<void> {
    const client = await this.#options.pool.connect();
    try {
      await client.query("BEGIN");
      await client.query(`SET LOCAL lock_timeout = ${Math.max(500, Math.floor(this.#options.leaseMs / 5))}`);
      await client.query(`SELECT pg_advisory_xact_lock(${SWEEP_LOCK})`);
      await action(client);
      await client.query("COMMIT");
      client.release();
    } catch (error) {
      // Whether the server still works on it is not known: ending the connection is the surest way to roll back.
      client.release(true);
      throw error;
    }
  }
}

async function requeue(client: pg.PoolClient, executors: readonly string[]): Promise<string[]> {
  await client.query(
    `UPDATE run_attempts SET state = 'abandoned', ended_at = clock_timestamp()
     WHERE state = 'running' AND executor = ANY($1)`,
    [executors],
  );
  return requeueRunsOf(executors);
}

/** SQL condition for a write of an executor ($1) under an epoch ($2): it holds the lease at this moment. */
export const GUARD = `EXISTS (SELECT FROM executors
  WHERE id = $1 AND epoch = $2 AND ended_at IS NULL AND expires_at > clock_timestamp())`;
