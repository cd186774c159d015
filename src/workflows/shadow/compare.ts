/**
 * The other service's messages against those we would publish: who has which, and what they say differently. The order
 * of messages and of lists says nothing. Pure.
 */
import {
  DIFFERENCE_KINDS,
  type Difference,
  differencesOf,
  duplicate,
  missingHere,
  missingThere,
} from "./difference.ts";
import type { ExpectedMessage } from "./expected.ts";
import { aboutOf, canonical, identityOf, nameOf, namesIn, type TheirMessage } from "./subject.ts";

export interface Comparison {
  /** Messages that say the same on both sides. */
  readonly agreed: number;
  readonly differences: readonly Difference[];
  /** What could not be compared, in words. */
  readonly notes: readonly string[];
}

/**
 * Pairs messages about the same cloud, compose, subvariant and architecture (or repository), those first that differ
 * least; then, of what is left, those about an image of the same name. Any order of the input gives the same output.
 */
export function compareMessages(expected: readonly ExpectedMessage[], published: readonly TheirMessage[]): Comparison {
  const ours = new Set([...expected].sort(by(canonical)));
  const theirs = new Set([...published].sort(by((one) => `${one.topic} ${canonical(one.body)} ${one.id}`)));
  const pairs: Pair[] = [];
  for (const keyOf of [identityOf, nameOf]) {
    const known = groupBy(ours, keyOf);
    for (const [key, group] of groupBy(theirs, keyOf)) {
      for (const pair of closestPairs(known.get(key) ?? [], group)) {
        pairs.push(pair);
        ours.delete(pair.ours);
        theirs.delete(pair.theirs);
      }
    }
  }
  const twins = groupBy(new Set(pairs.map((pair) => pair.theirs)), identityOf);
  const differences = [
    ...pairs.flatMap((pair) => pair.differences),
    ...[...ours].map(missingThere),
    ...[...theirs].map((one) => {
      const twin = twins.get(identityOf(one))?.[0];
      return twin === undefined ? missingHere(one) : duplicate(one, twin);
    }),
  ];
  return {
    agreed: pairs.filter((pair) => pair.differences.length === 0).length,
    differences: differences.sort(by((one) => `${one.about} ${DIFFERENCE_KINDS.indexOf(one.kind) + 10} ${one.words}`)),
    notes: pairs.flatMap(notCompared).sort(),
  };
}

interface Pair {
  readonly ours: ExpectedMessage;
  readonly theirs: TheirMessage;
  readonly differences: readonly Difference[];
}

/** Of all pairs in a group the closest, then of the others, until one side is used up. Groups have a handful. */
function closestPairs(ours: readonly ExpectedMessage[], theirs: readonly TheirMessage[]): Pair[] {
  const all = ours.flatMap((one) =>
    theirs.map((other): Pair => ({ ours: one, theirs: other, differences: differencesOf(one, other) })),
  );
  const chosen: Pair[] = [];
  // Sorting is stable: of equals the first, in an order that the input's does not change.
  for (const pair of all.sort((a, b) => a.differences.length - b.differences.length)) {
    if (!chosen.some((one) => one.ours === pair.ours || one.theirs === pair.theirs)) chosen.push(pair);
  }
  return chosen;
}

function notCompared({ ours, theirs }: Pair): string[] {
  if (!ours.allRegions) return [];
  const count = namesIn(theirs.body.regions)?.length ?? 0;
  return [
    `${aboutOf(ours)}: they name ${count} regions; ours are "all" of ${ours.targets.join(", ")}, which only the cloud knows`,
  ];
}

function groupBy<T>(all: Iterable<T>, keyOf: (one: T) => string | undefined): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const one of all) {
    const key = keyOf(one);
    if (key === undefined) continue;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [one]);
    else group.push(one);
  }
  return groups;
}

function by<T>(textOf: (one: T) => string): (one: T, other: T) => number {
  return (one, other) => {
    const [a, b] = [textOf(one), textOf(other)];
    return a < b ? -1 : a > b ? 1 : 0;
  };
}
