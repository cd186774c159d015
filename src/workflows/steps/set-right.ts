import { defineStep } from "../../durable/index.ts";
import type { Digest } from "../../images/container.ts";
import { isTransient, reportOf } from "../../lib/errors.ts";
import { minutes } from "../../lib/units.ts";
import type { CloudImage, ErrorLike } from "../../model.ts";
import type { ChosenContainer } from "../chosen.ts";
import { cloudRetry } from "../policies.ts";
import type { Ctx } from "../services.ts";
import type { LookedAt } from "./look-at-images.ts";

export interface NotSetRight {
  /** A region, or a tag. */
  readonly place: string;
  readonly error: ErrorLike;
}

/** Gives images the tags they were made with, again. One region's failure is an outcome. Safe to repeat. */
export const retagImagesStep = defineStep({
  name: "retag-images",
  retry: cloudRetry,
  timeoutMs: minutes(15),
  run: (ctx: Ctx, input: { image: LookedAt; images: readonly CloudImage[] }): Promise<NotSetRight[]> =>
    each(
      ctx,
      input.images,
      ({ region }) => region,
      async (image) => {
        const cloud = await ctx.services.targets.cloud(input.image.target, ctx);
        await cloud.retag?.(image, input.image.spec, ctx);
      },
    ),
});

/** Points tags of a container at its index again. Safe to repeat. */
export const retagContainerStep = defineStep({
  name: "retag-container",
  retry: cloudRetry,
  timeoutMs: minutes(15),
  run: (ctx: Ctx, input: { container: ChosenContainer; tags: readonly string[] }): Promise<NotSetRight[]> =>
    each(
      ctx,
      input.tags,
      (tag) => tag,
      async (tag) => {
        const { target, repository, digest } = input.container;
        const registry = await ctx.services.targets.registry(target, ctx);
        await registry.tag(repository, digest as Digest, tag, ctx);
      },
    ),
});

/** What fails and may recover is tried again while attempts are left. */
async function each<T>(
  ctx: Ctx,
  items: readonly T[],
  placeOf: (item: T) => string,
  work: (item: T) => Promise<void>,
): Promise<NotSetRight[]> {
  const failures: unknown[] = [];
  const failed: NotSetRight[] = [];
  await ctx.lease.assert();
  for (const item of items) {
    try {
      await work(item);
    } catch (error) {
      ctx.signal.throwIfAborted();
      failures.push(error);
      failed.push({ place: placeOf(item), error: reportOf(error) });
    }
  }
  const hopeful = failures.find(isTransient);
  if (hopeful !== undefined && !ctx.last) throw hopeful;
  return failed;
}
