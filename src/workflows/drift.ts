/** What the catalog says against what the clouds hold, as data. Pure. */
import type { CloudResource, Strangers } from "../clouds/cloud.ts";
import type { CloudImage, ErrorLike, Region } from "../model.ts";
import type { LookedAt } from "./steps/look-at-images.ts";

export type DriftKind =
  | "missing" // on record, and gone from the cloud
  | "not-made" // wanted there, and never made
  | "not-public" // offered on record, and nobody sees it
  | "uninvited" // let in, and not of the audience
  | "shut-out" // of the audience, and not let in
  | "public" // a candidate on record, and users see it
  | "state" // deprecated or disabled in the cloud
  | "wrong-tags" // tags are not those it was made with; a container's tag points elsewhere
  | "silent" // the region does not answer: nothing is known
  | "half-made" // begun and never completed; we pay for it
  | "extra"; // ours by its tags, and not on record

export interface Drift {
  readonly kind: DriftKind;
  readonly target: string;
  /** For a container: the tag it is about. */
  readonly region: Region;
  readonly name: string;
  /** The cloud's id, where there is one. */
  readonly id?: string;
  readonly detail?: string;
  readonly error?: ErrorLike;
  /** Done by --repair; the rest needs a person. */
  readonly repairable: boolean;
}

/** What differs for one image version in one target. `held`: what the cloud listed of it, by region and id. */
export function driftOf(looked: LookedAt, held: ReadonlyMap<string, CloudResource>, canRetag = false): Drift[] {
  const { target, name } = looked;
  const home = looked.images.some((image) => image.region === looked.spec.homeRegion);
  const found: Drift[] = [];
  for (const { region, error } of looked.missing) {
    found.push({ kind: "not-made", target, region, name, repairable: home, ...(error === undefined ? {} : { error }) });
  }
  for (const { region, id, error } of looked.absent) {
    const kind = error === undefined ? "missing" : "silent";
    const repairable = kind === "missing" && home && looked.known[region] !== "obsolete";
    found.push({ kind, target, region, name, id, repairable, ...(error === undefined ? {} : { error }) });
  }
  for (const { region, id, state } of looked.images) {
    const known = looked.known[region];
    if (state !== known) {
      const detail = `${known} on record, ${state} in the cloud`;
      if (known === "active" && state === "candidate") {
        found.push({ kind: "not-public", target, region, name, id, detail, repairable: true });
      } else if (known === "candidate" && state === "active") {
        found.push({ kind: "public", target, region, name, id, detail, repairable: false });
      } else found.push({ kind: "state", target, region, name, id, detail, repairable: true });
    }
    const resource = held.get(`${region} ${id}`);
    const wrong = resource === undefined ? [] : wrongTags(looked.spec.tags, resource.tags);
    if (wrong.length > 0) {
      found.push({ kind: "wrong-tags", target, region, name, id, detail: wrong.join(", "), repairable: canRetag });
    }
  }
  return found.sort((a, b) => a.region.localeCompare(b.region) || a.kind.localeCompare(b.kind));
}

/** One tag of a container, kept as the drift's region. Undefined if it points where it should. */
export function tagDrift(
  about: Pick<Drift, "target" | "name" | "id">,
  tag: string,
  wanted: string,
  found: string | undefined,
): Drift | undefined {
  if (found === wanted) return undefined;
  const detail = found === undefined ? "the tag is gone" : `the tag points at ${found}`;
  return { kind: "wrong-tags", ...about, region: tag, detail, repairable: true };
}

/** Who is let in to an offered image against who shall be. Nobody is put out by itself: somebody let them in. */
export function audienceDrift(looked: LookedAt, image: CloudImage, { uninvited, shutOut }: Strangers): Drift[] {
  const base = { target: looked.target, region: image.region, name: looked.name, id: image.id };
  const some = (who: readonly string[]) =>
    who.length > NAMED ? `${who.slice(0, NAMED).join(", ")} and ${who.length - NAMED} more` : who.join(", ");
  return [
    ...(uninvited.length > 0
      ? [{ ...base, kind: "uninvited" as const, detail: `let in: ${some(uninvited)}`, repairable: false }]
      : []),
    ...(shutOut.length > 0
      ? [{ ...base, kind: "shut-out" as const, detail: `not let in: ${some(shutOut)}`, repairable: true }]
      : []),
  ];
}

/** Of an audience of hundreds. */
const NAMED = 5;

/** Clouds differ in the case of tag names they keep. */
function wrongTags(wanted: Readonly<Record<string, string>>, held: Readonly<Record<string, string>>): string[] {
  const there = new Map(Object.entries(held).map(([name, value]) => [name.toLowerCase(), value]));
  return Object.entries(wanted).flatMap(([name, value]) => {
    const found = there.get(name.toLowerCase());
    return found === value ? [] : [`${name} is ${found === undefined ? "gone" : JSON.stringify(found)}`];
  });
}

/** What lies in the account and is on no record. Staged disks of images that are on record belong to them. */
export function straysOf(
  target: string,
  resources: readonly CloudResource[],
  onRecord: { readonly keys: ReadonlySet<string>; readonly ids: ReadonlySet<string> },
): Drift[] {
  return resources.flatMap((resource): Drift[] => {
    const { region, id, name, key, complete, kind, createdAt } = resource;
    const base = { target, region, id, name, repairable: false, ...(createdAt ? { detail: `made ${createdAt}` } : {}) };
    if (!complete) return [{ kind: "half-made", ...base }];
    const known = onRecord.ids.has(`${region} ${id}`) || (key !== undefined && onRecord.keys.has(key));
    if (known || (kind === "staged-disk" && key === undefined)) return [];
    return [{ kind: "extra", ...base }];
  });
}
