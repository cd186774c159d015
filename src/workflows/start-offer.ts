/** How a promotion or a rollback begins: once for one choice, whoever asks first, from whichever process. */
import { createHash } from "node:crypto";
import type { Engine, RunHandle, WorkflowDefinition } from "../durable/index.ts";
import type { Choice } from "./chosen.ts";
import type { OfferOutcome } from "./offer-outcome.ts";
import { promoteImages } from "./promote-images.ts";
import { rollBackRelease } from "./roll-back-release.ts";
import type { Services } from "./services.ts";
import type { RetractedState } from "./steps/retract-images.ts";

export type OfferRequest =
  | { readonly verb: "promote"; readonly choice: Choice; readonly allowMissing: boolean }
  | { readonly verb: "rollback"; readonly choice: Choice; readonly to: RetractedState };

export interface StartedOffer {
  readonly runId: string;
  readonly how: "started" | "joined";
  readonly handle: RunHandle<OfferOutcome>;
}

/**
 * A run of the same choice that is under way is joined; else a new one looks what is to be done, which may be nothing.
 * @param title what people named
 */
export async function startOffer(
  engine: Engine<Services>,
  request: OfferRequest,
  title: string,
): Promise<StartedOffer> {
  const { verb, choice } = request;
  const labels = { [verb]: createHash("sha256").update(JSON.stringify(choice)).digest("hex").slice(0, 16) };
  const earlier = await engine.list({ labels, rootsOnly: true, limit: 1000 });
  const running = earlier.find(({ state }) => state === "waiting" || state === "running");
  const generation = 1 + Math.max(0, ...earlier.map(({ id }) => Number(id.slice(id.lastIndexOf(".") + 1)) || 0));
  const runId = running?.id ?? `${verb}.${labels[verb]}.${generation}`;
  const options = { runId, queue: "offers", title: `${verb} ${title}`, labels };
  const start = <I>(workflow: WorkflowDefinition<I, OfferOutcome, Services>, input: I) =>
    engine.start(workflow, input, options);
  const handle =
    request.verb === "promote"
      ? await start(promoteImages, { ...choice, allowMissing: request.allowMissing })
      : await start(rollBackRelease, { ...choice, to: request.to });
  return { runId, how: running === undefined ? "started" : "joined", handle };
}
