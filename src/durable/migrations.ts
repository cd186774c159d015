import type { Migration } from "../database/index.ts";

/** Our tables beside DBOS's own schema `dbos`. What a run is and did; DBOS keeps what is needed to go on with it. */
export const migrations: readonly Migration[] = [
  {
    name: "001-runs",
    up: `
      CREATE TABLE executors (
        id text PRIMARY KEY,
        role text NOT NULL,
        version text NOT NULL,           -- of its workflows: it works on runs of this version only
        host text NOT NULL,
        pid int NOT NULL,
        process_started text NOT NULL,   -- tells it from a later process of the same number
        epoch bigint NOT NULL,           -- raised whenever its runs are taken away
        expires_at timestamptz NOT NULL,
        started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        ended_at timestamptz
      );
      CREATE TABLE runs (
        id text PRIMARY KEY,
        seq bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
        workflow text NOT NULL,
        title text NOT NULL,
        labels jsonb NOT NULL,
        parent text REFERENCES runs ON DELETE CASCADE,
        root text NOT NULL,
        queue text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        error jsonb
      );
      CREATE INDEX runs_parent ON runs (parent);
      CREATE INDEX runs_root ON runs (root);
      CREATE INDEX runs_labels ON runs USING gin (labels jsonb_path_ops);
      CREATE TABLE run_attempts (
        run text NOT NULL REFERENCES runs ON DELETE CASCADE,
        step text NOT NULL,
        attempt int NOT NULL,
        name text NOT NULL,
        executor text NOT NULL,
        state text NOT NULL,
        started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        ended_at timestamptz,
        error jsonb,
        progress jsonb,
        PRIMARY KEY (run, step, attempt)
      );
      CREATE INDEX run_attempts_running ON run_attempts (executor) WHERE state = 'running';
      CREATE TABLE run_logs (
        seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        run text NOT NULL REFERENCES runs ON DELETE CASCADE,
        step text,
        attempt int,
        chunk bytea NOT NULL             -- lines of JSON, zstd
      );
      CREATE INDEX run_logs_run ON run_logs (run, seq);`,
  },
];

/** Raised for every change of a run; the payload is the id of its root, or "" for something missed. */
export const CHANGES = "slipway_runs";

/** One sweeper, one rejoin at a time. */
export const SWEEP_LOCK = "hashtextextended('slipway sweep', 0)";
