import type { PlanTarget } from "../compose/index.ts";
import type { AzureTarget, Config, PlanTargets, Target } from "./schema.ts";

/** The targets as selection wants to see them. */
export function planTargets(config: Pick<Config, "targets">): PlanTargets {
  return Object.fromEntries(Object.values(config.targets).map((target) => [target.name, planTarget(target)]));
}

function planTarget(target: Target): PlanTarget {
  const { name, cloud, enabled } = target;
  const base = { name, cloud, enabled };
  switch (target.cloud) {
    case "aws": {
      const { home_region, regions = [home_region], replicate } = target;
      return { ...base, home_region, regions: homeFirst(regions, home_region), copies: replicate === "copy" };
    }
    case "azure": {
      const { home_region } = target;
      const names = azureRegions(target).map((region) => region.name);
      return { ...base, home_region, regions: homeFirst(names, home_region), copies: true };
    }
    case "gcp": {
      const home_region = target.storage_locations[0]!;
      return { ...base, home_region, regions: target.storage_locations, copies: true };
    }
    // A registry has no regions: its own address stands for the one place there is.
    case "registry":
      return { ...base, home_region: target.url, regions: [target.url], copies: true };
    case "local":
      return { ...base, home_region: "here", regions: ["here"], copies: true };
  }
}

export interface AzureRegion {
  readonly name: string;
  readonly replicas: number;
  readonly storageType: AzureTarget["storage"];
}

/** Target regions with everything filled in. */
export function azureRegions(target: AzureTarget): AzureRegion[] {
  return (target.regions ?? [target.home_region]).map((given) => {
    const { name, replicas, storage } =
      typeof given === "string" ? { name: given, replicas: undefined, storage: undefined } : given;
    return { name, replicas: replicas ?? target.replicas, storageType: storage ?? target.storage };
  });
}

export interface AzureDefinition {
  readonly publisher: string;
  readonly offer: string;
  readonly diskControllerTypes?: string;
  readonly acceleratedNetworking?: boolean;
}

/** What a new image definition says of its maker and features; with its name as sku the maker is unique in a gallery. */
export function azureDefinition(target: AzureTarget): AzureDefinition {
  const { disk_controllers, accelerated_networking } = target;
  return {
    ...{ publisher: target.publisher ?? target.gallery, offer: target.gallery },
    ...(disk_controllers === undefined ? {} : { diskControllerTypes: disk_controllers.join(", ") }),
    ...(accelerated_networking === undefined ? {} : { acceleratedNetworking: accelerated_networking }),
  };
}

function homeFirst(regions: readonly string[] | "all", home: string): readonly string[] | "all" {
  return regions === "all" ? regions : [home, ...regions.filter((region) => region !== home)];
}
