import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { type Database, databaseError, isDisconnected, type Listener } from "../database/index.ts";
import { hasEnded, readRun, readRuns, readSteps, readTree } from "./history.ts";
import { readLogs } from "./log-store.ts";
import { CHANGES } from "./migrations.ts";
import type { RunEvent, RunView } from "./types.ts";

// Notifications can be missed; nobody waits longer than this for what they would have said.
const LOOK_MS = 1000;
// Many notifications in a row are one look.
const REST_MS = 50;
// A database that restarts is back within this; a person who waits is told when it is not.
const DOWN_MS = 60_000;

/** Wakes whoever waits for a run, by its root. One LISTEN for all of a process. */
export class Changes {
  readonly #database: Database;
  readonly #waiting = new Set<{ root: string; wake: () => void }>();
  readonly #listeners = new Set<(root: string) => void>();
  #listening: Promise<Listener> | undefined;

  constructor(database: Database) {
    this.#database = database;
  }

  onChange(listener: (root: string) => void): void {
    this.#listeners.add(listener);
  }

  async open(): Promise<void> {
    this.#listening ??= this.#database.listen(CHANGES, (root) => {
      for (const waiter of this.#waiting) if (root === "" || waiter.root === root) waiter.wake();
      for (const listener of this.#listeners) listener(root);
    });
    await this.#listening;
  }

  /** Calls `look` now and after every change, until it returns a value. */
  async until<T>(root: string, signal: AbortSignal | undefined, look: () => Promise<T | undefined>): Promise<T> {
    await this.open();
    let changed = false;
    let answered = performance.now();
    let ring = () => {};
    const waiter = {
      root,
      wake: () => {
        changed = true;
        ring();
      },
    };
    this.#waiting.add(waiter);
    try {
      for (;;) {
        signal?.throwIfAborted();
        changed = false;
        try {
          const found = await look();
          if (found !== undefined) return found;
          answered = performance.now();
        } catch (error) {
          if (!isDisconnected(error) || performance.now() - answered > DOWN_MS) throw databaseError(error);
        }
        await sleep(REST_MS, undefined, signal ? { signal } : {});
        if (changed) continue;
        const rest = new AbortController();
        ring = () => rest.abort();
        const ends = signal ? AbortSignal.any([signal, rest.signal]) : rest.signal;
        await sleep(LOOK_MS, undefined, { signal: ends }).catch(() => {});
      }
    } finally {
      this.#waiting.delete(waiter);
    }
  }

  async close(): Promise<void> {
    const listening = await this.#listening?.catch(() => undefined);
    await listening?.close();
  }
}

export interface WatchOptions {
  readonly logs?: boolean;
  readonly signal?: AbortSignal;
}

/** Tells a run and its descendants as they change, until the run has ended and all was told. */
export async function watchRun(
  pool: pg.Pool,
  changes: Changes,
  run: RunView,
  onEvent: (event: RunEvent) => void,
  { logs = false, signal }: WatchOptions,
): Promise<void> {
  const told = new Map<string, string>();
  let after = "0";

  function tell(id: string, event: RunEvent): void {
    const text = JSON.stringify(event);
    if (told.get(id) === text) return;
    told.set(id, text);
    onEvent(event);
  }

  const telling = changes.until(run.root, signal, async () => {
    // Read before the rest: what happened before the end is told before the end.
    const ended = hasEnded(await readRun(pool, run.id));
    const tree = await readTree(pool, run.id);
    const runs = await readRuns(pool, tree);
    for (const view of runs) if (!(ended && view.id === run.id)) tell(`run ${view.id}`, { kind: "run", run: view });
    for (const step of await readSteps(pool, tree)) tell(`step ${step.run} ${step.key}`, { kind: "step", step });
    if (logs) {
      for (;;) {
        const page = await readLogs(pool, tree, after);
        for (const line of page.lines) onEvent({ kind: "log", line });
        if (page.next === after) break;
        after = page.next;
      }
    }
    if (!ended) return undefined;
    const last = runs.find((view) => view.id === run.id);
    if (last) tell(`run ${run.id}`, { kind: "run", run: last });
    return true;
  });
  await telling.catch((error: unknown) => {
    if (!signal?.aborted) throw error;
  });
}
