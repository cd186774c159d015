import { defineStep } from "../../durable/index.ts";
import { isTransient, reportOf } from "../../lib/errors.ts";
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
  /** Targets whose audience is nobody: their images stay candidates. */
  readonly toNobody: readonly string[];
}

/**
 * Lets the audience in: all targets of a group in one batch. Safe to repeat; a failure that no other attempt can cure is
 * reported instead of thrown, so that the story can take back what succeeded.
 */
export const offerImagesStep = defineStep({
  name: "offer-images",
  retry: cloudRetry,
  timeoutMs: minutes(30),
  async run(ctx: Ctx, input: { prepared: readonly Prepared[] }): Promise<Offered> {
    const { services } = ctx;
    await ctx.lease.assert();
    const from = services.now().getTime();
    const failures: { target: string; error: unknown }[] = [];
    const toNobody: string[] = [];
    await Promise.all(
      input.prepared.map(async ({ target, images, spec }) => {
        try {
          const { audience } = services.targets.facts(target);
          if (audience.to === "nobody") return void toNobody.push(target);
          const cloud = await services.targets.cloud(target, ctx);
          await cloud.offer(images, spec, audience, ctx);
        } catch (error) {
          ctx.signal.throwIfAborted();
          ctx.log.warn("offer failed", { target, error: reportOf(error) });
          failures.push({ target, error });
        }
      }),
    );
    const [first] = failures;
    if (first !== undefined && !ctx.last && failures.every(({ error }) => isTransient(error))) throw first.error;
    const failed = failures.map(({ target, error }) => ({ target, error: reportOf(error) }));
    return { from, to: services.now().getTime(), failed, toNobody };
  },
});

/** Targets that may still let the audience in, with the reason. */
export type Left = readonly { readonly target: string; readonly error: ErrorLike }[];

/**
 * The inverse: what this run offered of a group becomes a candidate again because a part of it failed. Images that were
 * public before stay so: users have them. One target's failure leaves the others no less private.
 */
export const withdrawImagesStep = defineStep({
  name: "withdraw-images",
  retry: cloudRetry,
  timeoutMs: minutes(30),
  async run(ctx: Ctx, input: { prepared: readonly Prepared[] }): Promise<Left> {
    await ctx.lease.assert();
    const failures: { target: string; error: unknown }[] = [];
    for (const { target, images, spec } of input.prepared) {
      const ours = images.filter((image) => image.state !== "active");
      if (ours.length === 0) continue;
      try {
        const cloud = await ctx.services.targets.cloud(target, ctx);
        await cloud.withdraw(ours, spec, ctx);
        ctx.log.warn("withdrawn", { target, name: spec.name });
      } catch (error) {
        ctx.signal.throwIfAborted();
        ctx.log.error("could not withdraw", { target, name: spec.name, error: reportOf(error) });
        failures.push({ target, error });
      }
    }
    const again = failures.find(({ error }) => isTransient(error));
    if (again !== undefined && !ctx.last) throw again.error;
    return failures.map(({ target, error }) => ({ target, error: reportOf(error) }));
  },
});
