/** Follows a run on a terminal or in a log until it ends, whoever works on it. */
import type { Engine, RunView, StepView } from "../durable/index.ts";
import type { Services } from "../workflows/index.ts";
import { createProgress, type ProgressRow } from "./progress.ts";
import type { Session } from "./session.ts";

/** How often bars are redrawn. Below 100 ms a terminal flickers; above 250 ms it feels stuck. */
const REDRAW_MS = 150;

/**
 * Shows every run below `runId` as a row until the run has ended. Does not judge how it ended; Ctrl-C stops following,
 * and not the run, where a service works on it.
 */
export async function follow(session: Session, engine: Engine<Services>, runId: string): Promise<void> {
  const progress = createProgress(process.stderr, session.output.paint);
  const picture = createPicture();
  const draw = () => progress.update(picture.rows());
  const timer = setInterval(draw, REDRAW_MS);
  try {
    await engine.watch(
      runId,
      (event) => {
        if (event.kind === "run") picture.run(event.run);
        if (event.kind === "step") picture.step(event.step);
      },
      { signal: session.signal },
    );
  } finally {
    clearInterval(timer);
    draw();
    progress.end();
  }
}

interface Amounts {
  doneBytes?: number;
  totalBytes?: number;
  doneRegions?: number;
  totalRegions?: number;
}

/** Events in, rows out. Pure but for the clock that rates are measured with. */
export function createPicture(now: () => number = Date.now) {
  const runs = new Map<string, RunView>();
  const steps = new Map<string, Map<string, StepView>>();
  const rates = new Map<string, { at: number; bytes: number; rate: number }>();

  function rateOf(id: string, bytes: number): number {
    const known = rates.get(id);
    if (known === undefined || bytes < known.bytes) {
      rates.set(id, { at: now(), bytes, rate: 0 });
      return 0;
    }
    const elapsed = now() - known.at;
    if (elapsed < 1000) return known.rate;
    const measured = ((bytes - known.bytes) / elapsed) * 1000;
    const rate = known.rate === 0 ? measured : 0.6 * known.rate + 0.4 * measured;
    rates.set(id, { at: now(), bytes, rate });
    return rate;
  }

  function rowOf(run: RunView): ProgressRow {
    const own = [...(steps.get(run.id)?.values() ?? [])];
    const running = own.filter((step) => step.state === "running");
    const current = running.at(-1);
    const state = {
      waiting: "waiting",
      running: "running",
      done: "done",
      failed: "failed",
      cancelled: "failed",
    } as const;
    const row = { id: run.id, label: run.title, state: state[run.state] };
    if (run.state === "failed" || run.state === "cancelled") return { ...row, note: run.error?.message ?? run.state };
    if (run.state === "done" && run.startedAt !== undefined && run.endedAt !== undefined) {
      return { ...row, note: `${((run.endedAt - run.startedAt) / 1000).toFixed(1)} s` };
    }
    if (current === undefined) return row;
    const amounts = (current.progress ?? {}) as Amounts;
    const attempt = current.attempts.length > 1 ? `, attempt ${current.attempts.length}` : "";
    if (amounts.totalBytes !== undefined && amounts.doneBytes !== undefined) {
      const id = `${run.id} ${current.key}`;
      return {
        ...row,
        note: `${current.name}${attempt}`,
        doneBytes: amounts.doneBytes,
        totalBytes: amounts.totalBytes,
        bytesPerSecond: rateOf(id, amounts.doneBytes),
      };
    }
    const regions =
      amounts.totalRegions === undefined ? "" : ` ${amounts.doneRegions ?? 0} of ${amounts.totalRegions} regions`;
    return { ...row, note: `${current.name}${regions}${attempt}` };
  }

  return {
    run: (run: RunView) => void runs.set(run.id, run),
    step(step: StepView) {
      const known = steps.get(step.run) ?? new Map<string, StepView>();
      known.set(step.key, step);
      steps.set(step.run, known);
    },
    /** Children in the order of their titles; a run without children is its own row. */
    rows(): ProgressRow[] {
      const all = [...runs.values()];
      const children = all.filter((run) => run.parent !== undefined).sort((a, b) => a.title.localeCompare(b.title));
      return (children.length > 0 ? children : all).map(rowOf);
    },
  };
}
