import { listContainers } from "../../catalog/catalog.ts";
import { defineStep } from "../../durable/index.ts";
import { minutes } from "../../lib/units.ts";
import { cloudRetry } from "../policies.ts";
import type { Ctx } from "../services.ts";

/**
 * Registries that already hold this repository as this compose left it: the catalog says which digest and tags, and the
 * registry is asked whether it is so. For those nothing is downloaded.
 */
export const surveyContainerStep = defineStep({
  name: "survey-container",
  retry: cloudRetry,
  timeoutMs: minutes(5),
  async run(
    ctx: Ctx,
    input: {
      composeId: string;
      system: string;
      repository: string;
      targets: readonly string[];
      arches: readonly string[];
      tags: readonly string[];
    },
  ): Promise<{ there: { target: string; digest: string }[] }> {
    const { composeId, system, repository, targets, arches, tags } = input;
    const known = await listContainers(ctx.services.db, { composeId, system });
    const there: { target: string; digest: string }[] = [];
    for (const target of targets) {
      const record = known.find((found) => found.target === target && found.repository === repository);
      if (record === undefined) continue;
      // A candidate whose floating tags are wanted now.
      if (record.state === "candidate" && tags.some((tag) => record.floating.includes(tag))) continue;
      if (!arches.every((arch) => record.architectures.includes(arch))) continue;
      const registry = await ctx.services.targets.registry(target, ctx);
      const found = await Promise.all(tags.map((tag) => registry.find(repository, tag, ctx)));
      // A floating tag that has moved on belongs to a newer compose: it is not taken back.
      const version = found[0] ?? (await registry.find(repository, record.digest, ctx));
      if (version?.digest === record.digest) there.push({ target, digest: record.digest });
    }
    return { there };
  },
});
