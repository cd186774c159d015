/**
 * One image version: one artifact and all its targets. Prepare each, wait at the barrier, offer together.
 *
 *   per target: survey → upload → read back → register → replicate        (nothing is offered)
 *   (directly:  survey → upload to each region → read back and register in each)
 *   barrier:    all targets and regions, or a quorum
 *   then:       offer in one batch, take back if part of it fails → record and announce → notify → attest → tidy
 */
import type { PlannedImage } from "../compose/index.ts";
import { defineWorkflow, type Flow } from "../durable/index.ts";
import { reportOf, SlipwayError } from "../lib/errors.ts";
import type { CloudImage, ErrorLike, Region } from "../model.ts";
import { attest } from "./attest.ts";
import { meetsPolicy } from "./barrier.ts";
import type { DiskGroup, GroupOutcome, Journey, Prepared, TargetOutcome } from "./groups.ts";
import { type Changed, notify } from "./notify.ts";
import { versionOf } from "./placements.ts";
import { registerEach } from "./register-each.ts";
import type { Services } from "./services.ts";
import { imageSpec } from "./specs.ts";
import { holdOfferStep, lookAtFreezeStep } from "./steps/hold-offer.ts";
import { nameRegionsStep } from "./steps/name-regions.ts";
import { offerImagesStep, withdrawImagesStep } from "./steps/offer-images.ts";
import { readBackStep } from "./steps/read-back.ts";
import { recordReleaseStep } from "./steps/record-release.ts";
import { registerImageStep } from "./steps/register-image.ts";
import { replicateImageStep } from "./steps/replicate-image.ts";
import { type Survey, surveyImagesStep } from "./steps/survey-images.ts";
import { tidyStagedStep } from "./steps/tidy-staged.ts";
import { type Uploaded, uploadDiskStep } from "./steps/upload-disk.ts";

export const releaseDisk = defineWorkflow({
  name: "release-disk",
  version: 4,
  async run(flow: Flow<Services>, group: DiskGroup): Promise<GroupOutcome> {
    const journeys: Journey[] = [];
    for (const item of group.items) journeys.push({ item, spec: imageSpec(item, await regionsOf(flow, item)) });
    const surveys = await survey(flow, journeys);
    const uploads = await upload(flow, journeys, surveys);
    const outcomes = await flow.settle(
      journeys.map((journey, position) => () => prepare(flow, group, journey, surveys[position]!, uploads)),
    );
    const prepared = outcomes.map((outcome, position): Prepared | ErrorLike => {
      if (!outcome.ok) return reportOf(outcome.error);
      return outcome.value ?? failureOf(surveys[position]!, uploads.get(journeys[position]!.item.target));
    });
    return offer(flow, group, journeys, prepared);
  },
});

async function regionsOf(flow: Flow<Services>, item: PlannedImage): Promise<readonly Region[]> {
  if (!item.allRegions) return item.regions;
  const { target, homeRegion: home } = item;
  return flow.step(nameRegionsStep, { target, home }, { key: `regions ${target}` });
}

type Surveyed = Survey | ErrorLike;

async function survey(flow: Flow<Services>, journeys: readonly Journey[]): Promise<Surveyed[]> {
  const outcomes = await flow.settle(
    journeys.map(
      ({ item, spec }) =>
        () =>
          flow.step(surveyImagesStep, { target: item.target, spec }, { key: `survey ${item.target}` }),
    ),
  );
  return outcomes.map((outcome) => (outcome.ok ? outcome.value : reportOf(outcome.error)));
}

/** Targets of one cloud share the decoder. An image that is registered needs no bytes: nothing is downloaded for it. */
async function upload(
  flow: Flow<Services>,
  journeys: readonly Journey[],
  surveys: readonly Surveyed[],
): Promise<Map<string, Uploaded>> {
  const needy = journeys.filter((journey, position) => lacking(journey, surveys[position]!).length > 0);
  const clouds = [...new Set(needy.map(({ item }) => item.cloud))].sort();
  const outcomes = await flow.settle(
    clouds.map((cloud) => () => {
      const ours = needy.filter(({ item }) => item.cloud === cloud);
      const uploads = ours.map((journey) => ({
        target: journey.item.target,
        spec: journey.spec,
        ...(journey.item.copies ? {} : { direct: lacking(journey, surveys[journeys.indexOf(journey)]!) }),
      }));
      return flow.step(uploadDiskStep, { artifact: ours[0]!.item.artifact, uploads }, { key: `upload ${cloud}` });
    }),
  );
  const uploaded = new Map<string, Uploaded>();
  outcomes.forEach((outcome, position) => {
    for (const { item } of needy.filter((journey) => journey.item.cloud === clouds[position])) {
      const result = outcome.ok
        ? outcome.value.find((found) => found.target === item.target)
        : { target: item.target, error: reportOf(outcome.error) };
      if (result !== undefined) uploaded.set(item.target, result);
    }
  });
  return uploaded;
}

