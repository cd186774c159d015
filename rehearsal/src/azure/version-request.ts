/** What a request wants of a version, held against the rules and against the version as it is. */
import { asObject, asText, type JsonObject } from "./arm-body.ts";
import { ArmError, armRefusals } from "./arm-error.ts";
import type { ComputeState, TargetRegion, Version } from "./gallery-state.ts";
import { regionDisplayName, regionName } from "./regions.ts";

const STORAGE_ACCOUNT_TYPES = ["Standard_LRS", "Standard_ZRS", "Premium_LRS", "PremiumV2_LRS"];

/** Version numbers are 32-bit integers. */
const MOST_VERSION_NUMBER = 2 ** 31 - 1;

export function checkName(name: string): void {
  const parts = /^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)$/.exec(name)?.slice(1).map(Number);
  if (parts === undefined || parts.some((part) => part > MOST_VERSION_NUMBER)) {
    throw armRefusals.invalid(
      "galleryImageVersionName",
      `The value '${name}' of parameter galleryImageVersionName is not allowed: it must be Major.Minor.Patch, each a 32-bit integer.`,
    );
  }
}

export type Change = Pick<
  Version,
  | "targetRegions"
  | "replicaCount"
  | "storageAccountType"
  | "replicationMode"
  | "excludeFromLatest"
  | "endOfLife"
  | "blockDeletion"
  | "allowRegionDeletion"
>;

/** What the request makes of everything that may change; PUT resets what it leaves out, PATCH keeps it. */
export function changeOf(
  state: ComputeState,
  properties: JsonObject,
  old: Version | undefined,
  method: "PUT" | "PATCH",
  location: string,
): Change {
  const publishing = asObject(properties.publishingProfile);
  const safety = asObject(properties.safetyProfile);
  const kept = method === "PATCH" ? old : undefined;
  const storageAccountType = settled(
    publishing.storageAccountType,
    old?.storageAccountType,
    "Standard_LRS",
    "storageAccountType",
  );
  checkStorageType(storageAccountType);
  const replicationMode = settled(publishing.replicationMode, old?.replicationMode, "Full", "replicationMode");
  const replicaCount = number(publishing.replicaCount) ?? old?.replicaCount ?? 1;
  if (old !== undefined) checkSource(properties, old);

  const allowRegionDeletion = bool(safety.allowDeletionOfReplicatedLocations) ?? kept?.allowRegionDeletion ?? false;
  const asked = (Array.isArray(publishing.targetRegions) ? publishing.targetRegions : []).map((item: unknown) =>
    targetRegion(asObject(item), replicaCount, storageAccountType, old),
  );
  const home = old?.location ?? regionName(location);
  // None given means: as before, or the home region alone.
  const alone = { region: home, replicas: replicaCount, storageAccountType, excludeFromLatest: undefined };
  const targetRegions: TargetRegion[] = asked.length > 0 ? asked : (old?.targetRegions ?? [alone]);
  checkTargets(targetRegions, home, old, allowRegionDeletion, state);
  return {
    targetRegions,
    replicaCount,
    storageAccountType,
    replicationMode,
    allowRegionDeletion,
    excludeFromLatest: bool(publishing.excludeFromLatest) ?? kept?.excludeFromLatest ?? false,
    endOfLife: date(publishing.endOfLifeDate) ?? kept?.endOfLife,
    blockDeletion: bool(safety.blockDeletionBeforeEndOfLife) ?? kept?.blockDeletion ?? false,
  };
}

function settled(value: unknown, old: string | undefined, otherwise: string, member: string): string {
  const text = asText(value);
  if (text !== undefined && old !== undefined && text !== old) {
    throw armRefusals.unchangeable(`galleryImageVersion.properties.publishingProfile.${member}`);
  }
  return text ?? old ?? otherwise;
}

function checkStorageType(type: string): void {
  if (STORAGE_ACCOUNT_TYPES.includes(type)) return;
  const target = "galleryImageVersion.properties.publishingProfile.storageAccountType";
  throw armRefusals.invalid(
    target,
    `The value '${type}' of parameter ${target} is not allowed. Allowed values are: ${STORAGE_ACCOUNT_TYPES.join(", ")}.`,
  );
}

function targetRegion(
  item: JsonObject,
  replicaCount: number,
  storageAccountType: string,
  old: Version | undefined,
): TargetRegion {
  const target = "galleryImageVersion.properties.publishingProfile.targetRegions";
  const name = asText(item.name);
  if (name === undefined) throw armRefusals.missing(`${target}.name`);
  if (regionDisplayName(name) === undefined)
    throw armRefusals.invalid(target, `The target region '${name}' is not valid.`);
  const region = regionName(name);
  const before = old?.targetRegions.find((known) => known.region === region);
  const type = asText(item.storageAccountType) ?? before?.storageAccountType ?? storageAccountType;
  checkStorageType(type);
  if (before !== undefined && type !== before.storageAccountType)
    throw armRefusals.unchangeable(`${target}.storageAccountType`);
  const replicas = number(item.regionalReplicaCount) ?? replicaCount;
  if (replicas < 1)
    throw armRefusals.invalid(`${target}.regionalReplicaCount`, "The replica count must be at least 1.");
  return { region, replicas, storageAccountType: type, excludeFromLatest: bool(item.excludeFromLatest) };
}

function checkTargets(
  targets: readonly TargetRegion[],
  home: string,
  old: Version | undefined,
  mayRemove: boolean,
  state: ComputeState,
): void {
  const target = "galleryImageVersion.properties.publishingProfile.targetRegions";
  const names = new Set(targets.map(({ region }) => region));
  if (names.size !== targets.length) throw armRefusals.invalid(target, "A target region is given more than once.");
  if (home !== "" && !names.has(home)) {
    throw armRefusals.invalid(target, `The target regions must contain the location of the image version, '${home}'.`);
  }
  const replicas = targets.reduce((sum, { replicas }) => sum + replicas, 0);
  if (replicas > state.limits.replicas) {
    throw armRefusals.invalid(
      target,
      `The total replica count ${replicas} exceeds the maximum of ${state.limits.replicas} for an image version.`,
    );
  }
  const lost = old?.targetRegions.filter(({ region }) => !names.has(region)) ?? [];
  if (lost.length > 0 && !mayRemove) {
    throw new ArmError(
      400,
      "BadRequest",
      `Complete set of target locations not specified while updating gallery artifact '${old?.name}' and type 'GalleryImageVersion'. Deletion of previously replicated locations is not allowed, and you need to specify a complete set of target locations in the update request or specify null or empty set for target regions in the update request or set allow deletion of replicated locations under safety profile property. To figure out complete set of target locations, you can perform a get first on gallery artifact`,
    );
  }
}

/** The bytes of a version never change: only the same source may be named again. */
function checkSource(properties: JsonObject, old: Version): void {
  const disk = asObject(asObject(properties.storageProfile).osDiskImage);
  const source = asObject(disk.source);
  for (const member of ["storageAccountId", "uri"] as const) {
    const text = asText(source[member]);
    if (text !== undefined && text.toLowerCase() !== old.source[member].toLowerCase()) {
      throw armRefusals.unchangeable(`galleryImageVersion.properties.storageProfile.osDiskImage.source.${member}`);
    }
  }
}

function number(value: unknown): number | undefined {
  return typeof value === "number" ? value : undefined;
}

function bool(value: unknown): boolean | undefined {
  return typeof value === "boolean" ? value : undefined;
}

function date(value: unknown): string | undefined {
  const text = asText(value);
  return text === undefined ? undefined : new Date(text).toISOString();
}
