import { containerOffer, imageOffer, type OfferEvent } from "../../bus/offers.ts";
import { enqueueMessages, type OutgoingMessage } from "../../bus/outbox.ts";
import { recordImage } from "../../catalog/catalog.ts";
import { setContainerState } from "../../catalog/offers.ts";
import { defineStep } from "../../durable/index.ts";
import { minutes } from "../../lib/units.ts";
import type { CloudImage, LifecycleState } from "../../model.ts";
import { announcement, containerAnnouncement, withVolume } from "../announcements.ts";
import type { ChosenContainer, ChosenImage } from "../chosen.ts";
import { databaseRetry } from "../policies.ts";
import type { Ctx } from "../services.ts";

export interface RecordOffersInput {
  readonly event: OfferEvent;
  readonly offerSeconds?: number;
  readonly images: readonly {
    readonly chosen: ChosenImage;
    readonly state: LifecycleState;
    /** Those that are in this state now. */
    readonly changed: readonly CloudImage[];
    /** Those that could not be changed. */
    readonly unchanged: readonly string[];
  }[];
  readonly containers: readonly {
    readonly chosen: ChosenContainer;
    readonly state: "candidate" | "active";
    /** Floating tag → digest it points at now; null: gone. */
    readonly tags: Readonly<Record<string, string | null>>;
  }[];
}

/**
 * Writes what a promotion or a rollback made true, together with the messages that say so, in one transaction. What was
 * never announced because it was a candidate is announced now, in the words its readers know. Safe to repeat.
 */
export const recordOffersStep = defineStep({
  name: "record-offers",
  retry: databaseRetry,
  timeoutMs: minutes(2),
  async run(ctx: Ctx, input: RecordOffersInput): Promise<{ messages: number }> {
    const messages = [...imageMessages(ctx, input), ...containerMessages(ctx, input)];
    await ctx.services.db.transaction().execute(async (tx) => {
      for (const { chosen, changed, state } of input.images) {
        for (const image of changed) await recordImage(tx, chosen.place, { ...image, state });
      }
      for (const { chosen, state } of input.containers) {
        const own = chosen.tags.filter((tag) => !chosen.floating.includes(tag));
        await setContainerState(tx, chosen.id, state, state === "active" ? [...own, ...chosen.floating] : own);
      }
      await enqueueMessages(tx, messages, ctx.run.id);
    });
    ctx.log.info("recorded", { event: input.event, messages: messages.length });
    return { messages: messages.length };
  },
});

function imageMessages(ctx: Ctx, { event, images, offerSeconds }: RecordOffersInput): OutgoingMessage[] {
  const sentAt = ctx.services.now();
  return images.flatMap(({ chosen, state, changed, unchanged }) => {
    // A directory on this host is nobody's news.
    if (chosen.cloud === "local" || changed.length === 0) return [];
    const { facts, spec, arch, target } = chosen;
    const regions = Object.fromEntries(changed.map((image) => [image.region, image.id]));
    const said = imageOffer({
      event,
      ...common(ctx, facts, sentAt),
      cloud: chosen.cloud,
      target,
      subvariant: chosen.subvariant,
      architecture: arch,
      imageName: chosen.name,
      state,
      regions,
      unchanged,
      offerSeconds,
    });
    if (state !== "active") return [said];
    const item = {
      cloud: chosen.cloud as Parameters<typeof announcement>[1]["cloud"],
      arch,
      name: chosen.name,
      artifact: { subvariant: chosen.subvariant },
      ...(spec.definition === undefined ? {} : { definition: spec.definition }),
      ...(spec.version === undefined ? {} : { version: spec.version }),
      ...(spec.family === undefined ? {} : { family: spec.family }),
    };
    const all = chosen.images.map((image) => changed.find((one) => one.region === image.region) ?? image);
    return [
      ...announcement(facts, withVolume(item, spec), { target, images: all }, "active", sentAt, ctx.services.messages),
      said,
    ];
  });
}

function containerMessages(ctx: Ctx, { event, containers }: RecordOffersInput): OutgoingMessage[] {
  const sentAt = ctx.services.now();
  const said = containers.map(({ chosen, state, tags }) => {
    const { target, registry, repository, digest, architectures } = chosen;
    const about = { target, registry, repository, digest, architectures, state, tags };
    return containerOffer({ event, ...common(ctx, chosen.facts, sentAt), ...about });
  });
  if (event !== "promoted") return said;
  // As in a release: one message a repository, whatever the number of registries.
  const repositories = new Map<string, ChosenContainer[]>();
  for (const { chosen } of containers) {
    const id = `${chosen.system} ${chosen.composeId} ${chosen.repository}`;
    repositories.set(id, [...(repositories.get(id) ?? []), chosen]);
  }
  const announced = [...repositories.values()].map((chosen) => {
    const { facts, repository, architectures, tags, floating } = chosen[0]!;
    const registries = chosen.map((one) => ({ address: one.registry, digest: one.digest }));
    const all = [...new Set([...tags, ...floating])];
    return containerAnnouncement(
      facts,
      { repository, architectures, registries, tags: all },
      sentAt,
      ctx.services.messages,
    );
  });
  return [...announced, ...said];
}

function common(ctx: Ctx, facts: ChosenImage["facts"], sentAt: Date) {
  const { composeId, kind, releaseNumber } = facts;
  return { runId: ctx.run.id, composeId, kind, release: releaseNumber, sentAt };
}
