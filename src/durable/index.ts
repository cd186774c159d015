/**
 * Runs and steps that survive the process that works on them: a thin face on DBOS Transact and PostgreSQL.
 *
 * What it adds to DBOS: errors and attempts kept as data, progress and logs that can be read while a step runs, a lease
 * per executor with takeover and self-fencing, branches that may take several steps each, and a view of it all for
 * console and CLI. What it refuses to know: clouds, images, composes – any noun of ours.
 *
 * Start reading at types.ts (the nouns and the promises), then engine.ts.
 */
export { defineStep, defineWorkflow, networkRetry, noRetry } from "./define.ts";
export { openEngine } from "./engine.ts";
export type {
  AttemptState,
  AttemptView,
  CrashPoint,
  Engine,
  EngineOptions,
  Flow,
  ListQuery,
  LogLine,
  LogPage,
  Outcome,
  QueueOptions,
  RetryPolicy,
  RunEvent,
  RunHandle,
  RunState,
  RunView,
  StartOptions,
  StepContext,
  StepDefinition,
  StepOptions,
  StepView,
  WorkflowDefinition,
} from "./types.ts";
