/**
 * The catalog: what was released, where it is, and in which state. Our record; the clouds are the truth it is compared
 * with. Knows no cloud's API and no run's logic. Every write is an upsert under a derived id: safe to repeat.
 */
import { createHash } from "node:crypto";
import { type Kysely, type Selectable, sql, type Transaction } from "kysely";
import type { CloudImage, ErrorLike, LifecycleState } from "../model.ts";
import type { CatalogTables } from "./schema.ts";

type Db<T = CatalogTables> = Kysely<T> | Transaction<T>;

export interface ImageVersion {
  readonly id: string;
  readonly system: string;
  readonly composeId: string;
  /** rc, nightly, rawhide, eln, branched. */
  readonly kind: string;
  readonly label: string | undefined;
  readonly artifactPath: string;
  readonly artifactSha256: string;
  readonly subvariant: string;
  readonly arch: string;
  readonly release: number;
}

export interface CatalogedImage {
  readonly version: ImageVersion;
  readonly target: string;
  readonly cloud: string;
  readonly region: string;
  readonly id: string | undefined;
  readonly name: string;
  readonly key: string;
  readonly diskId: string | undefined;
  /** `missing`: wanted there, and not there yet; `error` says why. */
  readonly state: LifecycleState | "missing";
  readonly error: ErrorLike | undefined;
  readonly definition: string | undefined;
  readonly definitionVersion: string | undefined;
  readonly offeredAt: string | undefined;
  readonly changedAt: string;
}

export interface CatalogedContainer {
  readonly id: string;
  readonly system: string;
  readonly composeId: string;
  readonly kind: string;
  readonly target: string;
  readonly registry: string;
  readonly repository: string;
  readonly digest: string;
  /** Those that point at it by our doing: its version's own, and the floating ones while it is active. */
  readonly tags: readonly string[];
  /** candidate: under its version's own tag only. */
  readonly state: "candidate" | "active";
  /** Tags that follow when it is offered. */
  readonly floating: readonly string[];
  readonly architectures: readonly string[];
  readonly release: number;
  readonly changedAt: string;
}

/** Id of the version that an artifact of a compose becomes in a system: the same whoever asks, however often. */
export function versionId(system: string, composeId: string, artifactSha256: string, arch: string): string {
  return derive("version", system, composeId, artifactSha256, arch);
}

export async function recordVersion(db: Db, version: ImageVersion, runId: string): Promise<void> {
  await db
    .insertInto("image_versions")
    .values({
      id: version.id,
      system: version.system,
      compose_id: version.composeId,
      kind: version.kind,
      label: version.label ?? null,
      artifact_path: version.artifactPath,
      artifact_sha256: version.artifactSha256,
      subvariant: version.subvariant,
      arch: version.arch,
      release_number: version.release,
      run_id: runId,
    })
    .onConflict((conflict) => conflict.column("id").doNothing())
    .execute();
}

/** Where an image of a version belongs: what is the same for a replica that is there and one that is missing. */
export interface Placement {
  readonly versionId: string;
  readonly target: string;
  readonly cloud: string;
  readonly name: string;
  readonly key: string;
  readonly definition?: string | undefined;
  readonly version?: string | undefined;
}

export async function recordImage(db: Db, place: Placement, image: CloudImage): Promise<void> {
  const found = {
    cloud_id: image.id,
    name: image.name,
    key: place.key,
    disk_id: image.diskId ?? null,
    state: image.state,
    error: null,
    changed_at: new Date(),
    ...(image.state === "active" ? { offered_at: OFFERED_AT } : {}),
  };
  await upsert(db, place, image.region, found);
}

/**
 * A region that shall have the image and has it not. Never hides an image that is on record there; with `leftBehind` it
 * does hide a candidate: one that an attempt saw and a later one did not, so that it was not offered with the others.
 */
