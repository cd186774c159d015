/**
 * The other regions: one change of one resource, reported region by region as replicas land.
 *
 * What is under way is followed before anything is asked for. A region Azure refuses must not cost the others, and the
 * refusal names no region a program could rely on, so a refused set is halved until only the refused regions are left.
 */
import type { CallContext } from "../../lib/call.ts";
import { codeOf, reportOf } from "../../lib/errors.ts";
import type { CloudImage, ErrorLike, ImageSpec, Region } from "../../model.ts";
import type { RegionOutcome } from "../cloud.ts";
import { CloudError } from "../errors.ts";
import { imageId, refOf, regionName, type VersionRef } from "./names.ts";
import { targetRegion } from "./register.ts";
import type { AzureSession } from "./session.ts";
import {
  follow,
  hasKey,
  imageOf,
  isIn,
  lookAtVersion,
  type Operation,
  outcome,
  patchVersion,
  provisioningOf,
  regionState,
  settled,
  type Version,
} from "./versions.ts";

export async function* replicateImage(
  session: AzureSession,
  image: CloudImage,
  spec: ImageSpec,
  regions: readonly Region[],
  call: CallContext,
): AsyncGenerator<RegionOutcome> {
  const ref = refOf(spec);
  let version = await lookAtVersion(session, ref, call);
  if (!version || !hasKey(session, version, image.key)) {
    throw new CloudError(
      version ? "conflict" : "not-found",
      `${ref.definition} ${ref.version} is not the image that was registered.`,
      {
        cloud: "azure",
        operation: "replicate",
        subject: imageId(session.options, ref),
        next: "Register it again: repeat the release.",
      },
    );
  }

  // Names as they came, because outcomes answer to them.
  const pending = new Map<Region, Region>();
  for (const region of regions) {
    try {
      targetRegion(session, region);
      pending.set(regionName(region), region);
    } catch (error) {
      yield { region, error: reportOf(error) };
    }
  }

  // Whatever was under way ends first, and may bring all that is wanted.
  version = yield* followed(session, ref, pending, undefined, call);
  const sets: Region[][] = pending.size > 0 ? [[...pending.keys()]] : [];
  for (let set = sets.shift(); set !== undefined; set = sets.shift()) {
    if (!version) {
      yield* failures(pending, set, gone(session, ref));
      continue;
    }
    let operation: Operation;
    try {
      version = (await settled(session, ref, undefined, call)) ?? version;
      const targetRegions = withRegions(session, version, set);
      operation = await patchVersion(session, ref, version, { targetRegions }, version.tags ?? {}, call);
    } catch (error) {
      if (!BLAMES_REGIONS.has(codeOf(error))) throw error;
      call.log.info("regions were refused", { regions: set, error });
      if (set.length === 1) yield* failures(pending, set, reportOf(error));
      else sets.push(set.slice(0, set.length / 2), set.slice(set.length / 2));
      continue;
    }
    const asked = new Map(set.map((region) => [region, pending.get(region) ?? region]));
    let why: ErrorLike | undefined;
    try {
      version = yield* followed(session, ref, asked, operation, call);
    } catch (error) {
      // The whole operation failed or takes too long: what landed is told already, the rest is told why.
      if (codeOf(error) === "cancelled") throw error;
      why = reportOf(error);
    }
    for (const region of set) {
      if (!asked.has(region)) pending.delete(region);
      else yield* failures(pending, [region], why ?? regionError(session, ref, version, region));
    }
  }
}

/** Refusals that may be due to one of the regions. Others are about the whole account, and are thrown. */
const BLAMES_REGIONS: ReadonlySet<string> = new Set(["invalid", "quota", "not-found", "unsupported"]);

/** Yields regions as they complete and takes them from `waiting`; returns the version when the gallery has settled. */
async function* followed(
  session: AzureSession,
  ref: VersionRef,
  waiting: Map<Region, Region>,
  operation: Operation | undefined,
  call: CallContext,
): AsyncGenerator<RegionOutcome, Version | undefined> {
  for await (const version of follow(session, ref, call)) {
    const how = operation ? await outcome(operation, call) : "done";
    if (version) {
      for (const [name, region] of waiting) {
        if (!isIn(version, name)) continue;
        waiting.delete(name);
        yield { region, image: { ...imageOf(session, ref, version, name), region } };
      }
    }
    if (waiting.size === 0) return version;
    if (how === "running") continue;
    // A region's own details say more than the operation's failure, so both are looked at when all has settled.
    const state = version ? provisioningOf(version) : "gone";
    if (state === "moving" || state === "going") continue;
    if (how !== "done" && !version?.replicationStatus?.summary?.some((one) => one.state === "Failed")) throw how;
    return version;
  }
  return undefined;
}

/** What the version has and what is wanted, in one list: a region left out of it would lose its replica. */
function withRegions(session: AzureSession, version: Version, regions: readonly Region[]) {
  const has = version.publishingProfile?.targetRegions ?? [];
  const names = new Set(has.map((one) => regionName(one.name)));
  return [...has, ...regions.filter((one) => !names.has(one)).map((one) => targetRegion(session, one))];
}

function* failures(
  pending: Map<Region, Region>,
  regions: readonly Region[],
  error: ErrorLike,
): Generator<RegionOutcome> {
  for (const name of regions) {
    const region = pending.get(name);
    if (region === undefined) continue;
    pending.delete(name);
    yield { region, error: { ...error, region } };
  }
}

function regionError(session: AzureSession, ref: VersionRef, version: Version | undefined, region: Region): ErrorLike {
  const status = version ? regionState(version, region) : undefined;
  const why = status?.details || `its replica is ${status?.state ?? "not there"}`;
  return reportOf(
    new CloudError("unavailable", `The image did not get to ${region}: ${why}`, {
      cloud: "azure",
      operation: "replicate",
      region,
      subject: imageId(session.options, ref),
      next: "Repeat it later: slipway runs retry. https://azure.status.microsoft shows whether the region is well.",
    }),
  );
}

function gone(session: AzureSession, ref: VersionRef): ErrorLike {
  return reportOf(
    new CloudError("conflict", `${ref.definition} ${ref.version} was removed while it was being replicated.`, {
      cloud: "azure",
      operation: "replicate",
      subject: imageId(session.options, ref),
      next: "Look who else works in this gallery, then release it again.",
    }),
  );
}
