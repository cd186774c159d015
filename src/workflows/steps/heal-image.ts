import { enqueueMessages } from "../../bus/outbox.ts";
import { recordImage, recordMissing } from "../../catalog/catalog.ts";
import { defineStep } from "../../durable/index.ts";
import { errorFrom, isTransient, reportOf } from "../../lib/errors.ts";
import { hours, minutes } from "../../lib/units.ts";
import type { CloudImage, ErrorLike, Region } from "../../model.ts";
import { announcement, withVolume } from "../announcements.ts";
import { cloudRetry, databaseRetry } from "../policies.ts";
import type { Ctx } from "../services.ts";
import type { LookedAt } from "./look-at-images.ts";

/** One that is offered may lack a part of its audience: offering it again lets that in. */
const MAY_BE_OFFERED: ReadonlySet<CloudImage["state"]> = new Set(["candidate", "active"]);

export interface Healed {
  readonly images: readonly CloudImage[];
  readonly failed: readonly { readonly region: Region; readonly error: ErrorLike }[];
}

/**
 * Brings an image to regions that lack it, and offers it where its siblings are offered. A region's failure is an
 * outcome, repeated while it may recover. Safe to repeat.
 */
export const healImageStep = defineStep({
  name: "heal-image",
  retry: cloudRetry,
  timeoutMs: hours(4),
  async run(ctx: Ctx, input: { image: LookedAt; make: readonly Region[]; offer: readonly Region[] }): Promise<Healed> {
    const { image, make, offer } = input;
    const { spec, target } = image;
    const cloud = await ctx.services.targets.cloud(target, ctx);
    const home = image.images.find((one) => one.region === spec.homeRegion);
    const healed = image.images.filter((one) => offer.includes(one.region));
    const failures: { region: Region; error: ErrorLike }[] = [];
    await ctx.lease.assert();
    if (make.length > 0 && home !== undefined) {
      for await (const outcome of cloud.replicate(home, spec, make, ctx)) {
        if ("image" in outcome) {
          // Home comes along with what replicate reports; it is not news.
          if (make.includes(outcome.region)) healed.push(outcome.image);
        } else failures.push(outcome);
      }
    }
    ctx.signal.throwIfAborted();
    const { audience } = ctx.services.targets.facts(target);
    const toOffer = healed.filter((one) => offer.includes(one.region) && MAY_BE_OFFERED.has(one.state));
    let offered: ReadonlySet<Region> = new Set();
    if (toOffer.length > 0 && audience.to !== "nobody") {
      try {
        await cloud.offer(toOffer, spec, audience, ctx);
        offered = new Set(toOffer.map((one) => one.region));
      } catch (error) {
        ctx.signal.throwIfAborted();
        failures.push(...toOffer.map(({ region }) => ({ region, error: reportOf(error) })));
      }
    }
    const hopeful = failures.find(({ error }) => isTransient(errorFrom(error)));
    if (hopeful !== undefined && !ctx.last) throw errorFrom(hopeful.error);
    return {
      images: healed
        .filter((one) => !failures.some(({ region }) => region === one.region))
        .map((one) => (offered.has(one.region) ? { ...one, state: "active" as const } : one)),
      failed: failures,
    };
  },
});

/**
 * Writes what was healed, and what the clouds hold differently and may keep, together with the message that has the
 * whole region map, in one transaction. The same map is the same message: nobody is told twice.
 */
export const recordHealedStep = defineStep({
  name: "record-healed",
  retry: databaseRetry,
  timeoutMs: minutes(2),
  async run(
    ctx: Ctx,
    input: { image: LookedAt; healed: Healed; adopt: readonly CloudImage[] },
  ): Promise<{ messages: number }> {
    const { image, healed, adopt } = input;
    const { facts, spec, target, arch, name, subvariant, place } = image;
    const now = [
      ...image.images.filter((one) => !healed.images.some(({ region }) => region === one.region)),
      ...healed.images,
    ];
    const order = (region: Region) => spec.regions.indexOf(region);
    const open = now.filter((one) => one.state === "active").sort((a, b) => order(a.region) - order(b.region));
    const item = {
      cloud: image.cloud as Parameters<typeof announcement>[1]["cloud"],
      ...{ arch, name, artifact: { subvariant } },
      ...(spec.definition === undefined ? {} : { definition: spec.definition }),
      ...(spec.version === undefined ? {} : { version: spec.version }),
      ...(spec.family === undefined ? {} : { family: spec.family }),
    };
    const messages =
      healed.images.some((one) => one.state === "active") && open.length > 0
        ? announcement(
            facts,
            withVolume(item, spec),
            { target, images: open },
            "active",
            ctx.services.now(),
            ctx.services.messages,
          )
        : [];
    await ctx.services.db.transaction().execute(async (tx) => {
      for (const one of [...healed.images, ...adopt]) await recordImage(tx, place, one);
      for (const { region, error } of healed.failed) await recordMissing(tx, place, region, error);
      await enqueueMessages(tx, messages, ctx.run.id);
    });
    ctx.log.info("healed", { target, name, regions: healed.images.length, failed: healed.failed.length });
    return { messages: messages.length };
  },
});