export async function recordMissing(
  db: Db,
  place: Placement,
  region: string,
  error: ErrorLike,
  { leftBehind = false } = {},
): Promise<void> {
  await db
    .insertInto("cloud_images")
    .values({ ...row(place, region), state: "missing", error: JSON.stringify(error) })
    .onConflict((conflict) =>
      conflict
        .column("id")
        .doUpdateSet({ state: "missing", cloud_id: null, error: JSON.stringify(error), changed_at: new Date() })
        .where("cloud_images.state", "in", leftBehind ? ["missing", "candidate"] : ["missing"]),
    )
    .execute();
}

function row(place: Placement, region: string) {
  return {
    id: derive("image", place.versionId, place.target, region),
    version_id: place.versionId,
    target: place.target,
    cloud: place.cloud,
    region,
    name: place.name,
    key: place.key,
    cloud_id: null,
    disk_id: null,
    definition: place.definition ?? null,
    version: place.version ?? null,
    error: null,
    offered_at: null,
  };
}

/** An image that is offered already keeps the time at which it was. */
const OFFERED_AT = sql<Date>`case when cloud_images.state = 'active'
  then coalesce(cloud_images.offered_at, clock_timestamp()) else clock_timestamp() end`;

async function upsert(
  db: Db,
  place: Placement,
  region: string,
  found: {
    cloud_id: string;
    name: string;
    key: string;
    disk_id: string | null;
    state: LifecycleState;
    error: null;
    changed_at: Date;
    offered_at?: typeof OFFERED_AT;
  },
): Promise<void> {
  const { offered_at, ...first } = found;
  await db
    .insertInto("cloud_images")
    .values({ ...row(place, region), ...first, offered_at: offered_at === undefined ? null : new Date() })
    .onConflict((conflict) => conflict.column("id").doUpdateSet(found))
    .execute();
}

/** Id of what a compose of a system leaves in a repository. */
export function containerId(container: Pick<CatalogedContainer, "system" | "composeId" | "target" | "repository">) {
  return derive("container", container.system, container.composeId, container.target, container.repository);
}

/** What somebody has offered meanwhile is not a candidate again because a release would have made it one. */
export async function recordContainer(
  db: Db,
  container: Omit<CatalogedContainer, "changedAt" | "id">,
  runId: string,
): Promise<void> {
  const found = {
    digest: container.digest,
    tags: JSON.stringify(container.tags),
    state: container.state,
    floating: JSON.stringify(container.floating),
    architectures: JSON.stringify(container.architectures),
    changed_at: new Date(),
  };
  const kept = container.state === "candidate" ? { ...found, tags: STILL_TAGGED, state: STILL_ACTIVE } : found;
  await db
    .insertInto("container_images")
    .values({
      id: containerId(container),
      system: container.system,
      compose_id: container.composeId,
      kind: container.kind,
      target: container.target,
      registry: container.registry,
      repository: container.repository,
      release_number: container.release,
      run_id: runId,
      ...found,
    })
    .onConflict((conflict) => conflict.column("id").doUpdateSet(kept))
    .execute();
}

const STILL_ACTIVE = sql<"candidate" | "active">`container_images.state`;
const STILL_TAGGED = sql<string>`case when container_images.state = 'active'
  then container_images.tags else excluded.tags end`;

export interface ImageFilter {
  readonly composeId?: string | undefined;
  readonly system?: string | undefined;
  readonly versionId?: string | undefined;
  readonly target?: string | undefined;
  /** Part of a name, an id or a compose id. */
  readonly search?: string | undefined;
  readonly state?: CatalogedImage["state"] | undefined;
  readonly limit?: number | undefined;
}

