import type { RunView } from "../durable/types.ts";
import { type Alarm, alarmKey } from "./alarm.ts";
import { forPeople, plain } from "./text.ts";
import { RELEASE_WORKFLOW, type Runs, unlessMissing, type World } from "./watch.ts";

/** More releases than a week has. */
const MOST_RUNS = 1000;

/** What a run that has ended came to, by its id: it never changes, and is asked for once. */
export type RunResults = Map<string, string>;

/**
 * `run-failed`: of each compose and system, the newest release that has ended, failed or left something undone, within
 * the time given (milliseconds). It is over when a later one has done everything; after that time it is history.
 */
export async function watchRuns({ runs, now }: World, within: number, results: RunResults): Promise<Alarm[]> {
  const listed = await runs.list({ workflow: RELEASE_WORKFLOW, rootsOnly: true, limit: MOST_RUNS });
  const alarms: Alarm[] = [];
  const seen = new Set<string>();
  for (const run of listed) {
    const { compose = run.id, system = "" } = run.labels;
    const about = `${compose} ${system}`;
    if (seen.has(about) || run.state === "waiting" || run.state === "running") continue;
    seen.add(about);
    const endedAt = run.endedAt ?? run.createdAt;
    if (now.getTime() - endedAt >= within || run.state === "cancelled") continue;
    const result = run.state === "failed" ? "failed" : await resultOf(runs, run, results);
    if (result !== "failed" && result !== "partial") continue;
    const why = run.error === undefined ? "" : `: ${plain(run.error.message, 250)}`;
    const ended = forPeople(now.getTime() - endedAt);
    alarms.push({
      ...{ key: alarmKey("run-failed", compose, system), kind: "run-failed" },
      severity: result === "failed" ? "error" : "warning",
      subject: run.id,
      message:
        result === "failed"
          ? `The release of ${compose} to ${system} failed ${ended === "less than a minute" ? "just now" : `${ended} ago`}${why || "."}`
          : `The release of ${compose} to ${system} is out in part: some targets or regions lack it.`,
      next: `Why: slipway runs why ${run.id}. Then do what is left: slipway runs retry ${run.id}`,
      expiresAt: new Date(endedAt + within),
    });
  }
  const known = new Set(listed.map(({ id }) => id));
  for (const id of results.keys()) if (!known.has(id)) results.delete(id);
  return alarms;
}

async function resultOf(runs: Runs, run: RunView, results: RunResults): Promise<string> {
  const known = results.get(run.id);
  if (known !== undefined) return known;
  const outcome = (await runs.result(run.id).catch(unlessMissing)) as { readonly result?: unknown } | null | undefined;
  const result = String(outcome?.result ?? "done");
  results.set(run.id, result);
  return result;
}