/** Regions that need bytes from the source: the home region; directly, every region without the image. */
function lacking({ item, spec }: Journey, surveyed: Surveyed): readonly Region[] {
  if (isError(surveyed)) return [];
  const wanted = item.copies ? [spec.homeRegion] : spec.regions;
  return wanted.filter((region) => !surveyed.images.some((image) => image.region === region));
}

/** Brings one target to "everything there, nothing offered". Undefined if survey or upload failed. */
async function prepare(
  flow: Flow<Services>,
  { facts }: DiskGroup,
  journey: Journey,
  surveyed: Surveyed,
  uploads: ReadonlyMap<string, Uploaded>,
): Promise<Prepared | undefined> {
  if (isError(surveyed)) return undefined;
  const { target } = journey.item;
  const uploaded = uploads.get(target);
  if (uploaded !== undefined && "error" in uploaded) return undefined;
  let home: CloudImage | undefined = surveyed.images.find((image) => image.region === journey.spec.homeRegion);
  if (uploaded?.staged !== undefined) {
    const { staged } = uploaded;
    const artifactSha256 = journey.item.artifact.sha256;
    await flow.step(readBackStep, { target, staged, artifactSha256 }, { key: `read back ${target}` });
    home = await flow.step(registerImageStep, { facts, journey, staged }, { key: `register ${target}` });
  }
  if (home === undefined) throw new SlipwayError("conflict", "the image went away while it was being released");
  const complete = surveyed.images.length === journey.spec.regions.length && surveyed.silent.length === 0;
  const replicated = complete
    ? { images: surveyed.images, missing: [] }
    : journey.item.copies
      ? await flow.step(replicateImageStep, { facts, journey, image: home }, { key: `replicate ${target}` })
      : await registerEach(flow, facts, journey, [home, ...surveyed.images], uploaded?.others ?? []);
  // An earlier run that could not offer left its staged disk for this one.
  const staged = uploaded?.staged ?? surveyed.staged;
  return {
    target,
    spec: journey.spec,
    images: replicated.images,
    missing: replicated.missing,
    ...(staged === undefined ? {} : { staged }),
    sentBytes: uploaded?.sentBytes ?? 0,
  };
}

async function offer(
  flow: Flow<Services>,
  group: DiskGroup,
  journeys: readonly Journey[],
  prepared: readonly (Prepared | ErrorLike)[],
): Promise<GroupOutcome> {
  const ready = prepared.filter((outcome): outcome is Prepared => !isError(outcome));
  const verdict = meetsPolicy(group.offerWhen, prepared);
  let state: "active" | "candidate" = group.releaseAs;
  let offerSeconds: number | undefined;
  let refused: ErrorLike | undefined = verdict.met ? undefined : verdict.error;
  if (refused !== undefined) state = "candidate";
  const frozen = state === "active" ? await flow.step(lookAtFreezeStep, group.facts, { key: "freeze" }) : null;
  if (frozen !== null) state = "candidate";
  let toNobody: readonly string[] = [];
  let unattested: ErrorLike | undefined;
  if (state === "active") {
    const [offered] = await flow.settle([() => flow.step(offerImagesStep, { prepared: ready }, { key: "offer" })]);
    const failure = offered?.ok ? offered.value.failed[0]?.error : reportOf(offered?.error);
    if (failure !== undefined) {
      state = "candidate";
      // Whoever failed may have let the audience into some regions before it did: all are taken back.
      refused = await takeBack(flow, ready, failure);
    } else if (offered?.ok) {
      toNobody = offered.value.toNobody;
      offerSeconds = (offered.value.to - offered.value.from) / 1000;
    }
  }
  const stateOf = (target: string) => (toNobody.includes(target) ? "candidate" : state);
  if (refused === undefined && ready.length > 0) {
    const released = ready.map((done) => ({
      item: itemOf(journeys, done.target),
      prepared: done,
      state: stateOf(done.target),
    }));
    await flow.step(recordReleaseStep, { facts: group.facts, released }, { key: "record" });
    const offered = released.filter((done) => done.state === "active").map((done) => done.prepared);
    await notify(flow, "offered", offered.map(whatIsNew));
    const versions = [...new Set(released.map(({ item }) => versionOf(group.facts, item).id))];
    if (frozen !== null) {
      const images = released.map(({ item, prepared }) => ({
        versionId: versionOf(group.facts, item).id,
        target: prepared.target,
      }));
      const held = { ...frozen, ...group.facts, group: group.id, choice: { images, containers: [] } };
      await flow.step(holdOfferStep, held, { key: "hold" });
    }
    unattested = await attest(flow, { versions, containers: [] });
    await tidy(flow, ready);
  }
  const targets = journeys.map((journey, position) =>
    outcomeOf(journey, prepared[position]!, stateOf(journey.item.target), refused),
  );
  return {
    id: group.id,
    targets,
    ...(offerSeconds === undefined ? {} : { offerSeconds }),
    ...(frozen === null ? {} : { held: frozen }),
    ...(unattested === undefined ? {} : { unattested }),
  };
}

