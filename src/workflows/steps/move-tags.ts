import { listContainers } from "../../catalog/catalog.ts";
import { tagMovesOf } from "../../catalog/offers.ts";
import { defineStep } from "../../durable/index.ts";
import type { Digest } from "../../images/container.ts";
import { isTransient, reportOf } from "../../lib/errors.ts";
import { minutes } from "../../lib/units.ts";
import type { ErrorLike } from "../../model.ts";
import type { ChosenContainer } from "../chosen.ts";
import { cloudRetry } from "../policies.ts";
import type { Ctx } from "../services.ts";

/** What became of a container's floating tags. */
export interface TagOutcome {
  readonly id: string;
  /** Floating tag → digest it points at now; null: it is gone. Only those that were touched or found done. */
  readonly tags: Readonly<Record<string, string | null>>;
  /** Tags that somebody has moved to another version since: left alone. */
  readonly moved: readonly string[];
  readonly error?: ErrorLike;
}

/**
 * Points the floating tags at the indexes that are offered. Where they pointed before was noted. One registry's failure
 * is an outcome; it is repeated while it may recover. Safe to repeat.
 */
export const moveTagsStep = defineStep({
  name: "move-tags",
  retry: cloudRetry,
  timeoutMs: minutes(15),
  async run(ctx: Ctx, input: { containers: readonly ChosenContainer[] }): Promise<TagOutcome[]> {
    await ctx.lease.assert();
    return each(ctx, input.containers, async (container, tags) => {
      const registry = await ctx.services.targets.registry(container.target, ctx);
      for (const tag of container.floating) {
        await registry.tag(container.repository, container.digest as Digest, tag, ctx);
        tags[tag] = container.digest;
      }
      return [];
    });
  },
});

/**
 * Puts floating tags back to what they were before these indexes took them. A tag that points elsewhere by now belongs
 * to a later release and stays. A tag that was not there before is taken away, where the registry can. Safe to repeat.
 */
export const putTagsBackStep = defineStep({
  name: "put-tags-back",
  retry: cloudRetry,
  timeoutMs: minutes(15),
  async run(ctx: Ctx, input: { containers: readonly ChosenContainer[] }): Promise<TagOutcome[]> {
    const moves = await tagMovesOf(
      ctx.services.db,
      input.containers.map((container) => container.id),
    );
    await ctx.lease.assert();
    return each(ctx, input.containers, async (container, tags) => {
      const registry = await ctx.services.targets.registry(container.target, ctx);
      const later: string[] = [];
      let failure: unknown;
      for (const { tag, ...move } of moves.filter((one) => one.containerId === container.id)) {
        const previous = await lastOffered(ctx.services.db, container, tag, move.previous);
        const now = await registry.find(container.repository, tag, ctx);
        if (now !== undefined && now.digest !== container.digest) {
          if (now.digest === previous) tags[tag] = previous;
          else later.push(tag);
          continue;
        }
        if (now === undefined && previous === undefined) {
          tags[tag] = null;
          continue;
        }
        try {
          if (previous === undefined) await registry.untag(container.repository, tag, ctx);
          else await registry.tag(container.repository, previous as Digest, tag, ctx);
          tags[tag] = previous ?? null;
        } catch (error) {
          ctx.signal.throwIfAborted();
          failure ??= error;
        }
      }
      if (failure !== undefined) throw failure;
      return later;
    });
  },
});

/** Where a tag was before may have been rolled back meanwhile: then it is where that one had it from. */
async function lastOffered(
  db: Ctx["services"]["db"],
  { id, target, repository }: ChosenContainer,
  tag: string,
  previous: string | undefined,
): Promise<string | undefined> {
  const known = (await listContainers(db, { search: repository, limit: 10_000 })).filter(
    (one) => one.id !== id && one.target === target && one.repository === repository,
  );
  let digest = previous;
  for (const seen = new Set<string>(); digest !== undefined && !seen.has(digest); ) {
    seen.add(digest);
    const owner = known.find((one) => one.digest === digest);
    if (owner === undefined || owner.state === "active") return digest;
    const before = (await tagMovesOf(db, [owner.id])).find((move) => move.tag === tag);
    if (before === undefined) return digest;
    digest = before.previous;
  }
  return digest;
}

async function each(
  ctx: Ctx,
  containers: readonly ChosenContainer[],
  work: (container: ChosenContainer, tags: Record<string, string | null>) => Promise<string[]>,
): Promise<TagOutcome[]> {
  const failures: unknown[] = [];
  const outcomes: TagOutcome[] = [];
  for (const container of containers) {
    const tags: Record<string, string | null> = {};
    try {
      outcomes.push({ id: container.id, tags, moved: await work(container, tags) });
    } catch (error) {
      ctx.signal.throwIfAborted();
      ctx.log.warn("tags could not be moved", { target: container.target, repository: container.repository, error });
      failures.push(error);
      outcomes.push({ id: container.id, tags, moved: [], error: reportOf(error) });
    }
  }
  const again = failures.find(isTransient);
  if (again !== undefined && !ctx.last) throw again;
  return outcomes;
}
