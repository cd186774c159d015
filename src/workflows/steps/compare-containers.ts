import { listContainers } from "../../catalog/catalog.ts";
import type { CallContext } from "../../lib/call.ts";
import { reportOf } from "../../lib/errors.ts";
import type { Registry } from "../../registries/registry.ts";
import type { ChosenContainer } from "../chosen.ts";
import { type Drift, tagDrift } from "../drift.ts";
import type { Services } from "../services.ts";

/** More repositories than anybody releases. */
const MANY = 100_000;

/**
 * What registries hold of containers against what the catalog says: each index by its digest, its own tag, and the
 * floating tags of the newest version that has them. Changes nothing.
 */
export async function compareContainers(
  services: Services,
  containers: readonly ChosenContainer[],
  call: CallContext,
): Promise<Drift[]> {
  if (containers.length === 0) return [];
  const holders = await holdersOf(services);
  const drift: Drift[] = [];
  for (const container of containers) {
    const { target, repository, digest } = container;
    const about = { target, name: `${container.registry}/${repository}`, id: digest };
    try {
      const registry = await services.targets.registry(target, call);
      if ((await registry.find(repository, digest, call)) === undefined) {
        const detail = `${container.composeId}: the index is gone`;
        drift.push({ kind: "missing", ...about, region: "", detail, repairable: false });
        continue;
      }
      for (const tag of expectedTags(container, holders)) {
        const found = tagDrift(about, tag, digest, await digestOf(registry, repository, tag, call));
        if (found !== undefined) drift.push(found);
      }
    } catch (error) {
      call.signal.throwIfAborted();
      drift.push({ kind: "silent", ...about, region: "", error: reportOf(error), repairable: false });
    }
  }
  return drift;
}

async function digestOf(registry: Registry, repository: string, tag: string, call: CallContext) {
  return (await registry.find(repository, tag, call))?.digest;
}

/** Its own tags, and the floating ones that no newer version has taken since. A candidate has none of those. */
function expectedTags(container: ChosenContainer, holders: ReadonlyMap<string, string>): string[] {
  const { id, target, repository, tags, floating, state } = container;
  const own = tags.filter((tag) => !floating.includes(tag));
  if (state !== "active") return own;
  return [...own, ...floating.filter((tag) => holders.get(`${target} ${repository} ${tag}`) === id)];
}

/** `target repository tag` → id of the newest offered container that follows with that tag. */
async function holdersOf({ db }: Services): Promise<ReadonlyMap<string, string>> {
  const holders = new Map<string, string>();
  // Newest first.
  for (const { id, target, repository, floating, state } of await listContainers(db, { limit: MANY })) {
    if (state !== "active") continue;
    for (const tag of floating) {
      const place = `${target} ${repository} ${tag}`;
      if (!holders.has(place)) holders.set(place, id);
    }
  }
  return holders;
}
