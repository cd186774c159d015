/** What the compute service keeps: galleries, image definitions, image versions, and the operations under way. */
import { randomUUID } from "node:crypto";
import type { JsonObject } from "./arm-body.ts";
import { type ArmError, armRefusals } from "./arm-error.ts";
import type { BlobStore } from "./blob-store.ts";
import type { PageData } from "./page-data.ts";

/** How long things take, in milliseconds. Zero: done when first looked at. */
export interface Timings {
  /** Making and deleting anything. */
  readonly operationMs: number;
  /** Copying a blob into a version; while it runs the blob must stay as it is. */
  readonly importMs: number;
  /** Bringing a version to one region; all regions at once. */
  readonly replicationMs: number;
  /** How long a list lags behind what was made or deleted. A GET by name does not. */
  readonly visibleAfterMs: number;
}

export type RegionOutage = "fails" | "hangs";

export interface Limits {
  readonly galleries: number;
  readonly definitions: number;
  readonly versions: number;
  /** Replicas of one version, all regions together. */
  readonly replicas: number;
}

export type Provisioning = "Creating" | "Updating" | "Succeeded" | "Failed" | "Deleting";

/** Common to all three kinds. */
export interface Resource {
  readonly name: string;
  readonly location: string;
  readonly created: number;
  tags: Record<string, string> | undefined;
  provisioning: Provisioning;
}

export interface Gallery extends Resource {
  description: string | undefined;
  permissions: "Private" | "Groups" | "Community";
  community: JsonObject | undefined;
  softDelete: boolean | undefined;
  /** Set when the community gallery is enabled; the name the world knows it by. */
  publicName: string | undefined;
  readonly definitions: Map<string, Definition>;
  readonly ghosts: Ghost[];
}

export interface Definition extends Resource {
  /** As accepted, with defaults filled in. */
  properties: JsonObject;
  readonly versions: Map<string, Version>;
  readonly ghosts: Ghost[];
}

export interface Version extends Resource {
  targetRegions: TargetRegion[];
  replicaCount: number;
  storageAccountType: string;
  replicationMode: string;
  excludeFromLatest: boolean;
  endOfLife: string | undefined;
  readonly published: number;
  blockDeletion: boolean;
  allowRegionDeletion: boolean;
  readonly source: { readonly storageAccountId: string; readonly uri: string };
  readonly hostCaching: string;
  readonly import: Import;
  /** By region name, in the order they were asked for. */
  readonly replicas: Map<string, Replica>;
  operation: Operation | undefined;
}

/** The copy of a blob's bytes a version is made of. */
export interface Import {
  readonly until: number;
  readonly disk: PageData;
  /** True as long as the blob is the one the import began with. */
  readonly sourceIsUnchanged: () => boolean;
  fault: string | undefined;
  done: boolean;
}

export interface TargetRegion {
  /** `eastus`. */
  readonly region: string;
  readonly replicas: number;
  readonly storageAccountType: string;
  readonly excludeFromLatest: boolean | undefined;
}

export interface Replica {
  state: "Replicating" | "Completed" | "Failed";
  readonly since: number;
  details: string | undefined;
}

/** A deleted resource that lists still show. */
export interface Ghost {
  readonly body: JsonObject;
  readonly until: number;
}

/** A long-running operation, as its polling address shows it. */
export interface Operation {
  readonly id: string;
  readonly started: number;
  status: "InProgress" | "Succeeded" | "Failed";
  ended: number | undefined;
  error: ArmError | undefined;
  /** Looks whether it is over; called on every request until it is. */
  readonly settle: (now: number, operation: Operation) => Promise<void>;
}

export interface ComputeState {
  readonly subscriptionId: string;
  readonly resourceGroup: string;
  readonly storageAccountId: string;
  readonly storageAccount: string;
  readonly storageLocation: string;
  readonly timings: Timings;
  readonly limits: Limits;
  readonly store: BlobStore;
  readonly galleries: Map<string, Gallery>;
  readonly ghosts: Ghost[];
  readonly operations: Map<string, Operation>;
  readonly outages: Map<string, RegionOutage>;
}

/** Operations that are over are kept for as long as a client may still ask. */
const MOST_OPERATIONS_KEPT = 10_000;

export function startOperation(state: ComputeState, now: number, settle: Operation["settle"]): Operation {
  const operation: Operation = {
    id: randomUUID(),
    started: now,
    status: "InProgress",
    ended: undefined,
    error: undefined,
    settle,
  };
  if (state.operations.size >= MOST_OPERATIONS_KEPT) {
    const over = [...state.operations.values()].find((old) => old.status !== "InProgress");
    if (over !== undefined) state.operations.delete(over.id);
  }
  state.operations.set(operation.id, operation);
  return operation;
}

export function endOperation(operation: Operation, now: number, error?: ArmError): void {
  operation.status = error === undefined ? "Succeeded" : "Failed";
  operation.error = error;
  operation.ended = now;
}

/** Lets time pass: whatever should be over by now is. */
export async function settle(state: ComputeState, now: number): Promise<void> {
  for (const operation of state.operations.values()) {
    if (operation.status === "InProgress") await operation.settle(now, operation);
  }
}

/** Resources of a list: those old enough to be seen, and those whose deletion has not been noticed yet. */
export function listed<T extends Resource>(
  state: ComputeState,
  things: Iterable<T>,
  ghosts: Ghost[],
  now: number,
  body: (thing: T) => JsonObject,
): JsonObject[] {
  const alive = [...things].filter((thing) => now >= thing.created + state.timings.visibleAfterMs).map(body);
  return [...alive, ...ghosts.filter((ghost) => ghost.until > now).map((ghost) => ghost.body)];
}

export function haunt(state: ComputeState, ghosts: Ghost[], body: JsonObject, now: number): void {
  const left = ghosts.filter((ghost) => ghost.until > now);
  ghosts.splice(0, ghosts.length, ...left);
  if (state.timings.visibleAfterMs > 0) ghosts.push({ body, until: now + state.timings.visibleAfterMs });
}

export function findGallery(state: ComputeState, name: string): Gallery {
  const gallery = state.galleries.get(name.toLowerCase());
  if (gallery === undefined) throw armRefusals.notFound("Microsoft.Compute/galleries", name, state.resourceGroup);
  return gallery;
}

export function findDefinition(state: ComputeState, gallery: string, name: string): Definition {
  const definition = findGallery(state, gallery).definitions.get(name.toLowerCase());
  if (definition === undefined) {
    throw armRefusals.notFound("Microsoft.Compute/galleries", `${gallery}/images/${name}`, state.resourceGroup);
  }
  return definition;
}

export function findVersion(state: ComputeState, gallery: string, definition: string, name: string): Version {
  const version = findDefinition(state, gallery, definition).versions.get(name);
  if (version === undefined) {
    const path = `${gallery}/images/${definition}/versions/${name}`;
    throw armRefusals.notFound("Microsoft.Compute/galleries", path, state.resourceGroup);
  }
  return version;
}

export function galleryId(state: ComputeState, gallery: string): string {
  return `/subscriptions/${state.subscriptionId}/resourceGroups/${state.resourceGroup}/providers/Microsoft.Compute/galleries/${gallery}`;
}

export function countVersions(state: ComputeState): { galleries: number; definitions: number; versions: number } {
  const definitions = [...state.galleries.values()].flatMap((gallery) => [...gallery.definitions.values()]);
  const versions = definitions.reduce((sum, definition) => sum + definition.versions.size, 0);
  return { galleries: state.galleries.size, definitions: definitions.length, versions };
}
