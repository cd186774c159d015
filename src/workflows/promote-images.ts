/**
 * A candidate becomes what users get: look whether all of it is there → offer everything in one batch → floating
 * registry tags → let a witness confirm → record and announce. If a part fails everything is taken back.
 */
import { defineWorkflow, type Flow } from "../durable/index.ts";
import { reportOf } from "../lib/errors.ts";
import type { ErrorLike } from "../model.ts";
import type { Choice, ChosenContainer } from "./chosen.ts";
import type { Prepared } from "./groups.ts";
import { notify } from "./notify.ts";
import { containerOutcome, type ImageOutcome, imageOutcome, type OfferOutcome } from "./offer-outcome.ts";
import type { Services } from "./services.ts";
import { type LookedAt, type LookedChosen, lookAtImagesStep } from "./steps/look-at-images.ts";
import { moveTagsStep, putTagsBackStep, type TagOutcome } from "./steps/move-tags.ts";
import { noteTagsStep } from "./steps/note-tags.ts";
import { offerImagesStep, withdrawImagesStep } from "./steps/offer-images.ts";
import { recordOffersStep } from "./steps/record-offers.ts";
import { witnessImagesStep } from "./steps/witness-images.ts";

export interface PromoteInput extends Choice {
  /** Offer what is there although a region that shall have it lacks it. */
  readonly allowMissing: boolean;
}

export const promoteImages = defineWorkflow({
  name: "promote-images",
  version: 2,
  async run(flow: Flow<Services>, input: PromoteInput): Promise<OfferOutcome> {
    const choice = { images: input.images, containers: input.containers };
    const looked = await flow.step(lookAtImagesStep, choice, { key: "look" });
    const refused = whyNotPromoted(looked, input.allowMissing);
    if (refused !== undefined) return unchanged(looked, refused);
    const waiting = looked.images.filter(isWaiting);
    const indexes = looked.containers.filter((container) => container.state === "candidate");
    if (waiting.length + indexes.length === 0) return { ...unchanged(looked), result: "nothing" };

    const batch = waiting.map(preparedOf).filter(({ images }) => images.length > 0);
    const hidden = await flow.step(witnessImagesStep, { images: batch, wanted: "hidden" }, { key: "witness before" });
    if (hidden.wrong.length > 0) return unchanged(looked, seenTooEarly(hidden.wrong[0]!));
    for (const { id, floating, ...container } of indexes) {
      const noted = { ...pick(container), version: container.digest };
      await flow.step(noteTagsStep, { containers: [noted], tags: floating }, { key: `note tags ${id}` });
    }

    const from = await flow.now();
    const offered = await offerBatch(flow, batch, indexes);
    const offerSeconds = ((await flow.now()) - from) / 1000;
    if ("error" in offered) return { ...unchanged(looked, offered.error), result: offered.left ? "partial" : "failed" };

    const stateOf = (target: string) => (offered.toNobody.includes(target) ? "candidate" : "active");
    const released = waiting.filter((image) => stateOf(image.target) === "active");
    await flow.step(
      recordOffersStep,
      {
        event: "promoted",
        offerSeconds,
        images: released.map((chosen) => ({ chosen, state: "active" as const, changed: chosen.images, unchanged: [] })),
        containers: indexes.map((chosen) => ({
          chosen,
          state: "active" as const,
          tags: tagsOf(offered.tags, chosen.id),
        })),
      },
      { key: "record" },
    );
    await notify(
      flow,
      "offered",
      batch.filter(({ target }) => stateOf(target) === "active"),
    );
    const images = looked.images.map((image) => {
      const state = stateOf(image.target);
      return state === "active" ? imageOutcome(image, state, notThere(image)) : toNobody(image);
    });
    return {
      result: images.some(({ failed }) => failed.length > 0) ? "partial" : "done",
      images,
      containers: looked.containers.map((one) =>
        containerOutcome(one, "active", { tags: tagsOf(offered.tags, one.id) }),
      ),
      offerSeconds,
      witnessed: offered.witnessed,
    };
  },
});

/** Why nothing of this may be offered; undefined if it may. Pure. */
export function whyNotPromoted(looked: LookedChosen, allowMissing: boolean): ErrorLike | undefined {
  for (const image of looked.images) {
    const [gone] = image.absent;
    if (gone?.error !== undefined) return { ...gone.error, message: `${image.name}: ${gone.error.message}` };
    if (gone !== undefined) {
      return {
        code: "not-found",
        message: `${image.name} is not in ${gone.region} any more`,
        subject: gone.id,
        next: '"slipway lifecycle drift" compares the catalog with the clouds; "slipway release" makes it again.',
      };
    }
    const ended = image.images.find(({ state }) => state === "obsolete");
    if (ended !== undefined) {
      return { code: "conflict", message: `${image.name} is obsolete in ${ended.region}`, subject: ended.id };
    }
    const [missing] = image.missing;
    if (missing !== undefined && !allowMissing) {
      return {
        code: "unavailable",
        message: `${image.name} is not in ${image.missing.map(({ region }) => region).join(", ")} yet`,
        ...(missing.error?.message === undefined ? {} : { tried: missing.error.message }),
        next: '"slipway runs retry" brings it there; --allow-missing offers what there is.',
      };
    }
  }
  return undefined;
}

