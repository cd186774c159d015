import { CloudError } from "../clouds/errors.ts";
import type { CallContext } from "../lib/call.ts";
import type { Region } from "../model.ts";
import type { PlanningServices } from "./services.ts";

/**
 * Every region a target's account has, the home region first.
 * @throws CloudError `unsupported` for a cloud that cannot be asked
 */
export async function allRegions(
  services: PlanningServices,
  target: string,
  home: Region,
  call: CallContext,
): Promise<readonly Region[]> {
  const cloud = await services.targets.cloud(target, call);
  if (cloud.regions === undefined) {
    throw new CloudError("unsupported", "its regions cannot be asked for", {
      cloud: cloud.name,
      operation: "regions",
      subject: `targets.${target}.regions`,
      next: "List the regions in the configuration instead of `all`.",
    });
  }
  const regions = await cloud.regions(call);
  return [home, ...regions.filter((region) => region !== home)];
}