/** Newest composes first, then by name, target and region. */
export async function listImages(db: Kysely<CatalogTables>, filter: ImageFilter): Promise<CatalogedImage[]> {
  let query = db
    .selectFrom("cloud_images as image")
    .innerJoin("image_versions as version", "version.id", "image.version_id")
    .select([
      "version.id as version_id",
      "version.system",
      "version.compose_id",
      "version.kind",
      "version.label",
      "version.artifact_path",
      "version.artifact_sha256",
      "version.subvariant",
      "version.arch",
      "version.release_number",
      "image.target",
      "image.cloud",
      "image.region",
      "image.cloud_id",
      "image.name",
      "image.key",
      "image.disk_id",
      "image.state",
      "image.error",
      "image.definition",
      "image.version",
      "image.offered_at",
      "image.changed_at",
    ])
    .orderBy("version.created_at", "desc")
    .orderBy("image.name")
    .orderBy("image.target")
    .orderBy("image.region")
    .limit(filter.limit ?? 1000);
  if (filter.composeId !== undefined) query = query.where("version.compose_id", "=", filter.composeId);
  if (filter.system !== undefined) query = query.where("version.system", "=", filter.system);
  if (filter.versionId !== undefined) query = query.where("version.id", "=", filter.versionId);
  if (filter.target !== undefined) query = query.where("image.target", "=", filter.target);
  if (filter.state !== undefined) query = query.where("image.state", "=", filter.state);
  if (filter.search !== undefined) {
    const like = `%${filter.search.replace(/[\\%_]/g, (character) => `\\${character}`)}%`;
    query = query.where((where) =>
      where.or([
        where("image.name", "ilike", like),
        where("image.cloud_id", "ilike", like),
        where("version.compose_id", "ilike", like),
      ]),
    );
  }
  const rows = await query.execute();
  return rows.map((found) => ({
    version: {
      id: found.version_id,
      system: found.system,
      composeId: found.compose_id,
      kind: found.kind,
      label: found.label ?? undefined,
      artifactPath: found.artifact_path ?? "",
      artifactSha256: found.artifact_sha256 ?? "",
      subvariant: found.subvariant,
      arch: found.arch,
      release: found.release_number,
    },
    target: found.target,
    cloud: found.cloud,
    region: found.region,
    id: found.cloud_id ?? undefined,
    name: found.name,
    key: found.key,
    diskId: found.disk_id ?? undefined,
    state: found.state,
    error: found.error ?? undefined,
    definition: found.definition ?? undefined,
    definitionVersion: found.version ?? undefined,
    offeredAt: found.offered_at?.toISOString(),
    changedAt: found.changed_at.toISOString(),
  }));
}

export async function listContainers(
  db: Kysely<CatalogTables>,
  filter: Pick<ImageFilter, "composeId" | "system" | "limit" | "search">,
): Promise<CatalogedContainer[]> {
  let query = db
    .selectFrom("container_images")
    .selectAll()
    .orderBy("created_at", "desc")
    .orderBy("repository")
    .orderBy("target")
    .limit(filter.limit ?? 1000);
  if (filter.composeId !== undefined) query = query.where("compose_id", "=", filter.composeId);
  if (filter.system !== undefined) query = query.where("system", "=", filter.system);
  if (filter.search !== undefined) {
    const like = `%${filter.search.replace(/[\\%_]/g, (character) => `\\${character}`)}%`;
    query = query.where((where) => where.or([where("repository", "ilike", like), where("compose_id", "ilike", like)]));
  }
  return (await query.execute()).map(containerOf);
}

export async function containersById(db: Kysely<CatalogTables>, ids: readonly string[]): Promise<CatalogedContainer[]> {
  if (ids.length === 0) return [];
  const rows = await db
    .selectFrom("container_images")
    .selectAll()
    .where("id", "in", [...ids])
    .orderBy("repository")
    .orderBy("target")
    .execute();
  return rows.map(containerOf);
}

function containerOf(found: Selectable<CatalogTables["container_images"]>): CatalogedContainer {
  return {
    id: found.id,
    system: found.system,
    composeId: found.compose_id,
    kind: found.kind,
    target: found.target,
    registry: found.registry,
    repository: found.repository,
    digest: found.digest,
    tags: found.tags,
    state: found.state,
    floating: found.floating,
    architectures: found.architectures,
    release: found.release_number,
    changedAt: found.changed_at.toISOString(),
  };
}

function derive(...parts: readonly string[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 40);
}
