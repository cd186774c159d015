import { AsyncLocalStorage } from "node:async_hooks";
import { SlipwayError } from "../lib/errors.ts";
import { getCurrentContextStore, isUnwinding, runWithParentContext } from "./dbos.ts";
import { toSlipwayError } from "./errors.ts";
import type { Outcome } from "./types.ts";

// DBOS numbers the calls of a workflow in the order they are made, and finds them again by number. Branches that run
// side by side would draw from one counter in an order that depends on timing. So every branch gets a range of numbers
// of its own, cut from the line it started on: a replay finds each branch's calls at the same place, whatever came
// first. A column of 31 bits holds the numbers.
const HIGHEST = 2 ** 31 - 1;
// A settle takes at most this part of what is left on its line: hundreds of settles in a row, several levels deep.
const PART = 16;
const FEWEST_PER_BRANCH = 64;

/** A sequence of calls, one after the other. */
interface Line {
  readonly end: number;
  busy: boolean;
}

const lines = new AsyncLocalStorage<Line>();

/** Runs a workflow's body on a line of its own. */
export function onMainLine<T>(body: () => Promise<T>): Promise<T> {
  return lines.run({ end: HIGHEST, busy: false }, body);
}

/** Every call through a flow passes here. Calls at the same time on one line would be numbered by chance. */
export async function oneAtATime<T>(call: () => Promise<T>): Promise<T> {
  const line = lines.getStore();
  if (line === undefined) throw new SlipwayError("invalid", "a flow acts inside of its workflow's body only");
  if (line.busy) {
    throw new SlipwayError("invalid", "two calls of a workflow at the same time", {
      next: "run them as branches of flow.settle, and await every call",
    });
  }
  if ((getCurrentContextStore()?.curWFFunctionId ?? 0) >= line.end - 8) {
    throw new SlipwayError("invalid", "this run has too many steps", { next: "split it into child runs" });
  }
  line.busy = true;
  try {
    return await call();
  } finally {
    line.busy = false;
  }
}

/** Runs branches side by side, each on a line of its own, and waits for all. */
export async function settleBranches<T>(branches: readonly (() => Promise<T>)[]): Promise<Outcome<T>[]> {
  if (branches.length === 0) return [];
  return oneAtATime(async () => {
    const line = lines.getStore();
    const context = getCurrentContextStore();
    if (line === undefined || context === undefined) throw new SlipwayError("invalid", "settle outside of a workflow");
    const first = context.curWFFunctionId ?? 0;
    const size = Math.floor((line.end - first) / PART / branches.length);
    if (size < FEWEST_PER_BRANCH) {
      throw new SlipwayError("invalid", "too many branches within branches", { next: "split them into child runs" });
    }
    context.curWFFunctionId = first + size * branches.length;
    const ended = await Promise.allSettled(
      branches.map((branch, index) => {
        const start = first + size * index;
        return runWithParentContext(context, { curWFFunctionId: start }, () =>
          lines.run({ end: start + size, busy: false }, branch),
        );
      }),
    );
    const outcomes: Outcome<T>[] = [];
    for (const end of ended) {
      if (end.status === "fulfilled") outcomes.push({ ok: true, value: end.value });
      else if (isUnwinding(end.reason)) throw end.reason;
      else outcomes.push({ ok: false, error: toSlipwayError(end.reason) });
    }
    return outcomes;
  });
}
