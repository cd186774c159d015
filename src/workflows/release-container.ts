/**
 * One container repository and all its architectures: push each by digest, join them in an index under the version's
 * own tag, then move the floating tags (remembering where they were), then record and announce, and sign what was made.
 */
import { containerId } from "../catalog/catalog.ts";
import { defineWorkflow, type Flow } from "../durable/index.ts";
import { errorFrom, reportOf } from "../lib/errors.ts";
import type { ErrorLike } from "../model.ts";
import type { IndexEntry } from "../registries/registry.ts";
import { containerTags } from "./announcements.ts";
import { attest } from "./attest.ts";
import type { ContainerGroup, GroupOutcome, TargetOutcome } from "./groups.ts";
import type { Services } from "./services.ts";
import { holdOfferStep, lookAtFreezeStep } from "./steps/hold-offer.ts";
import { joinIndexStep } from "./steps/join-index.ts";
import { noteTagsStep } from "./steps/note-tags.ts";
import { type Pushed, pushContainerStep } from "./steps/push-container.ts";
import { recordContainerStep } from "./steps/record-container.ts";
import { surveyContainerStep } from "./steps/survey-container.ts";

export const releaseContainer = defineWorkflow({
  name: "release-container",
  version: 4,
  async run(flow: Flow<Services>, group: ContainerGroup): Promise<GroupOutcome> {
    const { items, facts } = group;
    const first = items[0]!;
    const repository = first.repository ?? first.name;
    const targets = [...new Set(items.map((item) => item.target))];
    const arches = [...new Set(items.map((item) => item.arch))];
    const versionTags = first.versionTag === undefined ? [] : [first.versionTag];
    const floating = first.tags ?? [];
    // Floating tags are the offer: in a freeze window they stay where they are.
    const frozen = group.releaseAs === "active" ? await flow.step(lookAtFreezeStep, facts, { key: "freeze" }) : null;
    const releaseAs = frozen === null ? group.releaseAs : "candidate";
    const moving = releaseAs === "active" ? floating : [];
    const tags = containerTags(first, releaseAs);

    const { there } = await flow.step(
      surveyContainerStep,
      { composeId: facts.composeId, system: facts.system, repository, targets, arches, tags },
      { key: "survey" },
    );
    const missing = targets.filter((target) => !there.some((known) => known.target === target));
    const pushes = await push(flow, group, repository, arches, missing);
    if (moving.length > 0 && missing.length > 0) {
      const { composeId, system } = facts;
      const containers = missing.map((target) => ({ composeId, system, target, repository, version: versionTags[0] }));
      await flow.step(noteTagsStep, { containers, tags: moving }, { key: "note tags" });
    }

    const results = await flow.settle(
      missing.map((target) => async () => {
        const entries = entriesFor(pushes, target);
        // The version's own tag is new: nobody's architecture can be lost. Floating tags keep what this compose lacks
        // only where it is incomplete, which the selection says by what it lists.
        const joined = await flow.step(
          joinIndexStep,
          { target, repository, entries, tags, keepOthers: false },
          { key: `index ${target}` },
        );
        return { target, digest: joined.digest };
      }),
    );
    const written = [...there];
    const failed = new Map<string, ErrorLike>();
    results.forEach((result, position) => {
      if (result.ok) written.push(result.value);
      else failed.set(missing[position]!, reportOf(result.error));
    });
    let unattested: ErrorLike | undefined;
    if (written.length > there.length || (there.length > 0 && missing.length === 0)) {
      written.sort((a, b) => targets.indexOf(a.target) - targets.indexOf(b.target));
      await flow.step(
        recordContainerStep,
        { facts, repository, architectures: arches, tags, state: releaseAs, floating, written },
        { key: "record" },
      );
      const ids = written.map(({ target }) => containerId({ ...facts, target, repository }));
      if (frozen !== null) {
        const held = { ...frozen, ...facts, group: group.id, choice: { images: [], containers: ids } };
        await flow.step(holdOfferStep, held, { key: "hold" });
      }
      unattested = await attest(flow, { versions: [], containers: ids });
    }
    return {
      id: group.id,
      ...(frozen === null ? {} : { held: frozen }),
      ...(unattested === undefined ? {} : { unattested }),
      targets: targets.map((target): TargetOutcome => {
        const error = failed.get(target);
        return {
          target,
          cloud: "registry",
          arch: arches.join(" "),
          name: tags.length > 0 ? `${repository}:${tags[0]}` : repository,
          state: error === undefined ? releaseAs : "failed",
          regions: error === undefined ? { [repository]: written.find((one) => one.target === target)!.digest } : {},
          missing: [],
          sentBytes: sentTo(pushes, target),
          ...(error === undefined ? {} : { error }),
        };
      }),
    };
  },
});

async function push(
  flow: Flow<Services>,
  group: ContainerGroup,
  repository: string,
  arches: readonly string[],
  targets: readonly string[],
): Promise<Pushed[]> {
  if (targets.length === 0) return [];
  const outcomes = await flow.settle(
    arches.map((arch) => () => {
      const { artifact } = group.items.find((item) => item.arch === arch)!;
      return flow.step(pushContainerStep, { artifact, repository, targets }, { key: `push ${arch}` });
    }),
  );
  return outcomes.flatMap((outcome): Pushed[] =>
    outcome.ok ? outcome.value : targets.map((target) => ({ target, error: reportOf(outcome.error) })),
  );
}

/** @throws the first failure of that target: an index that lacks an architecture of the compose is not written. */
function entriesFor(pushes: readonly Pushed[], target: string): IndexEntry[] {
  const ours = pushes.filter((pushed) => pushed.target === target);
  for (const pushed of ours) if ("error" in pushed) throw errorFrom(pushed.error);
  return ours.flatMap((pushed) => ("entry" in pushed ? [pushed.entry] : []));
}

function sentTo(pushes: readonly Pushed[], target: string): number {
  return pushes.reduce((sum, one) => sum + (one.target === target && "sentBytes" in one ? one.sentBytes : 0), 0);
}
