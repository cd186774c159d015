/** From a staged disk to a candidate in the home region, found again whatever was under way before. */
import type { GalleryImageVersion, TargetRegion } from "@azure/arm-compute";
import type { CallContext } from "../../lib/call.ts";
import { codeOf } from "../../lib/errors.ts";
import type { CloudImage, ImageSpec, Region, StagedDisk } from "../../model.ts";
import { CloudError } from "../errors.ts";
import { ensureDefinition } from "./definitions.ts";
import { imageId, refOf, regionName, storageAccountId, tagsOf, type VersionRef } from "./names.ts";
import type { AzureSession } from "./session.ts";
import {
  deleteVersion,
  foreignReason,
  hasKey,
  imageOf,
  isIn,
  lookAtVersion,
  type Operation,
  provisioningOf,
  putVersion,
  refuseProtected,
  settled,
  type Version,
} from "./versions.ts";

/** Looks, acts and looks again at most so often: made by another, removed by another, made again. */
const ROUNDS = 5;

export async function registerImage(
  session: AzureSession,
  staged: StagedDisk,
  spec: ImageSpec,
  call: CallContext,
): Promise<CloudImage> {
  const ref = refOf(spec);
  const home = regionName(spec.homeRegion);
  const body = versionBody(session, staged, spec);
  await ensureDefinition(session, spec, call);

  let version = await lookAtVersion(session, ref, call);
  // A failure from before this call is cleared away; one of this call is told.
  let mayClear = true;
  for (let round = 0; round < ROUNDS; round++) {
    if (version && provisioningOf(version) !== "going") {
      refuseForeign(session, ref, version, spec);
      if (isIn(version, home) && provisioningOf(version) !== "moving") return imageOf(session, ref, version, home);
    }
    const how = version ? provisioningOf(version) : "gone";
    if (how === "failed") {
      if (!mayClear) throw failed(session, ref, version);
      call.log.warn("gallery version of an earlier attempt had failed and is made again", { ...ref });
      refuseProtected(session, ref, version!, "remove");
      version = await settled(session, ref, await deleteVersion(session, ref, call), call);
      continue;
    }
    if (how === "moving" || how === "going" || how === "settled") {
      // Re-attached: this, or another process, put it before. Its home region comes first.
      version = await settled(session, ref, undefined, call);
      if (version && provisioningOf(version) === "failed") mayClear = how === "going";
      continue;
    }
    const operation = await put(session, ref, body, call);
    version = await appeared(session, ref, operation, call);
    mayClear = false;
  }
  throw new CloudError("conflict", `${ref.definition} ${ref.version} changes under our hands.`, {
    cloud: "azure",
    operation: "GalleryImageVersions.CreateOrUpdate",
    subject: imageId(session.options, ref),
    tried: `${ROUNDS} looks`,
    next: "Look who else works in this gallery, then retry the step.",
  });
}

/** Undefined when somebody else put it in the same moment: then it is followed. */
async function put(
  session: AzureSession,
  ref: VersionRef,
  body: GalleryImageVersion,
  call: CallContext,
): Promise<Operation | undefined> {
  try {
    return await putVersion(session, ref, body, call);
  } catch (error) {
    if (codeOf(error) === "conflict") return undefined;
    throw error;
  }
}

/** Waits for a version that was just put; Azure may need a moment until it shows it. */
async function appeared(
  session: AzureSession,
  ref: VersionRef,
  operation: Operation | undefined,
  call: CallContext,
): Promise<Version | undefined> {
  let version: Version | undefined;
  for (let look = 0; look < ROUNDS; look++) {
    version = await settled(session, ref, operation, call);
    if (version) return version;
  }
  return version;
}

function refuseForeign(session: AzureSession, ref: VersionRef, version: Version, spec: ImageSpec): void {
  if (hasKey(session, version, spec.key)) return;
  const reason = foreignReason(session, version);
  throw new CloudError(
    "already-exists",
    `${ref.definition} ${ref.version} is there and is not this image: ${reason}.`,
    {
      cloud: "azure",
      operation: "GalleryImageVersions.CreateOrUpdate",
      subject: imageId(session.options, ref),
      next: "Find out whose it is. Remove it there, or raise the respin.",
    },
  );
}

function failed(session: AzureSession, ref: VersionRef, version: Version | undefined): CloudError {
  const details = (version?.replicationStatus?.summary ?? [])
    .filter((one) => one.state === "Failed")
    .map((one) => `${one.region}: ${one.details ?? "no details"}`);
  return new CloudError("unknown", `Azure could not make ${ref.definition} ${ref.version}. ${details.join("; ")}`, {
    cloud: "azure",
    operation: "GalleryImageVersions.CreateOrUpdate",
    subject: imageId(session.options, ref),
    next: "Repeat the step: the failed version is removed and made again. The portal's activity log has the details.",
  });
}

function versionBody(session: AzureSession, staged: StagedDisk, spec: ImageSpec): GalleryImageVersion {
  const { options } = session;
  const home = regionName(spec.homeRegion);
  if (home !== regionName(options.location)) {
    throw new CloudError(
      "invalid",
      `The image's home is ${home}; this gallery and its storage are in ${options.location}.`,
      {
        cloud: "azure",
        operation: "register",
        region: home,
        subject: spec.name,
        next: "Set the target's location as the home region: Azure imports a blob only where it lies.",
      },
    );
  }
  return {
    location: options.location,
    tags: tagsOf(spec, session.owner),
    publishingProfile: {
      targetRegions: [targetRegion(session, home)],
      excludeFromLatest: true,
      replicationMode: "Full",
      ...(spec.endOfLife ? { endOfLifeDate: new Date(spec.endOfLife) } : {}),
    },
    storageProfile: {
      osDiskImage: { source: { storageAccountId: storageAccountId(options), uri: staged.id }, hostCaching: "None" },
    },
    safetyProfile: {
      // Lifecycle decides what goes; a version that cannot be removed from its regions cannot be removed at all.
      allowDeletionOfReplicatedLocations: true,
      blockDeletionBeforeEndOfLife: options.blockDeletionBeforeEndOfLife ?? false,
    },
  };
}

/** @throws CloudError `invalid` for a region the target does not name */
export function targetRegion(session: AzureSession, region: Region): TargetRegion {
  const found = session.options.targetRegions.find((one) => regionName(one.name) === regionName(region));
  if (found) {
    return { name: regionName(region), regionalReplicaCount: found.replicas, storageAccountType: found.storageType };
  }
  throw new CloudError("invalid", `The target does not name the region ${region}.`, {
    cloud: "azure",
    operation: "replicate",
    region,
    subject: region,
    next: "Add it to the target's regions with its replicas and storage type, or take it from the image's list.",
  });
}
