import { SlipwayError } from "../lib/errors.ts";
import type { Artifact } from "../model.ts";
import { channelOf, kindOf, prereleaseOf } from "./channel.ts";
import { holds } from "./condition.ts";
import { whyNotTaken } from "./filter.ts";
import { byText } from "./order.ts";
import { releaseNumberOf } from "./releases.ts";
import { selectContainers } from "./select-containers.ts";
import { selectDisks } from "./select-disks.ts";
import { systemTakes } from "./system.ts";
import type { Compose, Condition, PlannedGroup, PlanTarget, ReleaseState, Selection, System } from "./types.ts";

/** What the two kinds of rule are applied to, and where they tell what became of each artifact. */
export interface Selecting {
  readonly compose: Compose;
  readonly system: System;
  readonly releases: ReleaseState;
  readonly targets: Readonly<Record<string, PlanTarget>>;
  /** Whether a rule is meant for this compose. */
  applies(rule: { readonly when?: Condition | undefined }): boolean;
  /** Says why an artifact that a rule takes makes no image; the first reason stays. */
  skip(artifact: Artifact, reason: string): void;
  note(text: string): void;
}

/**
 * What a compose means to a system: which artifact goes to which targets under which names, and for every other
 * artifact why not. The same input always gives the same output, in the same order.
 *
 * A compose that is incomplete, or not the system's at all, gives fewer groups or none: that is no error.
 * @param targets by name; those the rules name must be there
 * @throws SlipwayError `invalid` for a name no cloud would take, or one name for two images
 */
export function selectImages(
  compose: Compose,
  system: System,
  releases: ReleaseState,
  targets: Readonly<Record<string, PlanTarget>>,
): Selection {
  const reasons = new Map<string, string>(compose.unusable.map(({ artifact, reason }) => [artifact, reason]));
  const notes: string[] = [];
  const selecting: Selecting = {
    compose,
    system,
    releases,
    targets,
    applies: (rule) => holds(rule.when, compose, system, releases),
    skip: ({ path }, reason) => void (reasons.has(path) || reasons.set(path, reason)),
    note: (text) => void (notes.includes(text) || notes.push(text)),
  };
  const groups: PlannedGroup[] = [];
  const decision = systemTakes(compose, system, releases);
  if (decision.takes) {
    for (const group of [...selectDisks(selecting), ...selectContainers(selecting)]) {
      groups.push(withUniqueId(group, groups));
    }
  }

  const items = groups.flatMap((group) => group.items);
  const released = new Set(items.map((item) => item.artifact.path));
  const rules = [...system.images, ...system.containers].filter(selecting.applies);
  for (const artifact of compose.artifacts) {
    selecting.skip(artifact, decision.takes ? whyNotTaken(artifact, rules, system.name) : decision.reason);
  }
  return {
    compose: compose.id,
    system: system.name,
    kind: kindOf(compose, releases),
    channel: channelOf(compose, system.channels, releases),
    prerelease: prereleaseOf(compose, releases),
    releaseNumber: decision.takes ? releaseNumberOf(compose.release.version, releases) : 0,
    groups,
    items,
    skipped: [...reasons]
      .filter(([artifact]) => !released.has(artifact))
      .map(([artifact, reason]) => ({ artifact, reason }))
      .sort((a, b) => byText(a.artifact, b.artifact)),
    notes,
  };
}

/** The rule's targets that are switched on, in the rule's order. */
export function targetsOf(names: readonly string[], { targets, note, system }: Selecting): PlanTarget[] {
  return names.flatMap((name) => {
    const target = Object.hasOwn(targets, name) ? targets[name] : undefined;
    if (!target) {
      throw new SlipwayError("invalid", `system ${system.name} releases to "${name}", which is no target`, {
        subject: `systems.${system.name}`,
        next: `Add it under targets in slipway.yaml, or name one of: ${Object.keys(targets).join(", ") || "(none yet)"}.`,
      });
    }
    if (target.enabled) return [target];
    note(`target ${name} is switched off`);
    return [];
  });
}

/** Two rules may want one artifact under different terms; each is a group of its own. */
function withUniqueId(group: PlannedGroup, before: readonly PlannedGroup[]): PlannedGroup {
  let id = group.id;
  for (let copy = 2; before.some((other) => other.id === id); copy++) id = `${group.id}#${copy}`;
  return { ...group, id };
}
