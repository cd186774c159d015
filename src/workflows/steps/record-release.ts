import { enqueueMessages } from "../../bus/outbox.ts";
import { recordImage, recordMissing, recordVersion } from "../../catalog/catalog.ts";
import { recordSpec } from "../../catalog/offers.ts";
import type { PlannedImage } from "../../compose/index.ts";
import { defineStep } from "../../durable/index.ts";
import { minutes } from "../../lib/units.ts";
import { announcement, withVolume } from "../announcements.ts";
import type { Prepared, ReleaseFacts } from "../groups.ts";
import { placementOf, versionOf } from "../placements.ts";
import { databaseRetry } from "../policies.ts";
import type { Ctx } from "../services.ts";

export interface RecordReleaseInput {
  readonly facts: ReleaseFacts;
  readonly released: readonly {
    readonly item: PlannedImage;
    readonly prepared: Prepared;
    readonly state: "active" | "candidate";
  }[];
}

/**
 * Writes what is true now into the catalog, together with the messages that will say so, in one transaction.
 * Rows and messages have derived ids: repeating it after a crash changes nothing.
 */
export const recordReleaseStep = defineStep({
  name: "record-release",
  retry: databaseRetry,
  timeoutMs: minutes(2),
  async run(ctx: Ctx, input: RecordReleaseInput): Promise<{ messages: number }> {
    const { facts, released } = input;
    const sentAt = ctx.services.now();
    const messages = released.flatMap(({ item, prepared, state }) =>
      announcement(facts, withVolume(item, prepared.spec), prepared, state, sentAt, ctx.services.messages),
    );
    await ctx.services.db.transaction().execute(async (tx) => {
      for (const { item, prepared, state } of released) {
        const place = placementOf(facts, { item, spec: prepared.spec });
        await recordVersion(tx, versionOf(facts, item), ctx.run.id);
        await recordSpec(tx, place.versionId, item.target, prepared.spec);
        // What somebody has offered meanwhile is not a candidate again because this run would have made it one.
        for (const image of prepared.images) {
          await recordImage(tx, place, { ...image, state: image.state === "active" ? "active" : state });
        }
        for (const { region, error } of prepared.missing) {
          await recordMissing(tx, place, region, error, { leftBehind: true });
        }
      }
      await enqueueMessages(tx, messages, ctx.run.id);
    });
    ctx.log.info("recorded", { targets: released.length, messages: messages.length });
    return { messages: messages.length };
  },
});