/** Not offered, or offered by a run that did not come to write it down. */
function isWaiting(image: LookedAt): boolean {
  return image.images.some(({ state, region }) => state !== "active" || image.known[region] !== "active");
}

function preparedOf(image: LookedAt): Prepared {
  const images = image.images.filter(({ state }) => state !== "active");
  return { target: image.target, spec: image.spec, images, missing: [], sentBytes: 0 };
}

type Offer =
  | { readonly toNobody: readonly string[]; readonly tags: readonly TagOutcome[]; readonly witnessed: number }
  | { readonly error: ErrorLike; readonly left: boolean };

async function offerBatch(
  flow: Flow<Services>,
  batch: readonly Prepared[],
  indexes: readonly ChosenContainer[],
): Promise<Offer> {
  const [offered] = await flow.settle([() => flow.step(offerImagesStep, { prepared: batch }, { key: "offer" })]);
  if (!offered?.ok) return takeBack(flow, batch, [], reportOf(offered?.error));
  const [failure] = offered.value.failed;
  if (failure !== undefined) return takeBack(flow, batch, [], failure.error);
  const { toNobody } = offered.value;

  // Tags last: what they point at is what everybody gets without asking.
  const [moved] = await flow.settle([() => flow.step(moveTagsStep, { containers: indexes }, { key: "move tags" })]);
  if (!moved?.ok) return takeBack(flow, batch, indexes, reportOf(moved?.error));
  const stuck = moved.value.find((one) => one.error !== undefined);
  if (stuck?.error !== undefined) return takeBack(flow, batch, indexes, stuck.error);

  const [seen] = await flow.settle([
    () => flow.step(witnessImagesStep, { images: batch, wanted: "visible" }, { key: "witness after" }),
  ]);
  if (!seen?.ok) return takeBack(flow, batch, indexes, reportOf(seen?.error));
  const [unseen] = seen.value.wrong;
  if (unseen !== undefined) {
    return takeBack(flow, batch, indexes, {
      code: "forbidden",
      message: `${unseen.id} is offered and the witness does not see it in ${unseen.region}`,
      subject: unseen.target,
      next: "Look whether the account's settings block public access there, then promote again.",
    });
  }
  return { toNobody, tags: moved.value, witnessed: seen.value.asked };
}

/** Compensation: tags first, so that nobody gets what is being withdrawn. */
async function takeBack(
  flow: Flow<Services>,
  batch: readonly Prepared[],
  indexes: readonly ChosenContainer[],
  failure: ErrorLike,
): Promise<Offer> {
  const left: string[] = [];
  if (indexes.length > 0) {
    const [tags] = await flow.settle([
      () => flow.step(putTagsBackStep, { containers: indexes }, { key: "put tags back" }),
    ]);
    if (!tags?.ok) left.push(`floating tags (${reportOf(tags?.error).message})`);
    else for (const one of tags.value) if (one.error !== undefined) left.push(one.error.message);
  }
  const [taken] = await flow.settle([() => flow.step(withdrawImagesStep, { prepared: batch }, { key: "withdraw" })]);
  if (!taken?.ok) left.push(`images (${reportOf(taken?.error).message})`);
  else for (const { target, error } of taken.value) left.push(`${target} (${error.message})`);
  if (left.length === 0) return { error: failure, left: false };
  return {
    error: {
      ...failure,
      message: `${failure.message}; what was offered could not be taken back everywhere: ${left.join(", ")}`,
      next: 'Run "slipway images rollback" when it is reachable again, or promote again.',
    },
    left: true,
  };
}

function unchanged(looked: LookedChosen, error?: ErrorLike): OfferOutcome {
  return {
    result: "failed",
    images: looked.images.map((image) =>
      imageOutcome(
        image,
        image.images.every(({ state }) => state === "active") ? "active" : "candidate",
        notThere(image),
      ),
    ),
    containers: looked.containers.map((container) => containerOutcome(container, container.state)),
    witnessed: 0,
    ...(error === undefined ? {} : { error }),
  };
}

function notThere(image: LookedAt): { region: string; error: ErrorLike }[] {
  return image.missing.map(({ region, error }) => ({
    region,
    error: error ?? { code: "not-found", message: "it is not there yet" },
  }));
}

function toNobody(image: LookedAt): ImageOutcome {
  const error: ErrorLike = {
    code: "invalid",
    message: "the target offers its images to nobody",
    subject: `targets.${image.target}.offer`,
    next: "Set `offer: public` or the accounts, then promote again.",
  };
  const failed = image.images.map(({ region }) => ({ region, error }));
  return imageOutcome(image, "candidate", [...failed, ...notThere(image)]);
}

function seenTooEarly({ target, region, id }: { target: string; region: string; id: string }): ErrorLike {
  return {
    code: "conflict",
    message: `${id} is visible to everybody in ${region} before it was offered`,
    subject: target,
    next: "Find out who shared it. Withdraw it by hand, or promote again to make the rest public too.",
  };
}

function tagsOf(outcomes: readonly TagOutcome[], id: string): Readonly<Record<string, string | null>> {
  return outcomes.find((one) => one.id === id)?.tags ?? {};
}

function pick({ composeId, system, target, repository }: Omit<ChosenContainer, "id" | "floating">) {
  return { composeId, system, target, repository };
}
