import type { Dispatched } from "../bus/dispatch/read.ts";
import type { Engine, RunState } from "../durable/index.ts";
import type { Services } from "./services.ts";

export interface Handled extends Dispatched {
  /** Of the run that was started: people ask how it went, not that it began. Absent where there is none (any more). */
  readonly run?: RunState;
}

export async function withRunStates(engine: Engine<Services>, dispatched: readonly Dispatched[]): Promise<Handled[]> {
  return Promise.all(
    dispatched.map(async (one) => {
      if (one.runId === undefined) return one;
      const run = await engine.status(one.runId).catch(() => undefined);
      return run === undefined ? one : { ...one, run: run.state };
    }),
  );
}
