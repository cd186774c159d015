/** The plan as the clouds are now: what exists, what would go on, what would be made. Reads only; no image is touched. */
import {
  offlineRegions,
  type Plan,
  type PlannedImage,
  planOf,
  type RegionPlan,
  type RegionVerb,
  type Selection,
} from "../compose/index.ts";
import type { CallContext } from "../lib/call.ts";
import { reportOf } from "../lib/errors.ts";
import { allRegions } from "./regions.ts";
import type { PlanningServices } from "./services.ts";
import { imageSpec } from "./specs.ts";

/** Asks every target about every image. A cloud that does not answer becomes a reason, not an exception. */
export async function livePlan(selection: Selection, services: PlanningServices, call: CallContext): Promise<Plan> {
  const answers = new Map<PlannedImage, RegionPlan>();
  await Promise.all(
    selection.items.map(async (item) => {
      try {
        answers.set(
          item,
          await (item.cloud === "registry" ? askRegistry : askCloud)(
            item,
            services,
            call,
            isOffered(selection, item, services),
          ),
        );
      } catch (error) {
        call.signal.throwIfAborted();
        const { code, message, next } = reportOf(error);
        const offline = offlineRegions(item);
        answers.set(item, {
          ...offline,
          reason: `not asked [${code}]: ${message}${next === undefined ? "" : ` ${next}`}`,
        });
      }
    }),
  );
  return planOf(selection, (item) => answers.get(item)!);
}

/** Whether a release would let anybody see it. */
export function isOffered(selection: Selection, item: PlannedImage, services: PlanningServices): boolean {
  const group = selection.groups.find((one) => one.items.includes(item));
  return group?.releaseAs === "active" && services.targets.facts(item.target).audience.to !== "nobody";
}

async function askCloud(
  item: PlannedImage,
  services: PlanningServices,
  call: CallContext,
  offered: boolean,
): Promise<RegionPlan> {
  const cloud = await services.targets.cloud(item.target, call);
  const regions = item.allRegions ? await allRegions(services, item.target, item.homeRegion, call) : item.regions;
  const spec = imageSpec(item, regions);
  const known = { ...item, regions, allRegions: false };
  const verbs = new Map<string, RegionVerb>(Object.entries(offlineRegions(known).regions));
  const reasons: string[] = [];
  const asked = cloud.can.regionalCopies ? spec.regions : [spec.homeRegion];
  await Promise.all(
    asked.map(async (region) => {
      try {
        const found = await cloud.find(spec, region, call);
        if (found.image !== undefined) {
          const there = cloud.can.regionalCopies ? [region] : spec.regions;
          const verb = found.image.state === "candidate" && offered ? "share" : "exists";
          for (const one of there) verbs.set(one, verb);
        } else if (found.foreign !== undefined)
          reasons.push(`${region}: ${found.foreign.reason} (${found.foreign.id})`);
        else if (found.staged !== undefined) verbs.set(region, "resume");
      } catch (error) {
        call.signal.throwIfAborted();
        const { code, message } = reportOf(error);
        reasons.push(`${region}: not asked [${code}] ${message}`);
      }
    }),
  );
  return { regions: Object.fromEntries(verbs), ...(reasons.length === 0 ? {} : { reason: reasons.sort().join("; ") }) };
}

async function askRegistry(item: PlannedImage, services: PlanningServices, call: CallContext): Promise<RegionPlan> {
  const offline = offlineRegions(item);
  if (item.repository === undefined || item.versionTag === undefined) return offline;
  const registry = await services.targets.registry(item.target, call);
  const found = await registry.find(item.repository, item.versionTag, call);
  const architectures = found?.entries?.map((entry) => entry.platform.architecture) ?? [];
  if (!architectures.includes(GO_ARCHITECTURE[item.arch] ?? item.arch)) return offline;
  return { regions: Object.fromEntries(Object.keys(offline.regions).map((region) => [region, "exists" as const])) };
}

/** @see https://go.dev/doc/install/source#environment */
const GO_ARCHITECTURE: Readonly<Record<string, string>> = { x86_64: "amd64", aarch64: "arm64" };
