import type { RunView } from "../../durable/types.ts";
import { SlipwayError } from "../../lib/errors.ts";
import type { Runs } from "../watch.ts";

/** Runs as an engine would list them: newest first, by the fields a watch asks for. */
export interface FakeRuns extends Runs {
  add(run: Partial<RunView> & { readonly id: string }, result?: unknown): void;
  clear(): void;
  /** Ids whose result was asked for, in order. */
  readonly asked: string[];
}

export function fakeRuns(): FakeRuns {
  let runs: RunView[] = [];
  const results = new Map<string, unknown>();
  const asked: string[] = [];
  return {
    asked,
    add(run, result) {
      const usual = { workflow: "release-compose", title: run.id, labels: {}, root: run.id, queue: "releases" };
      runs.unshift({ ...usual, state: "done", createdAt: 0, ...run });
      results.set(run.id, result);
    },
    clear() {
      runs = [];
      asked.length = 0;
    },
    async list({ labels = {}, state, workflow, rootsOnly = false, limit = 50 } = {}) {
      const states = state === undefined ? undefined : [state].flat();
      return runs
        .filter((run) => workflow === undefined || run.workflow === workflow)
        .filter((run) => states === undefined || states.includes(run.state))
        .filter((run) => !rootsOnly || run.parent === undefined)
        .filter((run) => Object.entries(labels).every(([name, value]) => run.labels[name] === value))
        .slice(0, limit);
    },
    async status(id) {
      const run = runs.find((one) => one.id === id);
      if (run === undefined) throw new SlipwayError("not-found", "there is no such run");
      return run;
    },
    async result(id) {
      asked.push(id);
      return results.get(id);
    },
  };
}
