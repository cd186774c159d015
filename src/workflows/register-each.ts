import type { StagedOutcome } from "../clouds/cloud.ts";
import type { Flow } from "../durable/index.ts";
import { reportOf } from "../lib/errors.ts";
import type { CloudImage, ErrorLike } from "../model.ts";
import type { Journey, ReleaseFacts } from "./groups.ts";
import type { Services } from "./services.ts";
import { readBackStep } from "./steps/read-back.ts";
import { recordMissingStep } from "./steps/record-missing.ts";
import { registerImageStep } from "./steps/register-image.ts";
import type { Replicated } from "./steps/replicate-image.ts";

/**
 * Makes the candidates of all regions that were written from the source, each read back before. A region's failure is an
 * outcome, recorded as missing; what is there already is `there`, the home region's image first.
 */
export async function registerEach(
  flow: Flow<Services>,
  facts: ReleaseFacts,
  journey: Journey,
  there: readonly CloudImage[],
  others: readonly StagedOutcome[],
): Promise<Replicated> {
  const { item, spec } = journey;
  const { target } = item;
  const images = new Map(there.map((image) => [image.region, image]));
  const outcomes = await flow.settle(
    others.map((outcome) => async () => {
      if ("error" in outcome) return outcome;
      const { region, staged } = outcome;
      const { homeRegion } = spec;
      const sent = { target, staged, homeRegion, artifactSha256: item.artifact.sha256 };
      await flow.step(readBackStep, sent, { key: `read back ${target} ${region}` });
      return flow.step(registerImageStep, { facts, journey, staged }, { key: `register ${target} ${region}` });
    }),
  );
  const missing: { region: string; error: ErrorLike }[] = [];
  outcomes.forEach((outcome, position) => {
    const { region } = others[position]!;
    if (!outcome.ok) missing.push({ region, error: reportOf(outcome.error) });
    else if ("error" in outcome.value) missing.push({ region, error: outcome.value.error });
    else images.set(region, outcome.value);
  });
  if (missing.length > 0) await flow.step(recordMissingStep, { facts, journey, missing }, { key: `missing ${target}` });
  const order = (region: string) => spec.regions.indexOf(region);
  return { images: [...images.values()].sort((a, b) => order(a.region) - order(b.region)), missing };
}
