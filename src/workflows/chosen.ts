/**
 * What a promotion or a rollback is about: whole image versions and container indexes, as the catalog has them. People
 * name a compose, an image, a cloud's id, or `repository:tag`; the run gets ids.
 */
import type { Kysely } from "kysely";
import {
  type CatalogedContainer,
  type CatalogedImage,
  listContainers,
  listImages,
  type Placement,
} from "../catalog/catalog.ts";
import { specsOf } from "../catalog/offers.ts";
import { SlipwayError } from "../lib/errors.ts";
import type { CloudImage, ErrorLike, ImageSpec, Region } from "../model.ts";
import type { ReleaseFacts } from "./groups.ts";
import type { Tables } from "./services.ts";

/** Plain JSON: the input of a run. */
export interface Choice {
  readonly images: readonly { readonly versionId: string; readonly target: string }[];
  /** Ids of containers. */
  readonly containers: readonly string[];
}

/** One image version in one target. */
export interface ChosenImage {
  readonly facts: ReleaseFacts;
  readonly subvariant: string;
  readonly arch: string;
  readonly cloud: string;
  readonly target: string;
  readonly name: string;
  readonly artifact: { readonly path: string; readonly sha256: string };
  readonly place: Placement;
  readonly spec: ImageSpec;
  readonly images: readonly CloudImage[];
  /** Regions that shall have it and have it not. */
  readonly missing: readonly { readonly region: Region; readonly error?: ErrorLike }[];
}

export interface ChosenContainer extends CatalogedContainer {
  readonly facts: ReleaseFacts;
}

export interface Chosen {
  readonly images: readonly ChosenImage[];
  readonly containers: readonly ChosenContainer[];
}

/** More than a year of Fedora's releases in all regions has. */
const MANY = 100_000;

/**
 * Finds what people name.
 * @throws SlipwayError `not-found` for a name the catalog does not have
 */
export async function choose(
  db: Kysely<Tables>,
  names: readonly string[],
  only: { readonly system?: string | undefined; readonly target?: string | undefined } = {},
): Promise<Choice> {
  const images = new Map<string, Choice["images"][number]>();
  const containers = new Set<string>();
  for (const name of names) {
    const before = images.size + containers.size;
    const exact = (await listImages(db, { composeId: name, limit: MANY })).concat(
      (await listImages(db, { search: name, limit: MANY })).filter((one) => one.name === name || one.id === name),
    );
    for (const { version, target } of exact) {
      if (only.system !== undefined && version.system !== only.system) continue;
      if (only.target !== undefined && target !== only.target) continue;
      images.set(`${version.id} ${target}`, { versionId: version.id, target });
    }
    const boxes = (await listContainers(db, { composeId: name, limit: MANY })).concat(
      (await listContainers(db, { search: name.split(/[:@]/)[0], limit: MANY })).filter((one) => isNamed(one, name)),
    );
    for (const one of boxes) {
      if (only.system !== undefined && one.system !== only.system) continue;
      if (only.target !== undefined && one.target !== only.target) continue;
      containers.add(one.id);
    }
    if (images.size + containers.size === before && exact.length + boxes.length === 0) {
      throw new SlipwayError("not-found", "the catalog has no such compose or image", {
        subject: name,
        next: '"slipway images list" shows what there is. Name a compose, an image, a cloud\'s id or repository:tag.',
      });
    }
  }
  return {
    images: [...images.values()].sort(
      (a, b) => a.versionId.localeCompare(b.versionId) || a.target.localeCompare(b.target),
    ),
    containers: [...containers].sort(),
  };
}

/** A floating tag names what it was moved to, not every index that ever had it: only the version's own tag and digest. */
function isNamed(container: CatalogedContainer, name: string): boolean {
  return (
    container.digest === name ||
    `${container.repository}@${container.digest}` === name ||
    `${container.repository}:${container.tags[0]}` === name
  );
}

/** The catalog's view of a choice. What it no longer has is left out. */
export async function readChosen(db: Kysely<Tables>, choice: Choice): Promise<Chosen> {
  const versions = [...new Set(choice.images.map((one) => one.versionId))];
  const wanted = new Set(choice.images.map((one) => `${one.versionId} ${one.target}`));
  const specs = await specsOf(db, versions);
  const groups = new Map<string, CatalogedImage[]>();
  for (const versionId of versions) {
    for (const row of await listImages(db, { versionId, limit: MANY })) {
      const id = `${versionId} ${row.target}`;
      if (wanted.has(id)) groups.set(id, [...(groups.get(id) ?? []), row]);
    }
  }
  const images = [...groups]
    .sort(([a], [b]) => a.localeCompare(b))
    .map(([id, rows]) => chosenImage(rows, specs.get(id)));
  const boxes = await listContainers(db, { limit: MANY });
  const containers = boxes
    .filter((one) => choice.containers.includes(one.id))
    .map((one) => ({ ...one, facts: { ...factsOf(one), releaseNumber: one.release } }))
    .sort((a, b) => a.repository.localeCompare(b.repository) || a.target.localeCompare(b.target));
  return { images, containers };
}

function chosenImage(rows: readonly CatalogedImage[], kept: ImageSpec | undefined): ChosenImage {
  const first = rows[0]!;
  const { version } = first;
  const place: Placement = {
    versionId: version.id,
    target: first.target,
    cloud: first.cloud,
    name: first.name,
    key: first.key,
    definition: first.definition,
    version: first.definitionVersion,
  };
  const spec = kept ?? specFromRows(first, rows);
  const there = rows.filter((row) => row.id !== undefined && row.state !== "missing" && row.state !== "removed");
  const order = (region: Region) => (region === spec.homeRegion ? -1 : spec.regions.indexOf(region));
  return {
    facts: { ...factsOf(version), releaseNumber: version.release },
    subvariant: version.subvariant,
    arch: version.arch,
    cloud: first.cloud,
    target: first.target,
    name: first.name,
    artifact: { path: version.artifactPath, sha256: version.artifactSha256 },
    place,
    spec,
    images: there
      .map((row): CloudImage => {
        const { key, region, id, name, state, diskId } = row;
        const known = { key, region, id: id!, name, state: state as CloudImage["state"] };
        return diskId === undefined ? known : { ...known, diskId };
      })
      .sort((a, b) => order(a.region) - order(b.region) || a.region.localeCompare(b.region)),
    missing: rows
      .filter((row) => row.state === "missing")
      .map(({ region, error }) => (error === undefined ? { region } : { region, error })),
  };
}

/** For what was released before specs were kept: enough to offer and to take back. */
function specFromRows(first: CatalogedImage, rows: readonly CatalogedImage[]): ImageSpec {
  const regions = rows.map((row) => row.region);
  return {
    key: first.key,
    diskKey: first.key,
    name: first.name,
    description: first.name,
    arch: first.version.arch,
    diskBytes: 0,
    homeRegion: regions[0]!,
    regions,
    ...(first.definition === undefined ? {} : { definition: first.definition }),
    ...(first.definitionVersion === undefined ? {} : { version: first.definitionVersion }),
    tags: {},
  };
}

function factsOf(row: { composeId: string; system: string; kind: string; label?: string | undefined }) {
  const { composeId, system, kind, label } = row;
  return { composeId, system, kind, ...(label === undefined ? {} : { label }) };
}
