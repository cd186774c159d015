import type { ColumnType, Generated, JSONColumnType } from "kysely";
import type { ErrorLike, ImageSpec, Json } from "../model.ts";

/**
 * The catalog's tables. Ids are derived from what a row is about, never generated, so a step that is repeated after a
 * crash writes the row it wrote before.
 */
export const CATALOG_MIGRATIONS = [
  {
    name: "catalog-0001-versions",
    up: `

      -- One release of a definition across all targets: the catalog's main noun.
      create table image_versions (
        id text primary key,
        system text not null,
        compose_id text not null,
        kind text not null,
        label text,
        artifact_path text,
        artifact_sha256 text,
        subvariant text not null,
        arch text not null,
        release_number integer not null,
        run_id text not null,
        created_at timestamptz not null default now()
      );
      create index image_versions_compose on image_versions (compose_id, system);

      -- What a VM boots, in one target and region. Replicas are rows like the first one.
      create table cloud_images (
        id text primary key,
        version_id text not null references image_versions (id),
        target text not null,
        cloud text not null,
        region text not null,
        cloud_id text,
        name text not null,
        key text not null,
        disk_id text,
        state text not null check (state in ('missing', 'candidate', 'active', 'deprecated', 'obsolete', 'removed')),
        error jsonb,
        definition text,
        version text,
        created_at timestamptz not null default now(),
        changed_at timestamptz not null default now(),
        offered_at timestamptz,
        unique (version_id, target, region)
      );
      create index cloud_images_name on cloud_images (name);
      create index cloud_images_cloud_id on cloud_images (cloud_id);

      -- A multi-architecture index in one registry repository.
      create table container_images (
        id text primary key,
        system text not null,
        compose_id text not null,
        kind text not null,
        target text not null,
        registry text not null,
        repository text not null,
        digest text not null,
        tags jsonb not null,
        architectures jsonb not null,
        release_number integer not null,
        run_id text not null,
        created_at timestamptz not null default now(),
        changed_at timestamptz not null default now()
      );
      create index container_images_compose on container_images (compose_id, system);

      -- What survives of an upload when the process does not: see images/journal.ts.
      create table transfers (
        id text primary key,
        staged jsonb,
        generation integer not null default 0,
        changed_at timestamptz not null default now()
      );
      -- Appended at every flush; payload is a run of (u32 block or unit number, 32 bytes SHA-256), big endian.
      create table transfer_acks (
        transfer_id text not null references transfers (id) on delete cascade,
        generation integer not null,
        sequence bigint generated always as identity,
        what text not null check (what in ('block', 'unit')),
        payload bytea not null,
        primary key (transfer_id, generation, sequence)
      );
    `,
  },
  {
    name: "catalog-0002-offers",
    up: `
      -- What the driver was told about an image: it is offered, taken back and brought to a late region with it later.
      -- json, not jsonb, keeps the order of tags: AWS takes a repeated copy with tags in another order for another one.
      create table image_specs (
        version_id text not null references image_versions (id),
        target text not null,
        spec json not null,
        primary key (version_id, target)
      );

      alter table container_images
        add column state text not null default 'active' check (state in ('candidate', 'active')),
        add column floating jsonb not null default '[]';

      -- Where a floating tag pointed before a repository's new index took it; null: the tag was not there.
      create table tag_moves (
        container_id text not null,
        tag text not null,
        previous text,
        noted_at timestamptz not null default now(),
        primary key (container_id, tag)
      );
    `,
  },
  {
    name: "catalog-0003-attestations",
    up: `
      -- What a disk is made of, as it was sent: told apart by the artifact it was decoded from.
      create table disk_digests (
        artifact_sha256 text primary key,
        disk_bytes bigint not null,
        block_bytes integer not null,
        blocks_sha256 text not null,
        -- 32 bytes a block, in order; mostly those of zeros, which compress.
        digests bytea not null,
        noted_at timestamptz not null default now()
      );

      -- Signed statements. One that was replaced stays: somebody may hold it.
      create table attestations (
        id text primary key,
        subject_kind text not null check (subject_kind in ('image', 'container')),
        subject_id text not null,
        statement_sha256 text not null,
        predicate_type text not null,
        key_id text not null,
        envelope text not null,
        run_id text not null,
        created_at timestamptz not null default now(),
        -- When it was last found to say what is: the newest counts.
        confirmed_at timestamptz not null default clock_timestamp()
      );
      create index attestations_subject on attestations (subject_id, confirmed_at desc);
    `,
  },
  {
    name: "catalog-0004-held-offers",
    up: `
      -- What is there, could be offered and is not, because of a freeze window.
      create table held_offers (
        compose_id text not null,
        system text not null,
        group_id text not null,
        -- What to promote: {images, containers}.
        choice jsonb not null,
        reason text not null,
        until_at timestamptz not null,
        held_at timestamptz not null default now(),
        -- The run that offers it.
        offered_by text,
        primary key (compose_id, system, group_id)
      );
      create index held_offers_open on held_offers (until_at) where offered_by is null;
    `,
  },
] as const;

