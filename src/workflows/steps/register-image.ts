import { recordImage, recordVersion } from "../../catalog/catalog.ts";
import { recordSpec } from "../../catalog/offers.ts";
import { defineStep } from "../../durable/index.ts";
import { minutes } from "../../lib/units.ts";
import type { CloudImage, StagedDisk } from "../../model.ts";
import type { Journey, ReleaseFacts } from "../groups.ts";
import { placementOf, versionOf } from "../placements.ts";
import { cloudRetry } from "../policies.ts";
import type { Ctx } from "../services.ts";

/** Makes the candidate in the home region and records it. Nothing is offered. */
export const registerImageStep = defineStep({
  name: "register-image",
  retry: cloudRetry,
  timeoutMs: minutes(90),
  async run(ctx: Ctx, input: { facts: ReleaseFacts; journey: Journey; staged: StagedDisk }): Promise<CloudImage> {
    const { services } = ctx;
    const { facts, journey, staged } = input;
    const cloud = await services.targets.cloud(journey.item.target, ctx);
    await ctx.lease.assert();
    const spec = { ...journey.spec, diskBytes: staged.diskBytes };
    const image = await cloud.register(staged, spec, ctx);
    await services.db.transaction().execute(async (tx) => {
      await recordVersion(tx, versionOf(facts, journey.item), ctx.run.id);
      await recordImage(tx, placementOf(facts, journey), image);
      await recordSpec(tx, placementOf(facts, journey).versionId, journey.item.target, spec);
    });
    ctx.log.info("registered", { target: journey.item.target, region: image.region, id: image.id });
    return image;
  },
});
