import { recordMissing } from "../../catalog/catalog.ts";
import { defineStep } from "../../durable/index.ts";
import { minutes } from "../../lib/units.ts";
import type { ErrorLike } from "../../model.ts";
import type { Journey, ReleaseFacts } from "../groups.ts";
import { placementOf } from "../placements.ts";
import { databaseRetry } from "../policies.ts";
import type { Ctx } from "../services.ts";

export interface RecordMissingInput {
  readonly facts: ReleaseFacts;
  readonly journey: Journey;
  readonly missing: readonly { readonly region: string; readonly error: ErrorLike }[];
}

/** Writes down which regions have no image, and why. Safe to repeat. */
export const recordMissingStep = defineStep({
  name: "record-missing",
  retry: databaseRetry,
  timeoutMs: minutes(2),
  async run(ctx: Ctx, { facts, journey, missing }: RecordMissingInput): Promise<null> {
    const place = placementOf(facts, journey);
    for (const { region, error } of missing) {
      await recordMissing(ctx.services.db, place, region, error);
      ctx.log.warn("region failed", { target: journey.item.target, region, error });
    }
    return null;
  },
});
