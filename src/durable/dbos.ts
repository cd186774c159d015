/**
 * The one file that imports DBOS. Three of its internals are used, each for want of a public name: the executor's
 * `recoverPendingWorkflows` (what its own hosted control plane calls when an executor is gone), the stop of its queue
 * runner ahead of a shutdown, and the counter of step numbers (see branches.ts). All are covered by our crash tests.
 */
import { DBOS, DBOSClient, type DBOSConfig, DBOSWorkflowConflictError, type DLogger } from "@dbos-inc/dbos-sdk";
import { getCurrentContextStore, runWithParentContext } from "@dbos-inc/dbos-sdk/internal/context";
import { getExecutor } from "@dbos-inc/dbos-sdk/internal/dbos";
import { ensureSystemDatabase } from "@dbos-inc/dbos-sdk/internal/system_database";
import type pg from "pg";
import type { Log } from "../lib/call.ts";

export { DBOS, DBOSClient, type DBOSConfig, DBOSWorkflowConflictError, getCurrentContextStore, runWithParentContext };

/** Under this name our rows are in DBOS's tables. */
export const APPLICATION = "slipway";

/** DBOS checks the form of a URL even where a pool is given, and never uses it then. */
export const FORM_URL = "postgresql://slipway@localhost/slipway";

/** Puts every run that these executors had begun back into its queue. The executors must be gone. */
export async function requeueRunsOf(executors: readonly string[]): Promise<string[]> {
  const handles = await getExecutor().recoverPendingWorkflows([...executors]);
  return handles.map((handle) => handle.workflowID);
}

/** Takes no more runs from the queues; those in progress go on. */
export async function stopDequeuing(): Promise<void> {
  await getExecutor().deactivateEventReceivers();
}

/** Creates DBOS's tables where they are missing, so that runs can be listed and enqueued without working on them. */
export async function ensureTables(pool: pg.Pool, log: Log): Promise<void> {
  const { rows } = await pool.query<{ there: boolean }>(
    "SELECT to_regclass('dbos.workflow_output') IS NOT NULL AS there",
  );
  if (rows[0]?.there) return;
  const logger = quietLogger(log) as Parameters<typeof ensureSystemDatabase>[1];
  await ensureSystemDatabase(FORM_URL, logger, pool, "dbos", false);
}

/**
 * DBOS's own words, one level lower: a failed run is for us an outcome, and a lost connection is told by the lease.
 * What it says is also heard by `hear`, because it repeats a failed write for ever and tells only its log why.
 */
export function quietLogger(log: Log, hear: (said: string) => void = () => {}): DLogger {
  const say = (entry: unknown) => {
    const said = entry instanceof Error ? entry.message : String(entry);
    log.debug("engine", { said });
    hear(said);
  };
  return { debug() {}, info: say, warn: say, error: say };
}

/** True for what DBOS throws to unwind an execution that has no say any more: it must reach DBOS untouched. */
export function isUnwinding(error: unknown): boolean {
  return (
    error instanceof DBOSWorkflowConflictError ||
    (error instanceof Error && error.constructor.name === "DBOSWorkflowCancelledError")
  );
}

/** True for a child's end without result of its own: live or revived from a checkpoint. */
export function isChildCancelled(error: unknown): boolean {
  return error instanceof Error && /AwaitedWorkflowCancelled/.test(`${error.name} ${error.constructor.name}`);
}
