import type pg from "pg";
import { databaseError } from "../database/index.ts";
import { reportOf, SlipwayError } from "../lib/errors.ts";
import { oneAtATime, onMainLine, settleBranches } from "./branches.ts";
import { DBOS, DBOSWorkflowConflictError, getCurrentContextStore, isUnwinding } from "./dbos.ts";
import { errorOfRun, masked, plain, RunFailure, StoredError } from "./errors.ts";
import type { Execution, Executions } from "./executions.ts";
import { GUARD } from "./lease.ts";
import { CHANGES } from "./migrations.ts";
import { NoLease, patiently } from "./patience.ts";
import type { Room } from "./room.ts";
import { checkGoing, type Kept, tryStep, type Workbench } from "./run-step.ts";
import type { Flow, RunHandle, StartOptions, WorkflowDefinition } from "./types.ts";

/** What DBOS calls for a run: our definition, wrapped. */
export type Registered = (input: unknown) => Promise<unknown>;

export interface Workshop<S> extends Workbench<S> {
  readonly pool: pg.Pool;
  readonly executor: string;
  readonly executions: Executions;
  readonly room: Room;
  registered(name: string): Registered;
  /** Records a child's row; repeatable. */
  recordChild(execution: Execution, workflow: string, options: StartOptions): Promise<void>;
}

// A child's end is looked for this often.
const RESULT_POLL_MS = 100;
const LONGEST_KEY = 200;

/** Carries out one telling of a run, from its first step or from where the one before stopped. */
export async function runWorkflow<I, O, S>(
  shop: Workshop<S>,
  workflow: WorkflowDefinition<I, O, S>,
  input: I,
): Promise<unknown> {
  const run = DBOS.workflowID ?? "";
  // Just back from a lost lease, this run may have been given to somebody else between being taken from the queue and
  // here; waiting for the lease first and then asking whose it is leaves no gap.
  if (!(await shop.lease.regained())) throw new DBOSWorkflowConflictError(run);
  const root = await patiently(shop.lease, shop.room, () => rootOf(shop.pool, run)).catch((error) => {
    throw error instanceof NoLease ? new DBOSWorkflowConflictError(run) : error;
  });
  const execution = shop.executions.begin(run, root);
  try {
    const output = await onMainLine(() => workflow.run(flowOf(shop, execution), input));
    checkGoing(shop, execution);
    return plain(output) ?? null;
  } catch (error) {
    if (isUnwinding(error)) throw error;
    if (error instanceof NoLease || execution.signal.aborted) throw new DBOSWorkflowConflictError(run);
    const report = masked(reportOf(error), shop.mask);
    await shop.pool
      .query(`UPDATE runs SET error = $3 WHERE id = $4 AND ${GUARD}`, [
        shop.executor,
        shop.lease.epoch,
        JSON.stringify(report),
        run,
      ])
      .catch(() => {});
    throw new RunFailure(report);
  } finally {
    await shop.logs.flush();
    execution.end();
    tellSoon(shop.pool, root);
  }
}

/** @throws NoLease when the run was given to another execution meanwhile */
async function rootOf(pool: pg.Pool, run: string): Promise<string> {
  const { rows } = await pool.query<{ root: string }>(
    `SELECT coalesce(r.root, w.workflow_uuid) AS root FROM dbos.workflow_status w LEFT JOIN runs r ON r.id = w.workflow_uuid
     WHERE w.workflow_uuid = $1 AND w.owner_xid = $2`,
    [run, getCurrentContextStore()?.ownerXid],
  );
  if (!rows[0]) throw new NoLease();
  await pool.query("SELECT pg_notify($1, $2)", [CHANGES, rows[0].root]);
  return rows[0].root;
}

// DBOS records the outcome after we have returned, so watchers are woken a moment later; they also look by themselves.
function tellSoon(pool: pg.Pool, root: string): void {
  setTimeout(() => {
    pool.query("SELECT pg_notify($1, $2)", [CHANGES, root]).catch(() => {});
  }, 25).unref();
}

function flowOf<S>(shop: Workshop<S>, execution: Execution): Flow<S> {
  const keys = new Set<string>();

  function call<T>(action: () => Promise<T>): Promise<T> {
    return oneAtATime(() => {
      checkGoing(shop, execution);
      return action();
    });
  }

  return {
    runId: execution.run,
    signal: execution.signal,
    log: shop.logs.at({ run: execution.run, root: execution.root }),

    async step(step, input, { key }) {
      if (key === "" || key.length > LONGEST_KEY || keys.has(key)) {
        throw new SlipwayError("invalid", "a step's key is missing, too long or used twice in its run", {
          subject: `${step.name} ${key.slice(0, LONGEST_KEY)}`,
        });
      }
      keys.add(key);
      return call(async () => {
        let tried = false;
        const point = { run: execution.run, step: key };
        const attempt = async () => {
          tried = true;
          shop.crashPoint({ at: "begin", ...point });
          const kept = await tryStep(shop, execution, step, plain(input), key).catch((error) => {
            throw error instanceof NoLease ? new DBOSWorkflowConflictError(execution.run) : error;
          });
          shop.crashPoint({ at: "done", ...point });
          return kept;
        };
        const kept = (await DBOS.runStep(attempt, { name: `${step.name} ${key}` })) as Kept<never>;
        if (tried) shop.crashPoint({ at: "kept", ...point });
        if ("error" in kept) throw new StoredError(kept.error);
        return kept.value;
      });
    },

    start<I, O>(workflow: WorkflowDefinition<I, O, S>, input: I, options: StartOptions) {
      return call(async () => {
        await patiently(shop.lease, shop.room, () => shop.recordChild(execution, workflow.name, options));
        const params = { workflowID: options.runId, queueName: options.queue };
        const handle = await DBOS.startWorkflow(
          shop.registered(workflow.name),
          params,
        )(plain(input)).catch((error) => {
          throw isUnwinding(error) ? error : startError(error, options.runId);
        });
        const result = () =>
          call(async () => {
            const ended = handle.getResult({ pollingIntervalMs: RESULT_POLL_MS });
            return (await stoppable(ended, execution).catch((error) => {
              throw isUnwinding(error) ? error : errorOfRun(error, options.runId);
            })) as O;
          });
        return { runId: options.runId, result } satisfies RunHandle<O>;
      });
    },

    settle: (branches) => {
      checkGoing(shop, execution);
      return settleBranches(branches);
    },
    sleep: (ms) => call(() => stoppable(DBOS.sleepms(ms), execution)),
    now: () => call(() => DBOS.now()),
  };
}

/** Waiting that ends when the execution must: what is waited for goes on without us. */
async function stoppable<T>(waiting: Promise<T>, { run, signal }: Execution): Promise<T> {
  let onAbort = () => {};
  const stopped = new Promise<never>((_resolve, reject) => {
    onAbort = () => reject(new DBOSWorkflowConflictError(run));
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
  });
  try {
    return await Promise.race([waiting, stopped]);
  } finally {
    waiting.catch(() => {});
    stopped.catch(() => {});
    signal.removeEventListener("abort", onAbort);
  }
}

/** Why a run could not be started. */
export function startError(error: unknown, runId: string): SlipwayError {
  if (error instanceof Error && error.constructor.name === "DBOSConflictingWorkflowError") {
    return new SlipwayError("conflict", "a run of this id exists and is of another workflow", {
      subject: runId,
      cause: error,
    });
  }
  const fromDatabase = typeof (error as { code?: unknown } | null)?.code === "string";
  return fromDatabase ? databaseError(error, runId) : errorOfRun(error, runId);
}
