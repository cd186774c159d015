/**
 * Image versions: imported from a page blob, brought to their regions, changed, deleted.
 *
 * A version is "Creating" or "Updating" until every region has ended; one failed region makes the whole "Failed", and
 * the next PUT or PATCH tries that region again. Nothing runs in the background: time passes in `settle`.
 */
import { asObject, asText, type JsonObject, parseBody, tagsOf, versionShape } from "./arm-body.ts";
import { ArmError, armRefusals } from "./arm-error.ts";
import type { Blob } from "./blob-store.ts";
import { locationOf, type Started, startDeletion } from "./galleries.ts";
import {
  type ComputeState,
  countVersions,
  type Definition,
  endOperation,
  findDefinition,
  findGallery,
  findVersion,
  type Gallery,
  galleryId,
  haunt,
  type Import,
  listed,
  type Operation,
  type Replica,
  startOperation,
  type TargetRegion,
  type Version,
} from "./gallery-state.ts";
import { regionDisplayName, regionName } from "./regions.ts";
import { vhdFault } from "./vhd.ts";

const STORAGE_ACCOUNT_TYPES = ["Standard_LRS", "Standard_ZRS", "Premium_LRS", "PremiumV2_LRS"];
const GIB = 1024 ** 3;
/** Version numbers are 32-bit integers. */
const MOST_VERSION_NUMBER = 2 ** 31 - 1;

interface Names {
  readonly gallery: string;
  readonly definition: string;
  readonly version: string;
}

export async function putVersion(
  state: ComputeState,
  names: Names,
  body: Buffer,
  now: number,
  method: "PUT" | "PATCH",
): Promise<Started> {
  const definition = parentOf(state, names);
  const request = parseBody(body, versionShape);
  const properties = asObject(request.properties);
  checkName(names.version);
  const old = definition.versions.get(names.version);
  if (old === undefined && method === "PATCH") findVersion(state, names.gallery, names.definition, names.version);
  if (old !== undefined && old.provisioning !== "Succeeded" && old.provisioning !== "Failed")
    throw armRefusals.conflict();
  if (properties.restore === true)
    throw new ArmError(501, "NotImplemented", "The simulated gallery restores no soft-deleted versions.");

  const change = changeOf(state, properties, old, method, asText(request.location) ?? "");
  const tags = tagsOf(request) ?? (method === "PUT" ? undefined : old?.tags);
  const version = old ?? (await createVersion(state, names, request, now));
  Object.assign(version, change, { tags });
  checkReplicas(state, version);
  version.provisioning = old === undefined ? "Creating" : "Updating";
  startReplicas(version, now);
  definition.versions.set(names.version, version);
  version.operation = startOperation(state, now, (at, operation) => settleVersion(state, version, at, operation));
  return { created: old === undefined, body: versionBody(state, names, version, now), operation: version.operation };
}

function parentOf(state: ComputeState, names: Names): Definition {
  const definition = state.galleries.get(names.gallery.toLowerCase())?.definitions.get(names.definition.toLowerCase());
  if (definition === undefined)
    throw armRefusals.parentNotFound(`${galleryId(state, names.gallery)}/images/${names.definition}`);
  return definition;
}

function checkName(name: string): void {
  const parts = /^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)$/.exec(name)?.slice(1).map(Number);
  if (parts === undefined || parts.some((part) => part > MOST_VERSION_NUMBER)) {
    throw armRefusals.invalid(
      "galleryImageVersionName",
      `The value '${name}' of parameter galleryImageVersionName is not allowed: it must be Major.Minor.Patch, each a 32-bit integer.`,
    );
  }
}

