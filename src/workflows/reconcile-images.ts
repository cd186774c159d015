/**
 * Compares the catalog with the clouds and repairs what is ours to repair: regions that lack an image get it, what is on
 * record as offered is offered, tags are what they were, states that the clouds hold are written down. The rest is reported, and left to people.
 */
import { defineWorkflow, type Flow } from "../durable/index.ts";
import { reportOf } from "../lib/errors.ts";
import type { ErrorLike, Region } from "../model.ts";
import { attest } from "./attest.ts";
import type { Choice, ChosenContainer } from "./chosen.ts";
import type { Drift } from "./drift.ts";
import { notify } from "./notify.ts";
import type { Services } from "./services.ts";
import { compareImagesStep, concerns, concernsContainer } from "./steps/compare-images.ts";
import { healImageStep, recordHealedStep } from "./steps/heal-image.ts";
import type { LookedAt } from "./steps/look-at-images.ts";
import { retagContainerStep, retagImagesStep } from "./steps/set-right.ts";

export interface ReconcileInput {
  readonly choice: Choice;
  /** Look for what is on no record too. */
  readonly strays: boolean;
}

export interface ReconcileOutcome {
  /** `nothing`: the clouds hold what the catalog says. `partial`: some of it is as it was. */
  readonly result: "done" | "partial" | "failed" | "nothing";
  readonly repaired: readonly Drift[];
  /** What was not repaired, with the reason where one is known. */
  readonly left: readonly Drift[];
}

export const reconcileImages = defineWorkflow({
  name: "reconcile-images",
  version: 3,
  async run(flow: Flow<Services>, { choice, strays }: ReconcileInput): Promise<ReconcileOutcome> {
    const { drift, looked, containers } = await flow.step(compareImagesStep, { choice, strays }, { key: "compare" });
    const outcomes = await flow.settle([
      ...looked.map((image) => () => heal(flow, image, drift)),
      ...containers.map((container) => () => healContainer(flow, container, drift)),
    ]);
    // Images that came or went are another statement; what was not signed now is made up for by the next one.
    const versions = [...new Set(looked.map(({ place }) => place.versionId))].sort();
    if (versions.length > 0) await attest(flow, { versions, containers: [] });
    const repaired: Drift[] = [];
    const left: Drift[] = [];
    for (const one of drift) {
      const image = looked.findIndex((candidate) => concerns(one, candidate));
      const container = containers.findIndex((candidate) => concernsContainer(one, candidate));
      const position = image >= 0 || container < 0 ? image : looked.length + container;
      const outcome = outcomes[position];
      const failure = outcome === undefined || outcome.ok ? outcome?.value.get(one.region) : reportOf(outcome.error);
      if (!one.repairable) left.push(one);
      else if (failure !== undefined) left.push({ ...one, error: failure });
      else repaired.push(one);
    }
    if (drift.length === 0) return { result: "nothing", repaired, left };
    const result = left.length === 0 ? "done" : repaired.length === 0 ? "failed" : "partial";
    return { result, repaired, left };
  },
});

/** @returns what failed, by region */
async function heal(
  flow: Flow<Services>,
  image: LookedAt,
  drift: readonly Drift[],
): Promise<ReadonlyMap<Region, ErrorLike>> {
  const todo = drift.filter((one) => one.repairable && concerns(one, image));
  if (todo.length === 0) return new Map();
  const regionsOf = (...kinds: Drift["kind"][]) =>
    todo.filter((one) => kinds.includes(one.kind)).map((one) => one.region);
  const make = regionsOf("missing", "not-made");
  // A replica is what its siblings are: offered where the version is.
  const isOut = Object.values(image.known).includes("active");
  const offer = [...regionsOf("not-public", "shut-out"), ...(isOut ? make : [])];
  const adopt = image.images.filter((one) => regionsOf("state").includes(one.region));
  const id = `${image.place.versionId} ${image.target}`;
  const healed =
    make.length + offer.length === 0
      ? { images: [], failed: [] }
      : await flow.step(healImageStep, { image, make, offer }, { key: `heal ${id}` });
  if (make.length + offer.length + adopt.length > 0) {
    await flow.step(recordHealedStep, { image, healed, adopt }, { key: `record ${id}` });
    // That an audience has grown is no news to those who had it.
    const news = [...make, ...regionsOf("not-public")];
    const offered = healed.images.filter(({ state, region }) => state === "active" && news.includes(region));
    await notify(flow, "offered", [{ target: image.target, spec: image.spec, images: offered }]);
  }
  const retagged = image.images.filter((one) => regionsOf("wrong-tags").includes(one.region));
  const wrong =
    retagged.length === 0 ? [] : await flow.step(retagImagesStep, { image, images: retagged }, { key: `retag ${id}` });
  return new Map([
    ...healed.failed.map(({ region, error }) => [region, error] as const),
    ...wrong.map(({ place, error }) => [place, error] as const),
  ]);
}

/** @returns what failed, by tag */
async function healContainer(
  flow: Flow<Services>,
  container: ChosenContainer,
  drift: readonly Drift[],
): Promise<ReadonlyMap<string, ErrorLike>> {
  const tags = drift.filter((one) => one.repairable && concernsContainer(one, container)).map((one) => one.region);
  if (tags.length === 0) return new Map();
  const failed = await flow.step(retagContainerStep, { container, tags }, { key: `retag ${container.id}` });
  return new Map(failed.map(({ place, error }) => [place, error]));
}
