import type { Database } from "../database/index.ts";
import type { CallContext, Log } from "../lib/call.ts";
import type { ErrorReport, SlipwayError } from "../lib/errors.ts";
import type { Json } from "../model.ts";

// Terminology. workflow: the story · run: one telling of it · step: one checkpointed action in a run ·
// attempt: one try at it · key: what tells two steps of one run apart · executor: a process that carries out runs ·
// lease: the time for which an executor may act without hearing from the database.

/** How often a step is tried, and how long apart. Only errors with a transient code are tried again. */
export interface RetryPolicy {
  /** Tries in all, ≥ 1. Attempts that a crash interrupted do not count. */
  readonly attempts: number;
  /** Wait before the second attempt, in milliseconds. */
  readonly backoffMs: number;
  /** Each wait is this many times the one before. */
  readonly factor: number;
  /** No wait is longer than this. */
  readonly maxMs: number;
}

/** What a step is given besides its input. Everything that is not plain JSON arrives here. */
export interface StepContext<S> extends CallContext {
  readonly run: { readonly id: string; readonly step: string };
  /** Counts from 1 over the whole run, crashes included. */
  readonly attempt: number;
  /** No failure of this attempt is followed by another one: time to return what there is, if that is worth something. */
  readonly last: boolean;
  readonly services: S;
  /** The newest value is kept with the attempt and shown to whoever watches. Cheap: written at most twice a second. */
  progress(value: Json): void;
  readonly lease: {
    /**
     * Asks the database whether this process still holds its lease and this run. To be called right before anything
     * that cannot be undone.
     * @throws SlipwayError `cancelled` if not
     */
    assert(): Promise<void>;
  };
}

/** Name, policy, body. Input and output are plain JSON: they are stored. */
export interface StepDefinition<I, O, S> {
  /** Stored in every run: renaming it is a migration. */
  readonly name: string;
  readonly retry: RetryPolicy;
  /** Of one attempt; its signal is aborted then and the attempt fails with `unavailable`. */
  readonly timeoutMs: number;
  run(ctx: StepContext<S>, input: I): Promise<O>;
}

/** A branch of `settle`: how it ended, as data. */
export type Outcome<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly error: SlipwayError };

export interface StepOptions {
  /** Tells this step from every other of the run; derived from the input, never from a clock or a counter of events. */
  readonly key: string;
}

export interface StartOptions {
  /** Two starts with one id are one run. */
  readonly runId: string;
  /** Name of a queue given to `openEngine`. */
  readonly queue: string;
  /** For people. */
  readonly title?: string;
  /** Facts to find the run by. */
  readonly labels?: Readonly<Record<string, string>>;
}

export interface RunHandle<O> {
  readonly runId: string;
  /**
   * Waits for the run's end.
   * @throws SlipwayError the run's own error, or `cancelled`
   */
  result(): Promise<O>;
}

/**
 * What a workflow's body acts through. The body must be deterministic: same input and same step results, same calls in
 * the same order. Concurrency only through `settle` (not `Promise.all`), time only through `now`.
 */
export interface Flow<S> {
  readonly runId: string;
  /** Aborted on cancel and on a lost lease. */
  readonly signal: AbortSignal;
  readonly log: Log;
  /** Carries out a step once, or returns what it returned when it was carried out before. */
  step<I, O>(step: StepDefinition<I, O, S>, input: I, options: StepOptions): Promise<O>;
  /** Starts a child run. It is cancelled with its parent. */
  start<I, O>(workflow: WorkflowDefinition<I, O, S>, input: I, options: StartOptions): Promise<RunHandle<O>>;
  /** Runs branches side by side and waits for all. A branch may take any number of steps. Never throws for a branch. */
  settle<T>(branches: readonly (() => Promise<T>)[]): Promise<Outcome<T>[]>;
  /** Survives a crash: only what is left is slept. */
  sleep(ms: number): Promise<void>;
  /** Milliseconds since the epoch, the same on every replay. */
  now(): Promise<number>;
}

export interface WorkflowDefinition<I, O, S> {
  /** Stored in every run. */
  readonly name: string;
  /** To be raised when the order or the names of its steps change: runs of the old version wait for old workers. */
  readonly version?: number;
  run(flow: Flow<S>, input: I): Promise<O>;
}

export type RunState = "waiting" | "running" | "done" | "failed" | "cancelled";

/** A run as it is listed. Times are milliseconds since the epoch. */
export interface RunView {
  readonly id: string;
  readonly workflow: string;
  readonly title: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly parent?: string;
  /** The topmost ancestor; its own id for a run without a parent. */
  readonly root: string;
  readonly queue: string;
  readonly state: RunState;
  readonly createdAt: number;
  readonly startedAt?: number;
  readonly endedAt?: number;
  /** The process that works on it. */
  readonly executor?: string;
  readonly error?: ErrorReport;
}

export type AttemptState = "running" | "done" | "failed" | "abandoned";

/** One try at a step. `abandoned`: a crash, a cancel or a lost lease ended it without a result. */
export interface AttemptView {
  readonly attempt: number;
  readonly state: AttemptState;
  readonly startedAt: number;
  readonly endedAt?: number;
  readonly executor: string;
  readonly error?: ErrorReport;
  readonly progress?: Json;
}

