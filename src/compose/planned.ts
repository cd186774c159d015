import type { Artifact } from "../model.ts";
import { checkDescription } from "./names.ts";
import { endOfLifeOf } from "./releases.ts";
import type { Selecting } from "./select.ts";
import type { PlaceholderValues } from "./template.ts";
import type { PlannedImage, PlanTarget } from "./types.ts";

/** What every planned image has, whatever its target; the rest is its names. */
export function plannedBase(
  selecting: Selecting,
  artifact: Artifact,
  target: PlanTarget,
  values: PlaceholderValues,
  description: { text: string; place: string },
): Omit<PlannedImage, "name"> {
  const { compose, system, releases } = selecting;
  return {
    artifact,
    cloud: target.cloud,
    target: target.name,
    arch: artifact.arch,
    description: checkDescription(description.text, description.place),
    homeRegion: target.home_region,
    regions: target.regions === "all" ? [target.home_region] : target.regions,
    allRegions: target.regions === "all",
    copies: target.copies,
    endOfLife: endOfLifeOf(compose, releases),
    facts: {
      ComposeID: compose.id,
      System: system.name,
      Channel: values.channel,
      Kind: values.kind,
      Version: values.version,
      Release: values.number,
      Date: values.date,
      Respin: values.respin,
      Arch: artifact.arch,
      Subvariant: artifact.subvariant,
      ...(values.label === "" ? {} : { Label: values.label }),
    },
  };
}
