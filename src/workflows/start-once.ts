/** How a run about a choice begins: once, whoever asks first and from whichever process; a later one gets a number. */
import { createHash } from "node:crypto";
import type { Engine, RunHandle, WorkflowDefinition } from "../durable/index.ts";
import type { Services } from "./services.ts";

export interface StartedOnce<O> {
  readonly runId: string;
  readonly how: "started" | "joined";
  readonly handle: RunHandle<O>;
}

/**
 * Joins the run of the same verb about the same thing that is under way; else starts the next one. Two that ask in the
 * same moment come to the same number, and so to one run.
 */
export async function startOnce<I, O>(
  engine: Engine<Services>,
  workflow: WorkflowDefinition<I, O, Services>,
  input: I,
  about: {
    readonly verb: string;
    /** What makes two runs the same: plain JSON. */
    readonly thing: unknown;
    readonly title: string;
  },
): Promise<StartedOnce<O>> {
  const { verb, thing, title } = about;
  const hash = createHash("sha256").update(JSON.stringify(thing)).digest("hex").slice(0, 16);
  const labels = { [verb]: hash };
  const earlier = await engine.list({ labels, rootsOnly: true, limit: 1000 });
  const running = earlier.find(({ state }) => state === "waiting" || state === "running");
  const generation = 1 + Math.max(0, ...earlier.map(({ id }) => Number(id.slice(id.lastIndexOf(".") + 1)) || 0));
  const runId = running?.id ?? `${verb}.${hash}.${generation}`;
  const handle = await engine.start(workflow, input, { runId, queue: "offers", title, labels });
  return { runId, how: running === undefined ? "started" : "joined", handle };
}
