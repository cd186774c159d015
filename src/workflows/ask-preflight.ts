/** Asks the clouds what a plan would meet. Reads only; a cloud that does not answer is a finding. */
import type { Cloud, Finding } from "../clouds/cloud.ts";
import type { Plan, PlannedImage, Selection } from "../compose/index.ts";
import { openBytes } from "../images/byte-source.ts";
import { readXzIndex } from "../images/xz-index.ts";
import type { CallContext } from "../lib/call.ts";
import { reportOf } from "../lib/errors.ts";
import type { Artifact, ImageSpec } from "../model.ts";
import { isOffered } from "./live-plan.ts";
import { judgeQuotas, type Preflight, preflightOf, type QuotaVerdict, type Weighed } from "./preflight.ts";
import type { PlanningServices } from "./services.ts";
import { imageSpec } from "./specs.ts";

export async function askPreflight(
  selection: Selection,
  plan: Plan,
  services: PlanningServices,
  call: CallContext,
): Promise<Preflight> {
  const sizes = new Map<string, Promise<number | undefined>>();
  const sizeOf = (artifact: Artifact) => {
    const known = sizes.get(artifact.url) ?? diskBytes(artifact, services, call);
    sizes.set(artifact.url, known);
    return known;
  };
  const weighed = await Promise.all(
    selection.items.map(async (planned, position): Promise<Weighed> => {
      const item = plan.items[position]!;
      const size = item.cloud === "registry" || isThere(item) ? undefined : await sizeOf(planned.artifact);
      return {
        item,
        artifactBytes: planned.artifact.bytes,
        offered: isOffered(selection, planned, services),
        ...(size === undefined ? {} : { diskBytes: size }),
      };
    }),
  );
  const quotas: QuotaVerdict[] = [];
  const findings: (Finding & { target: string })[] = [];
  for (const target of [...new Set(selection.items.map((item) => item.target))].sort()) {
    const needy = selection.items.filter((item, position) => item.target === target && !isThere(plan.items[position]!));
    if (needy.length === 0 || needy[0]!.cloud === "registry") continue;
    const specs = needy.map((item) => specOf(item, plan, selection));
    try {
      const cloud = await services.targets.cloud(target, call);
      findings.push(...(await cloud.check(specs, call)).map((finding) => ({ target, ...finding })));
      quotas.push(...judgeQuotas(target, await quotasOf(cloud, specs, call), weighed));
    } catch (error) {
      call.signal.throwIfAborted();
      const { code, message, next, region } = reportOf(error);
      findings.push({
        ...{ target, severity: "error", code, subject: target, message },
        ...(next === undefined ? {} : { next }),
        ...(region === undefined ? {} : { region }),
      });
    }
  }
  return preflightOf(weighed, quotas, findings);
}

async function quotasOf(cloud: Cloud, specs: readonly ImageSpec[], call: CallContext) {
  return cloud.quotas === undefined ? [] : cloud.quotas(specs, call);
}

function specOf(item: PlannedImage, plan: Plan, selection: Selection): ImageSpec {
  return imageSpec(item, Object.keys(plan.items[selection.items.indexOf(item)]!.regions));
}

function isThere(item: Plan["items"][number]): boolean {
  return Object.values(item.regions).every((verb) => verb === "exists");
}

/** The end of an xz says how large its disk is. Where that cannot be read, the release will say so; a plan guesses. */
async function diskBytes(
  artifact: Artifact,
  services: PlanningServices,
  call: CallContext,
): Promise<number | undefined> {
  if (!artifact.format.endsWith(".xz")) return undefined;
  const source = openBytes(artifact.url, services.sources);
  try {
    const { bytes, ranged } = await source.stat(call);
    if (!ranged) return undefined;
    return (await readXzIndex(source, bytes, services.maxDiskBytes + 512, call)).bytes;
  } catch (error) {
    call.signal.throwIfAborted();
    call.log.info("the size of a disk could not be read", { subject: artifact.path, error: reportOf(error) });
    return undefined;
  } finally {
    await source.close();
  }
}
