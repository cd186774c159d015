import { setTimeout as sleep } from "node:timers/promises";
import type { Log } from "../lib/call.ts";
import { type ErrorReport, isTransient, reportOf, SlipwayError } from "../lib/errors.ts";
import type { AttemptStore } from "./attempts.ts";
import { DBOSWorkflowConflictError, getCurrentContextStore } from "./dbos.ts";
import { masked, plain } from "./errors.ts";
import { type Execution, GRACE_MS } from "./executions.ts";
import type { Lease } from "./lease.ts";
import type { LogWriter } from "./log-store.ts";
import type { CrashPoint, RetryPolicy, StepContext, StepDefinition } from "./types.ts";

/** What an engine that works hands to its runs and steps. */
export interface Workbench<S> {
  readonly services: S;
  readonly lease: Lease;
  readonly attempts: AttemptStore;
  readonly logs: LogWriter;
  readonly mask: (text: string) => string;
  readonly crashPoint: (point: CrashPoint) => void;
  /** Waits between attempts are multiplied by this. */
  readonly hurry: number;
}

/** What is stored as a step's result. A failure is a result as well: a replay throws it again without trying. */
export type Kept<O> = { readonly value: O } | { readonly error: ErrorReport };

// setTimeout counts in 31 bits.
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/**
 * Tries a step until it succeeds, fails for good, or has no attempts left.
 *
 * @throws DBOSWorkflowConflictError when this process must not go on with the run (cancelled, lease lost, shutting
 *   down): nothing is recorded then, and whoever has the run next tries again
 */
export async function tryStep<I, O, S>(
  bench: Workbench<S>,
  execution: Execution,
  step: StepDefinition<I, O, S>,
  input: I,
  key: string,
): Promise<Kept<O>> {
  const { run, root } = execution;
  const owner = getCurrentContextStore()?.ownerXid;
  for (;;) {
    checkGoing(bench, execution);
    const attempt = await bench.attempts.begin(run, root, key, step.name);
    const log = bench.logs.at({ run, root, step: key, attempt: attempt.number });
    const context = {
      log,
      run: { id: run, step: key },
      attempt: attempt.number,
      last: attempt.failures + 1 >= step.retry.attempts,
      services: bench.services,
      progress: (value) => attempt.progress(masked(value, bench.mask)),
      lease: { assert: () => bench.lease.confirm(run, owner) },
    } satisfies Omit<StepContext<S>, "signal">;
    const outcome = await tryOnce(step, context, input, execution.signal);

    if (execution.signal.aborted || !bench.lease.held()) {
      await attempt.end("abandoned").catch(() => {});
      throw new DBOSWorkflowConflictError(run);
    }
    if ("value" in outcome) {
      await attempt.end("done");
      return outcome;
    }
    const failures = attempt.failures + 1;
    const final = !isTransient(outcome.error) || failures >= step.retry.attempts;
    const told = masked(reportOf(outcome.error), bench.mask);
    const report = final && failures > 1 ? { tried: `${failures} attempts`, ...told } : told;
    logFailure(log, outcome.error, report, final);
    await attempt.end("failed", report);
    if (final) return { error: report };
    await sleep(bench.hurry * backoff(step.retry, failures), undefined, { signal: execution.signal }).catch(() => {});
  }
}

/** @throws DBOSWorkflowConflictError when this process must not go on with the run */
export function checkGoing<S>(bench: Pick<Workbench<S>, "lease">, execution: Execution): void {
  if (execution.signal.aborted || !bench.lease.held()) throw new DBOSWorkflowConflictError(execution.run);
}

async function tryOnce<I, O, S>(
  step: StepDefinition<I, O, S>,
  context: Omit<StepContext<S>, "signal">,
  input: I,
  stopped: AbortSignal,
): Promise<{ value: O } | { error: unknown }> {
  const deadline = new AbortController();
  const timer = setTimeout(
    () => {
      const tried = `waited ${Math.round(step.timeoutMs / 1000)} s`;
      const subject = `${step.name} ${context.run.step}`;
      deadline.abort(new SlipwayError("unavailable", "the step took longer than it may", { subject, tried }));
    },
    Math.min(step.timeoutMs, LONGEST_TIMER_MS),
  );
  const signal = AbortSignal.any([stopped, deadline.signal]);
  try {
    const body = Promise.resolve().then(() => step.run({ ...context, signal }, input));
    const outcome = await settledOrLeft(body, signal);
    if ("value" in outcome) return { value: plain(outcome.value) };
    return deadline.signal.aborted ? { error: deadline.signal.reason } : outcome;
  } finally {
    clearTimeout(timer);
  }
}

/** How the body ended; when it does not end within the grace after an abort, it is left to itself. */
async function settledOrLeft<O>(body: Promise<O>, signal: AbortSignal): Promise<{ value: O } | { error: unknown }> {
  const ended = body.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  );
  let timer: NodeJS.Timeout | undefined;
  let onAbort = () => {};
  const left = new Promise<{ error: unknown }>((resolve) => {
    onAbort = () => {
      timer = setTimeout(() => resolve({ error: signal.reason }), GRACE_MS);
    };
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
  });
  try {
    return await Promise.race([ended, left]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}

// A fifth up or down, so that many steps that failed together do not come back together.
function backoff({ backoffMs, factor, maxMs }: RetryPolicy, failures: number): number {
  return Math.min(maxMs, backoffMs * factor ** (failures - 1)) * (0.8 + Math.random() * 0.4);
}

function logFailure(log: Log, error: unknown, report: ErrorReport, final: boolean): void {
  const { message: reason, ...rest } = report;
  if (final) log.error("the step failed", { reason, ...rest });
  else log.warn("the attempt failed and will be repeated", { reason, ...rest });
  // Where it happened matters only when nobody expected it.
  if (report.code === "unknown" && error instanceof Error) log.debug("stack", { stack: error.stack });
}
