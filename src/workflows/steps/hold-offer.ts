import { defineStep } from "../../durable/index.ts";
import { minutes } from "../../lib/units.ts";
import type { Choice } from "../chosen.ts";
import { windowAt } from "../freeze.ts";
import type { ReleaseFacts } from "../groups.ts";
import { databaseRetry } from "../policies.ts";
import type { Ctx } from "../services.ts";

export interface Frozen {
  /** Milliseconds since 1970. */
  readonly until: number;
  readonly reason: string;
}

/** Asked right before the offer: a window may have begun since the release did. */
export const lookAtFreezeStep = defineStep({
  name: "look-at-freeze",
  retry: databaseRetry,
  timeoutMs: minutes(1),
  async run(ctx: Ctx, { system }: Pick<ReleaseFacts, "system">): Promise<Frozen | null> {
    const window = windowAt(ctx.services.automation.freeze, ctx.services.now(), system);
    if (window === undefined) return null;
    const { until, reason } = window;
    ctx.log.info("not offered: a freeze window", { reason, until: new Date(until).toISOString() });
    return { until, reason };
  },
});

/** Writes down what is to be offered when the window ends. Safe to repeat. */
export const holdOfferStep = defineStep({
  name: "hold-offer",
  retry: databaseRetry,
  timeoutMs: minutes(1),
  async run(
    ctx: Ctx,
    held: Frozen & Pick<ReleaseFacts, "composeId" | "system"> & { readonly group: string; readonly choice: Choice },
  ): Promise<null> {
    const { composeId, system, group, choice, reason, until } = held;
    const change = { choice: JSON.stringify(choice), reason, until_at: new Date(until), offered_by: null };
    await ctx.services.db
      .insertInto("held_offers")
      .values({ compose_id: composeId, system, group_id: group, ...change })
      .onConflict((conflict) => conflict.columns(["compose_id", "system", "group_id"]).doUpdateSet(change))
      .execute();
    return null;
  },
});
