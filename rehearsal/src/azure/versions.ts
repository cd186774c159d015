/**
 * Image versions: imported from a page blob, brought to their regions, changed, deleted.
 *
 * A version is "Creating" or "Updating" until every region has ended; one failed region makes the whole "Failed", and
 * the next PUT or PATCH tries that region again. Nothing runs in the background: time passes in `settle`.
 */
import { asObject, asText, type JsonObject, parseBody, tagsOf, versionShape } from "./arm-body.ts";
import { ArmError, armRefusals } from "./arm-error.ts";
import type { Blob } from "./blob-store.ts";
import { locationOf, type Started, startDeletion } from "./gallery-changes.ts";
import {
  type ComputeState,
  countVersions,
  type Definition,
  endOperation,
  findVersion,
  galleryId,
  haunt,
  type Import,
  type Operation,
  type Replica,
  startOperation,
  type Version,
} from "./gallery-state.ts";
import { regionDisplayName } from "./regions.ts";
import { changeOf, checkName } from "./version-request.ts";
import { type Names, versionBody } from "./version-view.ts";
import { vhdFault } from "./vhd.ts";

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
  // Looking at the disk took a moment, in which another client may have made the same version.
  if (old === undefined && definition.versions.has(names.version)) {
    await version.import.disk.release();
    throw armRefusals.conflict();
  }
  Object.assign(version, change, { tags });
  dropReplicas(version);
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

/** Replicas in regions that are no longer asked for are gone at once. */
function dropReplicas(version: Version): void {
  for (const region of version.replicas.keys()) {
    if (!version.targetRegions.some((target) => target.region === region)) version.replicas.delete(region);
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