type Change = Pick<
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
function changeOf(
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

function checkReplicas(state: ComputeState, version: Version): void {
  for (const region of version.replicas.keys()) {
    if (!version.targetRegions.some((target) => target.region === region)) version.replicas.delete(region);
  }
  if (state.limits.replicas < 1) throw armRefusals.quota("replicas", state.limits.replicas);
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

async function createVersion(state: ComputeState, names: Names, request: JsonObject, now: number): Promise<Version> {
  if (countVersions(state).versions >= state.limits.versions)
    throw armRefusals.quota("gallery image versions", state.limits.versions);
  const location = locationOf(request, "galleryImageVersion.location");
  const target = "galleryImageVersion.properties.storageProfile";
  const profile = asObject(asObject(request.properties).storageProfile);
  const disk = asObject(profile.osDiskImage);
  const source = asObject(disk.source);
  if (profile.source !== undefined && Object.values(asObject(profile.source)).some((value) => value !== undefined)) {
    throw new ArmError(
      501,
      "NotImplemented",
      "The simulated gallery makes versions of page blobs only (storageProfile.osDiskImage.source).",
    );
  }
  if (asText(source.id) !== undefined) {
    throw armRefusals.invalid(
      `${target}.osDiskImage.source.id`,
      "Parameter 'source.id' is not allowed with a blob; use 'storageAccountId' and 'uri'.",
    );
  }
  const uri = asText(source.uri);
  const storageAccountId = asText(source.storageAccountId);
  if (uri === undefined) throw armRefusals.missing(`${target}.osDiskImage.source.uri`);
  if (storageAccountId === undefined) throw armRefusals.missing(`${target}.osDiskImage.source.storageAccountId`);
  const { blob, stillThere } = sourceBlob(state, storageAccountId, uri);
  if (location !== state.storageLocation) {
    throw armRefusals.invalid(
      `${target}.osDiskImage.source`,
      `The source blob is in '${state.storageLocation}', the image version in '${location}'. They must be in the same region.`,
    );
  }
  const etag = blob.etag;
  const copy: Import = {
    until: now + state.timings.importMs,
    disk: blob.data.share(),
    sourceIsUnchanged: () => stillThere() && blob.etag === etag,
    fault: await vhdFault(blob.data, uri),
    done: false,
  };
  return {
    name: names.version,
    location,
    created: now,
    tags: undefined,
    provisioning: "Creating",
    targetRegions: [],
    replicaCount: 1,
    storageAccountType: "Standard_LRS",
    replicationMode: "Full",
    excludeFromLatest: false,
    endOfLife: undefined,
    published: now,
    blockDeletion: false,
    allowRegionDeletion: false,
    source: { storageAccountId, uri },
    hostCaching: asText(disk.hostCaching) ?? "None",
    import: copy,
    replicas: new Map(),
    operation: undefined,
  };
}

/** The page blob a version is to be made of: named by URI, and the URI held against the account's id. */
function sourceBlob(
  state: ComputeState,
  storageAccountId: string,
  uri: string,
): { blob: Blob; stillThere: () => boolean } {
  const target = "galleryImageVersion.properties.storageProfile.osDiskImage.source";
  if (storageAccountId.toLowerCase() !== state.storageAccountId.toLowerCase()) {
    throw armRefusals.invalid(`${target}.storageAccountId`, `The storage account '${storageAccountId}' was not found.`);
  }
  if (!URL.canParse(uri))
    throw armRefusals.invalid(`${target}.uri`, `The value '${uri}' of parameter uri is not a URI.`);
  const url = new URL(uri);
  const path = url.pathname.split("/").slice(1).map(decodeURIComponent);
  const account = /^([a-z0-9]+)\.blob\./.exec(url.hostname)?.[1] ?? path.shift();
  if (account !== state.storageAccount) {
    throw armRefusals.invalid(
      `${target}.uri`,
      `The blob URI '${uri}' does not belong to the storage account '${storageAccountId}'.`,
    );
  }
  const [container = "", ...rest] = path;
  const name = rest.join("/");
  const blob = state.store.find(container, name);
  if (blob === undefined) throw armRefusals.invalid(`${target}.uri`, `The source blob ${uri} is not accessible.`);
  return { blob, stillThere: () => state.store.find(container, name) === blob };
}

/** New regions, and those that failed before, begin; what is there already stays. */
function startReplicas(version: Version, now: number): void {
  const begin = version.import.done ? now : version.import.until;
  for (const { region } of version.targetRegions) {
    const known = version.replicas.get(region);
    if (known !== undefined && known.state !== "Failed") continue;
    version.replicas.set(region, { state: "Replicating", since: begin, details: undefined });
  }
}

async function settleVersion(state: ComputeState, version: Version, now: number, operation: Operation): Promise<void> {
  const failed = (code: string, message: string): void => {
    version.provisioning = "Failed";
    endOperation(operation, now, new ArmError(400, code, message));
  };
  if (!version.import.done) {
    if (now < version.import.until) return;
    version.import.fault ??= version.import.sourceIsUnchanged()
      ? undefined
      : `The source blob ${version.source.uri} is not accessible: it was changed or deleted while it was copied.`;
    version.import.done = version.import.fault === undefined;
  }
  if (version.import.fault !== undefined) {
    for (const replica of version.replicas.values()) {
      replica.state = "Failed";
      replica.details = version.import.fault;
    }
    return failed("InvalidParameter", version.import.fault);
  }
  for (const [region, replica] of version.replicas) settleReplica(state, region, replica, now);
  const states = [...version.replicas];
  if (states.some(([, { state: progress }]) => progress === "Replicating")) return;
  const broken = states.filter(([, { state: progress }]) => progress === "Failed").map(([region]) => region);
  if (broken.length > 0) {
    return failed(
      "ReplicationJobsNotCompleted",
      `The replication job has not completed at region: ${broken.join(", ")}`,
    );
  }
  version.provisioning = "Succeeded";
  endOperation(operation, now);
}

function settleReplica(state: ComputeState, region: string, replica: Replica, now: number): void {
  if (replica.state !== "Replicating" || now < replica.since + state.timings.replicationMs) return;
  const outage = state.outages.get(region);
  if (outage === "hangs") return;
  replica.state = outage === "fails" ? "Failed" : "Completed";
  if (outage === "fails")
    replica.details = `The replication to region '${regionDisplayName(region)}' failed due to an internal error. Please retry later.`;
}

export function deleteVersion(state: ComputeState, names: Names, now: number): Operation | undefined {
  const definition = state.galleries.get(names.gallery.toLowerCase())?.definitions.get(names.definition.toLowerCase());
  const version = definition?.versions.get(names.version);
  if (definition === undefined || version === undefined) return undefined;
  if (version.provisioning === "Deleting") throw armRefusals.conflict();
  if (version.blockDeletion && version.endOfLife !== undefined && Date.parse(version.endOfLife) > now) {
    throw new ArmError(
      409,
      "OperationNotAllowed",
      `Deletion of gallery image version '${version.name}' is blocked until its end of life date ${version.endOfLife}. Set safetyProfile.blockDeletionBeforeEndOfLife to false first.`,
    );
  }
  const running = version.operation;
  if (running?.status === "InProgress") {
    endOperation(
      running,
      now,
      new ArmError(409, "OperationPreempted", "The operation has been preempted by a more recent operation."),
    );
  }
  return startDeletion(state, version, now, async () => {
    haunt(state, definition.ghosts, versionBody(state, names, version, now), now);
    definition.versions.delete(names.version);
    await version.import.disk.release();
  });
}

/** @param withReplication as `$expand=ReplicationStatus` asks */
export function versionBody(
  state: ComputeState,
  names: Omit<Names, "version">,
  version: Version,
  now: number,
  withReplication = false,
): JsonObject {
  return {
    name: version.name,
    id: `${galleryId(state, names.gallery)}/images/${names.definition}/versions/${version.name}`,
    type: "Microsoft.Compute/galleries/images/versions",
    location: version.location,
    ...(version.tags === undefined ? {} : { tags: version.tags }),
    properties: {
      publishingProfile: {
        targetRegions: version.targetRegions.map(({ region, replicas, storageAccountType, excludeFromLatest }) => ({
          name: regionDisplayName(region),
          regionalReplicaCount: replicas,
          storageAccountType,
          ...(excludeFromLatest === undefined ? {} : { excludeFromLatest }),
        })),
        replicaCount: version.replicaCount,
        excludeFromLatest: version.excludeFromLatest,
        publishedDate: new Date(version.published).toISOString(),
        ...(version.endOfLife === undefined ? {} : { endOfLifeDate: version.endOfLife }),
        storageAccountType: version.storageAccountType,
        replicationMode: version.replicationMode,
      },
      storageProfile: {
        osDiskImage: {
          sizeInGB: Math.ceil((version.import.disk.bytes - 512) / GIB),
          hostCaching: version.hostCaching,
          source: version.source,
        },
      },
      safetyProfile: {
        reportedForPolicyViolation: false,
        allowDeletionOfReplicatedLocations: version.allowRegionDeletion,
        blockDeletionBeforeEndOfLife: version.blockDeletion,
      },
      provisioningState: version.provisioning,
      ...(withReplication ? { replicationStatus: replicationStatus(state, version, now) } : {}),
    },
  };
}

function replicationStatus(state: ComputeState, version: Version, now: number): JsonObject {
  const replicas = [...version.replicas];
  const has = (wanted: Replica["state"]): boolean => replicas.some(([, replica]) => replica.state === wanted);
  return {
    aggregatedState: has("Replicating") ? "InProgress" : has("Failed") ? "Failed" : "Completed",
    summary: replicas.map(([region, replica]) => ({
      region: regionDisplayName(region),
      state: replica.state,
      details: replica.details ?? "",
      progress: progressOf(state, replica, now),
    })),
  };
}

/** Percent. One that hangs stays short of the end. */
function progressOf(state: ComputeState, replica: Replica, now: number): number {
  if (replica.state === "Completed") return 100;
  const { replicationMs } = state.timings;
  const share = replicationMs === 0 ? 0 : Math.max(0, now - replica.since) / replicationMs;
  return Math.min(99, Math.floor(share * 100));
}

export function listVersions(state: ComputeState, gallery: string, name: string, now: number): JsonObject[] {
  const definition = findDefinition(state, gallery, name);
  const names = { gallery: findGallery(state, gallery).name, definition: definition.name };
  return listed(state, definition.versions.values(), definition.ghosts, now, (one) =>
    versionBody(state, names, one, now),
  );
}

/** Versions a VM in that region could be made of, newest first; those excluded from latest included. */
export function bootableVersions(definition: Definition, region: string): Version[] {
  return [...definition.versions.values()]
    .filter(
      (version) =>
        version.replicas.get(regionName(region))?.state === "Completed" && version.provisioning !== "Deleting",
    )
    .sort((a, b) => compareVersions(b.name, a.name));
}

/** The version `latest` stands for in that region. */
export function latestVersion(definition: Definition, region: string): Version | undefined {
  return bootableVersions(definition, region).find((version) => {
    const here = version.targetRegions.find((target) => target.region === regionName(region));
    return !(here?.excludeFromLatest ?? version.excludeFromLatest);
  });
}

function compareVersions(a: string, b: string): number {
  const [x, y] = [a.split(".").map(Number), b.split(".").map(Number)];
  return x.map((part, at) => part - (y[at] ?? 0)).find((difference) => difference !== 0) ?? 0;
}

export function communityVersionBody(
  gallery: Gallery,
  definition: Definition,
  version: Version,
  region: string,
): JsonObject {
  return {
    name: version.name,
    location: regionName(region),
    type: "Microsoft.Compute/locations/communityGalleries/images/versions",
    identifier: {
      uniqueId: `/CommunityGalleries/${gallery.publicName}/Images/${definition.name}/Versions/${version.name}`,
    },
    properties: {
      publishedDate: new Date(version.published).toISOString(),
      ...(version.endOfLife === undefined ? {} : { endOfLifeDate: version.endOfLife }),
      excludeFromLatest: version.excludeFromLatest,
      storageProfile: {
        osDiskImage: {
          diskSizeGB: Math.ceil((version.import.disk.bytes - 512) / GIB),
          hostCaching: version.hostCaching,
        },
      },
      artifactTags: version.tags ?? {},
    },
  };
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
