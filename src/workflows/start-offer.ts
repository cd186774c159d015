/** How a promotion or a rollback begins: once for one choice, whoever asks first, from whichever process. */
import type { Engine } from "../durable/index.ts";
import type { Choice } from "./chosen.ts";
import type { OfferOutcome } from "./offer-outcome.ts";
import { promoteImages } from "./promote-images.ts";
import { rollBackRelease } from "./roll-back-release.ts";
import type { Services } from "./services.ts";
import { type StartedOnce, startOnce } from "./start-once.ts";
import type { RetractedState } from "./steps/retract-images.ts";

export type OfferRequest =
  | { readonly verb: "promote"; readonly choice: Choice; readonly allowMissing: boolean }
  | { readonly verb: "rollback"; readonly choice: Choice; readonly to: RetractedState };

export type StartedOffer = StartedOnce<OfferOutcome>;

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
  const about = { verb, thing: choice, title: `${verb} ${title}` };
  return request.verb === "promote"
    ? startOnce(engine, promoteImages, { ...choice, allowMissing: request.allowMissing }, about)
    : startOnce(engine, rollBackRelease, { ...choice, to: request.to }, about);
}