export interface CatalogTables {
  image_versions: ImageVersionTable;
  cloud_images: CloudImageTable;
  container_images: ContainerImageTable;
  image_specs: ImageSpecTable;
  tag_moves: TagMoveTable;
  disk_digests: DiskDigestTable;
  attestations: AttestationTable;
  transfers: TransferTable;
  transfer_acks: TransferAckTable;
  held_offers: HeldOfferTable;
}

export interface HeldOfferTable {
  compose_id: string;
  system: string;
  group_id: string;
  choice: ColumnType<{ readonly images: readonly Json[]; readonly containers: readonly string[] }, string, string>;
  reason: string;
  until_at: Date;
  held_at: Generated<Date>;
  offered_by: string | null;
}

export interface ImageVersionTable {
  id: string;
  system: string;
  compose_id: string;
  kind: string;
  label: string | null;
  artifact_path: string | null;
  artifact_sha256: string | null;
  subvariant: string;
  arch: string;
  release_number: number;
  run_id: string;
  created_at: Generated<Date>;
}

export interface CloudImageTable {
  id: string;
  version_id: string;
  target: string;
  cloud: string;
  region: string;
  cloud_id: string | null;
  name: string;
  key: string;
  disk_id: string | null;
  state: "missing" | "candidate" | "active" | "deprecated" | "obsolete" | "removed";
  error: ColumnType<ErrorLike | null, string | null, string | null>;
  definition: string | null;
  version: string | null;
  created_at: Generated<Date>;
  changed_at: Generated<Date>;
  offered_at: Date | null;
}

export interface ContainerImageTable {
  id: string;
  system: string;
  compose_id: string;
  kind: string;
  target: string;
  registry: string;
  repository: string;
  digest: string;
  tags: JSONColumnType<string[]>;
  architectures: JSONColumnType<string[]>;
  release_number: number;
  run_id: string;
  state: Generated<"candidate" | "active">;
  floating: ColumnType<string[], string | undefined, string>;
  created_at: Generated<Date>;
  changed_at: Generated<Date>;
}

export interface ImageSpecTable {
  version_id: string;
  target: string;
  spec: JSONColumnType<ImageSpec>;
}

export interface TagMoveTable {
  container_id: string;
  tag: string;
  previous: string | null;
  noted_at: Generated<Date>;
}

export interface DiskDigestTable {
  artifact_sha256: string;
  /** bigint: comes as text. */
  disk_bytes: ColumnType<string, number, number>;
  block_bytes: number;
  blocks_sha256: string;
  digests: Buffer;
  noted_at: Generated<Date>;
}

export interface AttestationTable {
  id: string;
  subject_kind: "image" | "container";
  subject_id: string;
  statement_sha256: string;
  predicate_type: string;
  key_id: string;
  envelope: string;
  run_id: string;
  created_at: Generated<Date>;
  confirmed_at: Generated<Date>;
}

export interface TransferTable {
  id: string;
  staged: ColumnType<Json | null, string | null, string | null>;
  generation: Generated<number>;
  changed_at: Generated<Date>;
}

export interface TransferAckTable {
  transfer_id: string;
  generation: number;
  sequence: Generated<string>;
  what: "block" | "unit";
  payload: Buffer;
}
