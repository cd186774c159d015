import { defineStep } from "../../durable/index.ts";
import { isTransient, reportOf } from "../../lib/errors.ts";
import { minutes } from "../../lib/units.ts";
import type { CloudImage, ErrorLike, ImageSpec, LifecycleState, Region } from "../../model.ts";
import { cloudRetry } from "../policies.ts";
import type { Ctx } from "../services.ts";

/** What a rollback makes of an image: private again, or still there and marked as outdated. */
export type RetractedState = Extract<LifecycleState, "candidate" | "deprecated">;

export interface Retracted {
  readonly done: readonly Region[];
  readonly failed: readonly { readonly region: Region; readonly error: ErrorLike }[];
}

/**
 * Makes one image version in one target private again, or deprecated, in every region that answers. A region that fails
 * is an outcome and holds up no other; it is repeated while it may recover. Safe to repeat.
 */
export const retractImagesStep = defineStep({
  name: "retract-images",
  retry: cloudRetry,
  timeoutMs: minutes(30),
  async run(
    ctx: Ctx,
    input: { target: string; spec: ImageSpec; images: readonly CloudImage[]; to: RetractedState },
  ): Promise<Retracted> {
    const { target, spec, to } = input;
    const cloud = await ctx.services.targets.cloud(target, ctx);
    await ctx.lease.assert();
    const done: Region[] = [];
    const failures: { region: Region; error: unknown }[] = [];
    await Promise.all(
      batchesOf(input.images, cloud.can.regionalCopies).map(async (images) => {
        try {
          if (to === "candidate") await cloud.withdraw(images, spec, ctx);
          else await cloud.setState(images[0]!, to, ctx);
          done.push(...images.map((image) => image.region));
        } catch (error) {
          ctx.signal.throwIfAborted();
          failures.push(...images.map(({ region }) => ({ region, error })));
        }
      }),
    );
    const again = failures.find(({ error }) => isTransient(error));
    if (again !== undefined && !ctx.last) throw again.error;
    ctx.log.warn("retracted", { target, name: spec.name, to, regions: done.length, failed: failures.length });
    const order = (region: Region) => input.images.findIndex((image) => image.region === region);
    return {
      done: done.sort((a, b) => order(a) - order(b)),
      failed: failures
        .map(({ region, error }) => ({ region, error: reportOf(error) }))
        .sort((a, b) => order(a.region) - order(b.region)),
    };
  },
});

/** A region each where regions have images of their own; else all at once, because all are one resource. */
function batchesOf(images: readonly CloudImage[], regional: boolean): (readonly CloudImage[])[] {
  if (regional) return images.map((image) => [image]);
  return images.length === 0 ? [] : [images];
}
