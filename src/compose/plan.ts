import type { Region } from "../model.ts";
import type { Plan, PlanItem, PlannedImage, RegionVerb, Selection } from "./types.ts";

/** What is known of one image's regions once the clouds were asked. */
export interface RegionPlan {
  readonly regions: Readonly<Record<Region, RegionVerb>>;
  readonly reason?: string;
}

/** The public form of a plan; `regionsOf` says what has to be done where. */
export function planOf(selection: Selection, regionsOf: (image: PlannedImage) => RegionPlan): Plan {
  return {
    compose: selection.compose,
    system: selection.system,
    items: selection.items.map((image) => itemOf(image, regionsOf(image))),
    skipped: selection.skipped,
  };
}

/** The plan as if the clouds were empty: made at home, copied (or made) everywhere else. Asks nobody. */
export function offlinePlan(selection: Selection): Plan {
  return planOf(selection, offlineRegions);
}

export function offlineRegions(image: PlannedImage): RegionPlan {
  const elsewhere: RegionVerb = image.copies ? "copy" : "create";
  const regions = Object.fromEntries(
    image.regions.map((region): [Region, RegionVerb] => [region, region === image.homeRegion ? "create" : elsewhere]),
  );
  if (!image.allRegions) return { regions };
  return { regions, reason: "and every other region of the account, which only the cloud can name" };
}

function itemOf(image: PlannedImage, { regions, reason }: RegionPlan): PlanItem {
  const { cloud, target, arch, name, definition, version, family, repository, versionTag, tags } = image;
  return {
    artifact: image.artifact.path,
    cloud,
    target,
    arch,
    name,
    ...(definition === undefined ? {} : { definition }),
    ...(version === undefined ? {} : { version }),
    ...(family === undefined ? {} : { family }),
    ...(repository === undefined ? {} : { repository }),
    ...(tags === undefined ? {} : { tags: versionTag === undefined ? tags : [versionTag, ...tags] }),
    regions,
    sha256: image.artifact.sha256,
    ...(reason === undefined ? {} : { reason }),
  };
}
