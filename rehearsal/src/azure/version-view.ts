/** A version as it is shown: to its owner, in lists, to the community, and to who asks for `latest`. */
import type { JsonObject } from "./arm-body.ts";
import {
  type ComputeState,
  type Definition,
  findDefinition,
  findGallery,
  type Gallery,
  galleryId,
  listed,
  type Replica,
  type Version,
} from "./gallery-state.ts";
import { regionDisplayName, regionName } from "./regions.ts";

const GIB = 1024 ** 3;

export interface Names {
  readonly gallery: string;
  readonly definition: string;
  readonly version: string;
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
