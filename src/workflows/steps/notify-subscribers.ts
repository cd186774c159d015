import type { Notice } from "../../clouds/cloud.ts";
import { defineStep } from "../../durable/index.ts";
import { minutes } from "../../lib/units.ts";
import { cloudRetry } from "../policies.ts";
import type { Ctx } from "../services.ts";

/**
 * Tells a cloud's own subscribers what has changed, where a target has a place to tell it. A repeat after a crash or a lost
 * answer may tell it twice, never not at all.
 */
export const notifySubscribersStep = defineStep({
  name: "notify-subscribers",
  retry: cloudRetry,
  timeoutMs: minutes(10),
  async run(ctx: Ctx, { target, notice }: { target: string; notice: Notice }): Promise<{ sent: boolean }> {
    const cloud = await ctx.services.targets.cloud(target, ctx);
    if (cloud.notify === undefined) return { sent: false };
    await cloud.notify(notice, ctx);
    return { sent: true };
  },
});
