import type pg from "pg";
import { type ErrorReport, SlipwayError } from "../lib/errors.ts";
import type { Json } from "../model.ts";
import type { AttemptState, AttemptView, ListQuery, RunState, RunView, StepView } from "./types.ts";

// DBOS's word → ours. A run whose row DBOS does not have yet is about to be enqueued.
const STATES: Readonly<Record<string, RunState>> = {
  ENQUEUED: "waiting",
  DELAYED: "waiting",
  PENDING: "running",
  SUCCESS: "done",
  ERROR: "failed",
  MAX_RECOVERY_ATTEMPTS_EXCEEDED: "failed",
  CANCELLED: "cancelled",
};

const RUNS = `SELECT r.id, r.workflow, r.title, r.labels, r.parent, r.root, r.queue, r.error, w.status, w.executor_id,
    (extract(epoch FROM r.created_at) * 1000)::float8 AS created_at,
    w.started_at_epoch_ms::float8 AS started_at, w.completed_at::float8 AS ended_at,
    CASE WHEN r.error IS NULL AND w.status = 'ERROR'
      THEN (SELECT o.error FROM dbos.workflow_output o WHERE o.workflow_uuid = r.id) END AS said
  FROM runs r LEFT JOIN dbos.workflow_status w ON w.workflow_uuid = r.id`;

interface RunRow {
  readonly id: string;
  readonly workflow: string;
  readonly title: string;
  readonly labels: Record<string, string>;
  readonly parent: string | null;
  readonly root: string;
  readonly queue: string;
  readonly error: ErrorReport | null;
  /** What DBOS kept of it, where we could not write it down ourselves: the database was away at that moment. */
  readonly said: string | null;
  readonly status: string | null;
  readonly executor_id: string | null;
  readonly created_at: number;
  readonly started_at: number | null;
  readonly ended_at: number | null;
}

export function hasEnded(run: RunView): boolean {
  return run.state === "done" || run.state === "failed" || run.state === "cancelled";
}

/** @throws SlipwayError `not-found` */
export async function readRun(pool: pg.Pool, id: string): Promise<RunView> {
  const [run] = await readRuns(pool, [id]);
  if (!run) {
    throw new SlipwayError("not-found", "there is no such run", { subject: id, next: "slipway runs list" });
  }
  return run;
}

export async function readRuns(pool: pg.Pool, ids: readonly string[]): Promise<RunView[]> {
  const { rows } = await pool.query<RunRow>(`${RUNS} WHERE r.id = ANY($1) ORDER BY r.seq`, [ids]);
  return rows.map(runView);
}

/** A run and its descendants, parents first. */
export async function readTree(pool: pg.Pool, id: string): Promise<string[]> {
  const { rows } = await pool.query<{ id: string }>(
    `WITH RECURSIVE tree AS (
       SELECT id, seq FROM runs WHERE id = $1
       UNION SELECT r.id, r.seq FROM runs r JOIN tree t ON r.parent = t.id)
     SELECT id FROM tree ORDER BY seq`,
    [id],
  );
  return rows.map((row) => row.id);
}

export async function listRuns(pool: pg.Pool, query: ListQuery): Promise<RunView[]> {
  const states = query.state === undefined ? undefined : [query.state].flat();
  const words = states && Object.entries(STATES).filter(([, state]) => states.includes(state));
  const { rows } = await pool.query<RunRow>(
    `${RUNS}
     WHERE ($1::jsonb IS NULL OR r.labels @> $1)
       AND ($2::text[] IS NULL OR w.status = ANY($2) OR (w.status IS NULL AND $3))
       AND ($4::text IS NULL OR r.workflow = $4)
       AND (NOT $5 OR r.parent IS NULL)
       AND ($6::text IS NULL OR r.seq < (SELECT seq FROM runs WHERE id = $6))
     ORDER BY r.seq DESC LIMIT $7`,
    [
      query.labels ? JSON.stringify(query.labels) : null,
      words ? words.map(([word]) => word) : null,
      states?.includes("waiting") ?? false,
      query.workflow ?? null,
      query.rootsOnly ?? false,
      query.before ?? null,
      Math.min(Math.max(query.limit ?? 50, 1), 1000),
    ],
  );
  return rows.map(runView);
}

function runView(row: RunRow): RunView {
  const state = STATES[row.status ?? "ENQUEUED"] ?? "waiting";
  return {
    id: row.id,
    workflow: row.workflow,
    title: row.title,
    labels: row.labels,
    ...(row.parent === null ? {} : { parent: row.parent }),
    root: row.root,
    queue: row.queue,
    state,
    createdAt: Math.round(row.created_at),
    ...(row.started_at === null ? {} : { startedAt: row.started_at }),
    ...(row.ended_at === null ? {} : { endedAt: row.ended_at }),
    ...(state === "running" && row.executor_id !== null ? { executor: row.executor_id } : {}),
    ...(state === "failed" ? { error: row.error ?? reportIn(row.said) ?? GAVE_UP } : {}),
  };
}

function reportIn(said: string | null): ErrorReport | undefined {
  try {
    const { json } = JSON.parse(said ?? "null") as { json: { report?: ErrorReport; message?: string } };
    return json.report ?? (json.message === undefined ? undefined : { code: "unknown", message: json.message });
  } catch {
    return undefined;
  }
}

// DBOS stops a run that was taken over a hundred times: it kills whoever works on it.
const GAVE_UP: ErrorReport = {
  code: "unknown",
  message: "the run ended without saying why, or the processes that worked on it died too often",
};

interface AttemptRow {
  readonly run: string;
  readonly step: string;
  readonly attempt: number;
  readonly name: string;
  readonly executor: string;
  readonly state: AttemptState;
  readonly started_at: number;
  readonly ended_at: number | null;
  readonly error: ErrorReport | null;
  readonly progress: Json;
}

/** Steps of these runs, in the order in which they were first tried. */
export async function readSteps(pool: pg.Pool, runs: readonly string[]): Promise<StepView[]> {
  const { rows } = await pool.query<AttemptRow>(
    `SELECT run, step, attempt, name, executor, state, error, progress,
       (extract(epoch FROM started_at) * 1000)::float8 AS started_at,
       (extract(epoch FROM ended_at) * 1000)::float8 AS ended_at
     FROM run_attempts WHERE run = ANY($1)
     ORDER BY min(started_at) OVER (PARTITION BY run, step), run, step, attempt`,
    [runs],
  );
  const steps: StepView[] = [];
  for (const row of rows) {
    const view = attemptView(row);
    const last = steps.at(-1);
    const goesOn = last?.run === row.run && last.key === row.step;
    const attempts: AttemptView[] = goesOn ? [...last.attempts, view] : [view];
    const { attempt: _number, executor: _executor, startedAt: _started, ...rest } = view;
    const step = { run: row.run, key: row.step, name: row.name, startedAt: attempts[0]!.startedAt, ...rest, attempts };
    if (goesOn) steps[steps.length - 1] = step;
    else steps.push(step);
  }
  return steps;
}

function attemptView(row: AttemptRow): AttemptView {
  return {
    attempt: row.attempt,
    state: row.state,
    startedAt: Math.round(row.started_at),
    ...(row.ended_at === null ? {} : { endedAt: Math.round(row.ended_at) }),
    executor: row.executor,
    ...(row.error === null ? {} : { error: row.error }),
    ...(row.progress === null ? {} : { progress: row.progress }),
  };
}