/** What was public before is no news. */
function whatIsNew({ target, spec, images }: Prepared): Changed {
  return { target, spec, images: images.filter((image) => image.state !== "active") };
}

/** What is left behind costs a little; it takes nothing from what was released. */
async function tidy(flow: Flow<Services>, ready: readonly Prepared[]): Promise<void> {
  const used = ready.flatMap(({ target, spec, staged }) => (staged === undefined ? [] : [{ target, spec, staged }]));
  const outcomes = await flow.settle(
    used.map((input) => () => flow.step(tidyStagedStep, input, { key: `tidy ${input.target}` })),
  );
  outcomes.forEach((outcome, position) => {
    if (outcome.ok) return;
    const { target, staged } = used[position]!;
    flow.log.warn("staged disk is left behind", { target, id: staged.id, error: reportOf(outcome.error) });
  });
}

/** @returns why the group is not offered, and what could not be taken back */
async function takeBack(flow: Flow<Services>, ready: readonly Prepared[], failure: ErrorLike): Promise<ErrorLike> {
  const [taken] = await flow.settle([() => flow.step(withdrawImagesStep, { prepared: ready }, { key: "withdraw" })]);
  const left = taken?.ok ? taken.value : ready.map(({ target }) => ({ target, error: reportOf(taken?.error) }));
  if (left.length === 0) return failure;
  const where = left.map(({ target, error }) => `${target} (${error.message})`).join(", ");
  return {
    ...failure,
    message: `${failure.message}; what was offered could not be taken back and may still be public: ${where}`,
    next: 'Withdraw it by hand, or run "slipway runs retry" to offer the rest.',
  };
}

function outcomeOf(
  { item, spec }: Journey,
  prepared: Prepared | ErrorLike,
  state: "active" | "candidate",
  refused: ErrorLike | undefined,
): TargetOutcome {
  const common = { target: item.target, cloud: item.cloud, arch: item.arch, name: spec.name };
  if (isError(prepared)) {
    return { ...common, state: "failed", regions: {}, missing: [], sentBytes: 0, error: prepared };
  }
  return {
    ...common,
    state: refused === undefined ? state : "failed",
    regions: Object.fromEntries(prepared.images.map((image) => [image.region, image.id])),
    missing: prepared.missing,
    sentBytes: prepared.sentBytes,
    ...(refused === undefined ? {} : { error: refused }),
  };
}

function itemOf(journeys: readonly Journey[], target: string) {
  return journeys.find((journey) => journey.item.target === target)!.item;
}

function failureOf(surveyed: Surveyed, uploaded: Uploaded | undefined): ErrorLike {
  if (isError(surveyed)) return surveyed;
  if (uploaded !== undefined && "error" in uploaded) return uploaded.error;
  return { code: "unknown", message: "the target was not prepared" };
}

function isError(value: object): value is ErrorLike {
  return "code" in value;
}
