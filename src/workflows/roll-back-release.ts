/**
 * What was offered is taken back: floating tags to where they were, images private again or deprecated, in every cloud
 * and region that answers. One that does not holds up no other; it is said, and a repeat does the rest.
 */
import { defineWorkflow, type Flow } from "../durable/index.ts";
import { reportOf } from "../lib/errors.ts";
import type { ErrorLike } from "../model.ts";
import type { Choice, ChosenContainer } from "./chosen.ts";
import { notify } from "./notify.ts";
import {
  type ContainerOutcome,
  containerOutcome,
  type ImageOutcome,
  imageOutcome,
  type OfferOutcome,
} from "./offer-outcome.ts";
import type { Services } from "./services.ts";
import { type LookedAt, lookAtImagesStep } from "./steps/look-at-images.ts";
import { putTagsBackStep } from "./steps/move-tags.ts";
import { recordOffersStep } from "./steps/record-offers.ts";
import { type RetractedState, retractImagesStep } from "./steps/retract-images.ts";
import { witnessImagesStep } from "./steps/witness-images.ts";

export interface RollBackInput extends Choice {
  readonly to: RetractedState;
}

export const rollBackRelease = defineWorkflow({
  name: "roll-back-release",
  version: 2,
  async run(flow: Flow<Services>, input: RollBackInput): Promise<OfferOutcome> {
    const choice = { images: input.images, containers: input.containers };
    const looked = await flow.step(lookAtImagesStep, choice, { key: "look" });
    const indexes = looked.containers.filter((container) => container.state === "active");
    const containers = await untag(flow, indexes);
    const images = await retract(flow, looked.images, input.to);

    const hidden = looked.images.map(({ target, images: all, absent: _absent }, position) => ({
      target,
      images: all.filter((image) => images[position]!.regions[image.region] !== undefined),
    }));
    const testimony =
      input.to === "candidate"
        ? await flow.step(witnessImagesStep, { images: hidden, wanted: "hidden" }, { key: "witness after" })
        : { asked: 0, wrong: [] };
    const judged = images.map((image) => stillSeen(image, testimony.wrong));

    const recorded = looked.images.map((chosen, position) => {
      const { regions, failed } = judged[position]!;
      // What was in this state before is no news, unless the catalog did not know it.
      const changed = chosen.images
        .filter((image) => regions[image.region] !== undefined && isNews(chosen, image.region, input.to))
        .map((image) => ({ ...image, state: input.to }));
      return { chosen, state: input.to, changed, unchanged: failed.map(({ region }) => region) };
    });
    const untagged = indexes.flatMap((chosen) => {
      const { error, tags } = containers.find(
        (one) => one.target === chosen.target && one.digest === chosen.digest && one.repository === chosen.repository,
      )!;
      return error === undefined ? [{ chosen, state: "candidate" as const, tags }] : [];
    });
    const news = recorded.filter(({ changed }) => changed.length > 0);
    if (news.length + untagged.length > 0) {
      await flow.step(
        recordOffersStep,
        { event: "rolled_back", images: news, containers: untagged },
        { key: "record" },
      );
    }
    await notify(
      flow,
      input.to === "candidate" ? "withdrawn" : "deprecated",
      news.map(({ chosen: { target, spec }, changed }) => ({ target, spec, images: changed })),
    );
    const all = looked.containers.map(
      (one) =>
        containers.find(
          (done) => done.target === one.target && done.repository === one.repository && done.digest === one.digest,
        ) ?? containerOutcome(one, "candidate"),
    );
    return {
      result: resultOf(judged, all, news.length + untagged.length),
      images: judged,
      containers: all,
      witnessed: testimony.asked,
    };
  },
});

function isNews(chosen: LookedAt, region: string, to: RetractedState): boolean {
  return chosen.images.find((image) => image.region === region)?.state !== to || chosen.known[region] !== to;
}

async function untag(flow: Flow<Services>, indexes: readonly ChosenContainer[]): Promise<ContainerOutcome[]> {
  if (indexes.length === 0) return [];
  const [back] = await flow.settle([
    () => flow.step(putTagsBackStep, { containers: indexes }, { key: "put tags back" }),
  ]);
  return indexes.map((container) => {
    if (!back?.ok) return containerOutcome(container, "active", { error: reportOf(back?.error) });
    const { tags, moved, error } = back.value.find((one) => one.id === container.id)!;
    return containerOutcome(container, error === undefined ? "candidate" : "active", {
      tags,
      moved,
      ...(error === undefined ? {} : { error }),
    });
  });
}

async function retract(flow: Flow<Services>, looked: readonly LookedAt[], to: RetractedState): Promise<ImageOutcome[]> {
  const outcomes = await flow.settle(
    looked.map((chosen) => async () => {
      const images = chosen.images.filter((image) => image.state !== to);
      if (images.length === 0) return [];
      const { spec, target, place } = chosen;
      const key = `retract ${place.versionId} ${target}`;
      return (await flow.step(retractImagesStep, { target, spec, images, to }, { key })).failed;
    }),
  );
  return looked.map((chosen, position) => {
    const outcome = outcomes[position]!;
    const failed = outcome.ok
      ? outcome.value
      : chosen.images
          .filter((image) => image.state !== to)
          .map(({ region }) => ({ region, error: reportOf(outcome.error) }));
    // A region that did not answer may still offer it; one that has it no more does not.
    const silent = chosen.absent.flatMap(({ region, error }) => (error === undefined ? [] : [{ region, error }]));
    return imageOutcome(chosen, to, [...failed, ...silent]);
  });
}

function stillSeen(
  image: ImageOutcome,
  wrong: readonly { target: string; region: string; id: string }[],
): ImageOutcome {
  const seen = wrong.filter((one) => one.target === image.target && image.regions[one.region] === one.id);
  if (seen.length === 0) return image;
  const error: ErrorLike = { code: "conflict", message: "it was withdrawn and the witness still sees it" };
  const regions = Object.fromEntries(
    Object.entries(image.regions).filter(([region]) => !seen.some((one) => one.region === region)),
  );
  return { ...image, regions, failed: [...image.failed, ...seen.map(({ region }) => ({ region, error }))] };
}

function resultOf(
  images: readonly ImageOutcome[],
  containers: readonly ContainerOutcome[],
  changes: number,
): OfferOutcome["result"] {
  const failed = images.some((one) => one.failed.length > 0) || containers.some((one) => one.error !== undefined);
  if (!failed) return changes > 0 ? "done" : "nothing";
  const worked =
    images.some((one) => Object.keys(one.regions).length > 0) || containers.some((one) => one.error === undefined);
  return worked ? "partial" : "failed";
}