export interface StepView {
  readonly run: string;
  readonly key: string;
  readonly name: string;
  /** Of the last attempt. */
  readonly state: AttemptState;
  readonly startedAt: number;
  readonly endedAt?: number;
  readonly error?: ErrorReport;
  readonly progress?: Json;
  readonly attempts: readonly AttemptView[];
}

export interface LogLine {
  readonly at: number;
  readonly level: "debug" | "info" | "warn" | "error";
  readonly message: string;
  readonly fields?: { readonly [key: string]: Json };
  readonly run: string;
  /** Absent for lines of the workflow itself. */
  readonly step?: string;
  readonly attempt?: number;
}

export interface LogPage {
  readonly lines: readonly LogLine[];
  /** To be given as `after` to read on. */
  readonly next: string;
}

export type RunEvent =
  | { readonly kind: "run"; readonly run: RunView }
  | { readonly kind: "step"; readonly step: StepView }
  | { readonly kind: "log"; readonly line: LogLine };

export interface ListQuery {
  readonly labels?: Readonly<Record<string, string>>;
  readonly state?: RunState | readonly RunState[];
  readonly workflow?: string;
  /** Only runs that no other run started. */
  readonly rootsOnly?: boolean;
  /** ≤ 1000; 50 when absent. */
  readonly limit?: number;
  /** Id of the last run of the page before. */
  readonly before?: string;
}

/** A run that waits for its children must not share a bounded queue with them: they would wait for each other. */
export interface QueueOptions {
  readonly name: string;
  /** Runs of this queue that one executor works on at once. */
  readonly perWorker?: number;
  /** Runs of this queue that all executors together work on at once. */
  readonly global?: number;
  /** How often it is looked at; when absent 250 ms by a service and 100 ms by a command. */
  readonly pollMs?: number;
}

export interface CrashPoint {
  readonly at: "begin" | "done" | "kept";
  readonly run: string;
  readonly step: string;
}

export interface EngineOptions<S> {
  readonly database: Database;
  /**
   * `service` works until it is closed. `command` only enqueues and follows while a live service of the same version is
   * on the database; else, and as soon as there is none, it works itself.
   */
  readonly role: "service" | "command";
  readonly services: S;
  readonly queues: readonly QueueOptions[];
  /** Names of the queues this process works on; all when absent. */
  readonly listenQueues?: readonly string[];
  readonly log: Log;
  /** How long the others wait for a silent executor; 24 s when absent. Half of it without renewal and it stops itself. */
  readonly leaseMs?: number;
  /** Removes secrets from every text that is stored: logs, errors, progress. */
  readonly mask?: (text: string) => string;
  /** Unique per process; made up when absent. */
  readonly executorId?: string;
  /**
   * Test only: called at each step's boundaries, so that a test can kill the process there. `begin`: nothing is done ·
   * `done`: the body has returned, nothing is recorded · `kept`: the result is recorded.
   */
  readonly crashPoint?: (point: CrashPoint) => void;
  /** Test only: waits between attempts are multiplied by this. */
  readonly hurry?: number;
}

export interface Engine<S> {
  readonly executorId: string;
  /** Before `launch`. */
  register(workflows: readonly WorkflowDefinition<never, unknown, S>[]): void;
  /** Takes the lease, starts working (or following), takes over the runs of executors that are gone. */
  launch(): Promise<void>;
  /** True while this process carries out runs itself; false for a command that follows a service. */
  readonly working: boolean;
  /** Repeatable: a run that is there already is returned, whatever its state. */
  start<I, O>(workflow: WorkflowDefinition<I, O, S>, input: I, options: StartOptions): Promise<RunHandle<O>>;
  /** @throws SlipwayError `not-found` */
  status(runId: string): Promise<RunView>;
  /**
   * Waits for the end.
   * @throws SlipwayError the run's error, `cancelled`, `not-found`
   */
  result(runId: string, options?: { readonly signal?: AbortSignal }): Promise<unknown>;
  /** Newest first. */
  list(query?: ListQuery): Promise<RunView[]>;
  /** Steps in the order they were first started; with `tree`, of the run's descendants as well. */
  steps(runId: string, options?: { readonly tree?: boolean }): Promise<StepView[]>;
  logs(runId: string, options?: { readonly after?: string; readonly tree?: boolean }): Promise<LogPage>;
  /**
   * Tells everything that happens to a run and its descendants, beginning with what is there; ends when the run has
   * ended and all was told, or on the signal. Log lines only when asked for.
   */
  watch(
    runId: string,
    onEvent: (event: RunEvent) => void,
    options?: { readonly logs?: boolean; readonly signal?: AbortSignal },
  ): Promise<void>;
  /** Cancels a run and its descendants; harmless when it has ended. */
  cancel(runId: string): Promise<void>;
  /** Goes on with a cancelled run (and its cancelled descendants) after its last finished step; harmless when it runs. */
  resume(runId: string): Promise<void>;
  /** Forgets runs that ended before the time given, with their steps and logs. Returns how many. */
  forget(endedBefore: number): Promise<number>;
  /** Stops accepting, waits up to `drainMs` (0 when absent) for what runs, then hands the rest over and leaves. */
  close(options?: { readonly drainMs?: number }): Promise<void>;
}
