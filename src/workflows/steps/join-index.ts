import { defineStep } from "../../durable/index.ts";
import { minutes } from "../../lib/units.ts";
import type { IndexEntry } from "../../registries/registry.ts";
import { cloudRetry } from "../policies.ts";
import type { Ctx } from "../services.ts";

/**
 * Writes the multi-architecture index under tags, the full version first. With only the version's own tag it is a
 * candidate; with the floating ones it is what users get. Safe to repeat.
 */
export const joinIndexStep = defineStep({
  name: "join-index",
  retry: cloudRetry,
  timeoutMs: minutes(10),
  async run(
    ctx: Ctx,
    input: {
      target: string;
      repository: string;
      entries: readonly IndexEntry[];
      tags: readonly string[];
      keepOthers: boolean;
    },
  ): Promise<{ digest: string; changed: boolean }> {
    const { target, repository, entries, tags, keepOthers } = input;
    const registry = await ctx.services.targets.registry(target, ctx);
    await ctx.lease.assert();
    const joined = await registry.joinIndex(repository, entries, tags, { keepOthers }, ctx);
    ctx.log.info("index written", { target, repository, tags: tags.join(" "), digest: joined.digest });
    return { digest: joined.digest, changed: joined.changed };
  },
});
