import { useEffect, useState } from "react";
import type { LogLine, Run, Step } from "./api.ts";

export interface LiveRun {
  runs: ReadonlyMap<string, Run>;
  steps: ReadonlyMap<string, Step>;
  lines: readonly LogLine[];
  connected: boolean;
}

/** A browser with a hundred thousand lines is of no use; the whole log is `slipway runs logs`. */
const MAX_LINES = 5000;
/** Events come in bursts: the page is drawn ten times a second at most. */
const DRAW_MS = 100;

const NOTHING: LiveRun = { runs: new Map(), steps: new Map(), lines: [], connected: false };

/** Everything that happens to a run, from its beginning. Reconnects by itself; each connection tells all anew. */
export function useRunEvents(id: string): LiveRun {
  const [live, setLive] = useState<LiveRun>(NOTHING);
  useEffect(() => {
    const runs = new Map<string, Run>();
    const steps = new Map<string, Step>();
    let lines: LogLine[] = [];
    let connected = false;
    let timer: number | undefined;
    const draw = () => {
      timer ??= window.setTimeout(() => {
        timer = undefined;
        setLive({ runs: new Map(runs), steps: new Map(steps), lines: lines.slice(-MAX_LINES), connected });
      }, DRAW_MS);
    };
    const source = new EventSource(`/api/runs/${encodeURIComponent(id)}/events`);
    const on = <T>(kind: string, take: (event: T) => void) =>
      source.addEventListener(kind, (event) => {
        take(JSON.parse((event as MessageEvent<string>).data) as T);
        draw();
      });
    source.onopen = () => {
      connected = true;
      lines = [];
      draw();
    };
    source.onerror = () => {
      connected = false;
      draw();
    };
    on<{ run: Run }>("run", ({ run }) => runs.set(run.id, run));
    on<{ step: Step }>("step", ({ step }) => steps.set(`${step.run} ${step.key}`, step));
    on<{ line: LogLine }>("log", ({ line }) => lines.push(line));
    on("end", () => source.close());
    return () => {
      source.close();
      window.clearTimeout(timer);
    };
  }, [id]);
  return live;
}
