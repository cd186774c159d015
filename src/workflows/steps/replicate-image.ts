import { recordImage, recordMissing } from "../../catalog/catalog.ts";
import { defineStep } from "../../durable/index.ts";
import { errorFrom, isTransient } from "../../lib/errors.ts";
import { hours } from "../../lib/units.ts";
import type { CloudImage, ErrorLike } from "../../model.ts";
import type { Journey, ReleaseFacts } from "../groups.ts";
import { placementOf } from "../placements.ts";
import { cloudRetry } from "../policies.ts";
import type { Ctx } from "../services.ts";

export interface Replicated {
  readonly images: readonly CloudImage[];
  readonly missing: readonly { readonly region: string; readonly error: ErrorLike }[];
}

/**
 * Brings an image to its other regions, each recorded as it lands: what a crash leaves behind is known.
 * A region's failure is an outcome; the step is repeated while such a region may recover, and asks only for those.
 * Progress: `{doneRegions, totalRegions}`.
 */
export const replicateImageStep = defineStep({
  name: "replicate-image",
  retry: cloudRetry,
  timeoutMs: hours(4),
  async run(ctx: Ctx, input: { facts: ReleaseFacts; journey: Journey; image: CloudImage }): Promise<Replicated> {
    const { services } = ctx;
    const { facts, journey, image } = input;
    const { spec, item } = journey;
    const cloud = await services.targets.cloud(item.target, ctx);
    const place = placementOf(facts, journey);
    const images: CloudImage[] = [];
    const missing: { region: string; error: ErrorLike }[] = [];
    const total = spec.regions.length;
    await ctx.lease.assert();
    for await (const outcome of cloud.replicate(image, spec, spec.regions, ctx)) {
      if ("image" in outcome) {
        images.push(outcome.image);
        await recordImage(services.db, place, outcome.image);
      } else {
        missing.push({ region: outcome.region, error: outcome.error });
        await recordMissing(services.db, place, outcome.region, outcome.error);
        ctx.log.warn("replica failed", { target: item.target, region: outcome.region, error: outcome.error });
      }
      ctx.progress({ doneRegions: images.length, totalRegions: total });
    }
    ctx.signal.throwIfAborted();
    const hopeful = missing.find(({ error }) => isTransient(errorFrom(error)));
    if (hopeful !== undefined && !ctx.last) {
      throw errorFrom({ ...hopeful.error, message: `${hopeful.region}: ${hopeful.error.message}` });
    }
    const order = (region: string) => spec.regions.indexOf(region);
    images.sort((a, b) => order(a.region) - order(b.region));
    missing.sort((a, b) => order(a.region) - order(b.region));
    return { images, missing };
  },
});
