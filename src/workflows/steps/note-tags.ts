import { type CatalogedContainer, containerId } from "../../catalog/catalog.ts";
import { noteTagMove, type TagMove } from "../../catalog/offers.ts";
import { defineStep } from "../../durable/index.ts";
import { minutes } from "../../lib/units.ts";
import { cloudRetry } from "../policies.ts";
import type { Ctx } from "../services.ts";

export type NotedContainer = Pick<CatalogedContainer, "composeId" | "system" | "target" | "repository"> & {
  /** Digest or tag that names this version: what a floating tag points at when it was moved already. */
  readonly version: string | undefined;
};

/**
 * Writes down where floating tags point before they are moved, so that a rollback can put them back. A tag that was
 * moved to this version already, by an attempt that was interrupted, keeps what is on record. Safe to repeat.
 */
export const noteTagsStep = defineStep({
  name: "note-tags",
  retry: cloudRetry,
  timeoutMs: minutes(5),
  async run(
    ctx: Ctx,
    input: { containers: readonly NotedContainer[]; tags: readonly string[] },
  ): Promise<{ noted: number }> {
    const moves: TagMove[] = [];
    for (const { version, ...container } of input.containers) {
      const registry = await ctx.services.targets.registry(container.target, ctx);
      const own = version === undefined ? undefined : await registry.find(container.repository, version, ctx);
      for (const tag of input.tags) {
        const now = await registry.find(container.repository, tag, ctx);
        if (now !== undefined && now.digest === own?.digest) continue;
        moves.push({ containerId: containerId(container), tag, previous: now?.digest });
      }
    }
    await ctx.services.db.transaction().execute(async (tx) => {
      for (const move of moves) await noteTagMove(tx, move);
    });
    return { noted: moves.length };
  },
});
