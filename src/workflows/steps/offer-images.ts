import { defineStep } from "../../durable/index.ts";
import { reportOf } from "../../lib/errors.ts";
import { minutes } from "../../lib/units.ts";
import type { ErrorLike } from "../../model.ts";
import type { Prepared } from "../groups.ts";
import { cloudRetry } from "../policies.ts";
import type { Ctx } from "../services.ts";

export interface Offered {
  /** Milliseconds since the epoch: the window in which some were offered and others were not. */
  readonly from: number;
  readonly to: number;
  /** Targets that could not offer, with the reason. Everything else of the group is offered. */
  readonly failed: readonly { readonly target: string; readonly error: ErrorLike }[];
}

/**
 * Lets the audience in: all targets of a group in one batch. Safe to repeat; the last attempt reports what failed
 * instead of throwing, so that the story can take back what succeeded.
 */
export const offerImagesStep = defineStep({
  name: "offer-images",
  retry: cloudRetry,
  timeoutMs: minutes(30),
  async run(ctx: Ctx, input: { prepared: readonly Prepared[] }): Promise<Offered> {
    const { services } = ctx;
    await ctx.lease.assert();
    const from = services.now().getTime();
    const failed: { target: string; error: ErrorLike }[] = [];
    await Promise.all(
      input.prepared.map(async ({ target, images, spec }) => {
        try {
          const cloud = await services.targets.cloud(target, ctx);
          const { audience } = services.targets.facts(target);
          if (audience.to !== "nobody") await cloud.offer(images, spec, audience, ctx);
        } catch (error) {
          ctx.signal.throwIfAborted();
          ctx.log.warn("offer failed", { target, error: reportOf(error) });
          if (!ctx.last) throw error;
          failed.push({ target, error: reportOf(error) });
        }
      }),
    );
    return { from, to: services.now().getTime(), failed };
  },
});

/** The inverse: what was offered of a group becomes a candidate again because another part of it failed. */
export const withdrawImagesStep = defineStep({
  name: "withdraw-images",
  retry: cloudRetry,
  timeoutMs: minutes(30),
  async run(ctx: Ctx, input: { prepared: readonly Prepared[] }): Promise<null> {
    await ctx.lease.assert();
    for (const { target, images, spec } of input.prepared) {
      const cloud = await ctx.services.targets.cloud(target, ctx);
      await cloud.withdraw(images, spec, ctx);
      ctx.log.warn("withdrawn", { target, name: spec.name });
    }
    return null;
  },
});
