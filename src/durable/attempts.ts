import type pg from "pg";
import type { ErrorReport } from "../lib/errors.ts";
import type { Json } from "../model.ts";
import { GUARD, type Lease } from "./lease.ts";
import { CHANGES } from "./migrations.ts";
import { NoLease, patiently } from "./patience.ts";
import type { Room } from "./room.ts";
import type { AttemptState } from "./types.ts";

const PROGRESS_MS = 500;

export interface Attempt {
  readonly number: number;
  /** How many attempts at this step have failed before. */
  readonly failures: number;
  progress(value: Json): void;
  end(state: Exclude<AttemptState, "running">, error?: ErrorReport): Promise<void>;
}

/** Records attempts while they happen. Every write carries the lease as a condition, so that a stale process writes nothing. */
export class AttemptStore {
  readonly #pool: pg.Pool;
  readonly #executor: string;
  readonly #lease: Lease;
  readonly #room: Room;

  constructor(pool: pg.Pool, executor: string, lease: Lease, room: Room) {
    this.#pool = pool;
    this.#executor = executor;
    this.#lease = lease;
    this.#room = room;
  }

  /** @throws NoLease */
  async begin(run: string, root: string, step: string, name: string): Promise<Attempt> {
    const rows = await this.#query<{ attempt: number; failures: string }>(
      `WITH told AS (SELECT pg_notify('${CHANGES}', $3)),
       closed AS (UPDATE run_attempts SET state = 'abandoned', ended_at = clock_timestamp()
         WHERE run = $4 AND step = $5 AND state = 'running' AND ${GUARD})
       INSERT INTO run_attempts (run, step, attempt, name, executor, state)
       SELECT $4, $5, coalesce((SELECT max(attempt) FROM run_attempts WHERE run = $4 AND step = $5), 0) + 1,
         $6, $1, 'running' FROM told WHERE ${GUARD}
       RETURNING attempt, (SELECT count(*) FROM run_attempts WHERE run = $4 AND step = $5 AND state = 'failed') AS failures`,
      [root, run, step, name],
    );
    const [row] = rows;
    if (!row) throw new NoLease();
    const { attempt } = row;
    let shown: NodeJS.Timeout | undefined;
    let newest: Json = null;
    const update = (set: string, values: readonly unknown[]) =>
      this.#query(
        `WITH told AS (SELECT pg_notify('${CHANGES}', $3))
         UPDATE run_attempts SET ${set} FROM told
         WHERE run = $4 AND step = $5 AND attempt = $6 AND state = 'running' AND ${GUARD} RETURNING run`,
        [root, run, step, attempt, ...values],
      );
    return {
      number: attempt,
      failures: Number(row.failures),
      progress: (value) => {
        newest = value;
        shown ??= setTimeout(() => {
          shown = undefined;
          update("progress = $7", [JSON.stringify(newest)]).catch(() => {});
        }, PROGRESS_MS).unref();
      },
      end: async (state, error) => {
        const last = shown === undefined ? null : JSON.stringify(newest);
        clearTimeout(shown);
        shown = undefined;
        const done = await update(
          "state = $7, ended_at = clock_timestamp(), error = $8, progress = coalesce($9, progress)",
          [state, error === undefined ? null : JSON.stringify(error), last],
        );
        if (done.length === 0) throw new NoLease();
      },
    };
  }

  #query<Row extends pg.QueryResultRow>(sql: string, values: readonly unknown[]): Promise<Row[]> {
    return patiently(this.#lease, this.#room, async () => {
      return (await this.#pool.query<Row>(sql, [this.#executor, this.#lease.epoch, ...values])).rows;
    });
  }
}
