import { forgetTransfer } from "../../catalog/transfers.ts";
import { defineStep } from "../../durable/index.ts";
import { minutes } from "../../lib/units.ts";
import type { ImageSpec, StagedDisk } from "../../model.ts";
import { cloudRetry } from "../policies.ts";
import type { Ctx } from "../services.ts";

/** Deletes what was only needed on the way: the page blob, the journal of the upload. */
export const tidyStagedStep = defineStep({
  name: "tidy-staged",
  retry: cloudRetry,
  timeoutMs: minutes(15),
  async run(ctx: Ctx, input: { target: string; spec: ImageSpec; staged: StagedDisk }): Promise<null> {
    const cloud = await ctx.services.targets.cloud(input.target, ctx);
    await ctx.lease.assert();
    await cloud.tidy(input.staged, input.spec, ctx);
    await forgetTransfer(ctx.services.db, `${input.target}/${input.staged.key}`);
    return null;
  },
});
