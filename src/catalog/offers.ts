/**
 * What offering and taking back need to remember beside the images themselves: what the driver was told about each, and
 * where floating tags pointed before. Every write is safe to repeat.
 */
import type { Kysely, Transaction } from "kysely";
import type { ImageSpec } from "../model.ts";
import type { CatalogTables } from "./schema.ts";

type Db<T = CatalogTables> = Kysely<T> | Transaction<T>;

/** Keeps the newest: a release with more regions replaces what an earlier one wanted. */
export async function recordSpec(db: Db, versionId: string, target: string, spec: ImageSpec): Promise<void> {
  const kept = JSON.stringify(spec);
  await db
    .insertInto("image_specs")
    .values({ version_id: versionId, target, spec: kept })
    .onConflict((conflict) => conflict.columns(["version_id", "target"]).doUpdateSet({ spec: kept }))
    .execute();
}

/** Specs by `versionId target`, of the versions named. */
export async function specsOf(db: Db, versionIds: readonly string[]): Promise<ReadonlyMap<string, ImageSpec>> {
  if (versionIds.length === 0) return new Map();
  const rows = await db
    .selectFrom("image_specs")
    .selectAll()
    .where("version_id", "in", [...new Set(versionIds)])
    .execute();
  return new Map(rows.map((row) => [`${row.version_id} ${row.target}`, row.spec]));
}

export interface TagMove {
  readonly containerId: string;
  readonly tag: string;
  /** Digest the tag pointed at before; undefined: there was no such tag. */
  readonly previous: string | undefined;
}

export async function noteTagMove(db: Db, move: TagMove): Promise<void> {
  const seen = { previous: move.previous ?? null, noted_at: new Date() };
  await db
    .insertInto("tag_moves")
    .values({ container_id: move.containerId, tag: move.tag, ...seen })
    .onConflict((conflict) => conflict.columns(["container_id", "tag"]).doUpdateSet(seen))
    .execute();
}

export async function tagMovesOf(db: Db, containerIds: readonly string[]): Promise<TagMove[]> {
  if (containerIds.length === 0) return [];
  const rows = await db
    .selectFrom("tag_moves")
    .selectAll()
    .where("container_id", "in", [...containerIds])
    .orderBy("container_id")
    .orderBy("tag")
    .execute();
  return rows.map((row) => ({ containerId: row.container_id, tag: row.tag, previous: row.previous ?? undefined }));
}

/** A repository's index after its floating tags came or went. */
export async function setContainerState(
  db: Db,
  id: string,
  state: "candidate" | "active",
  tags: readonly string[],
): Promise<void> {
  await db
    .updateTable("container_images")
    .set({ state, tags: JSON.stringify(tags), changed_at: new Date() })
    .where("id", "=", id)
    .execute();
}
