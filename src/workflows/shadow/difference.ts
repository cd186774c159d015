/** What two messages about one image say differently, each in a sentence. Pure. */
import { problemWithBody } from "../../bus/message-schemas.ts";
import type { Json } from "../../model.ts";
import type { ExpectedMessage } from "./expected.ts";
import { aboutOf, canonical, isRecord, namesIn, type TheirMessage, titleOf, unprefixed } from "./subject.ts";

export const DIFFERENCE_KINDS = [
  "missing-there", // we would publish it, they did not
  "missing-here", // they published it, we would not
  "duplicate", // published more often than we would
  "topic",
  "name", // of the image, its definition, version or family
  "release",
  "regions-only-here",
  "regions-only-there",
  "tags",
  "registries",
  "architectures",
  "id", // theirs has not the form of that cloud
  "field", // any other
  "schema", // theirs names another schema, or breaks it
  "severity",
] as const;
export type DifferenceKind = (typeof DIFFERENCE_KINDS)[number];

export interface Difference {
  readonly kind: DifferenceKind;
  /** `aws Cloud_Base x86_64`, `container fedora`. */
  readonly about: string;
  readonly field?: string;
  /** What each side says; absent where it says nothing. */
  readonly ours?: Json;
  readonly theirs?: Json;
  /** Of their message. */
  readonly message?: string;
  /** All of it, in a sentence for people. May hold text that a sender chose. */
  readonly words: string;
}

// Maps, for a sender chooses the names of fields: every object has a "constructor".
const LISTS: ReadonlyMap<string, DifferenceKind> = new Map([
  ["tags", "tags"],
  ["registries", "registries"],
  ["architectures", "architectures"],
]);
const REGIONS: ReadonlySet<string> = new Set(["regions", "storage_locations"]);
const KINDS: ReadonlyMap<string, DifferenceKind> = new Map([
  ["image_name", "name"],
  ["image_definition_name", "name"],
  ["image_version_name", "name"],
  ["family", "name"],
  ["release", "release"],
]);

/** Empty if both say the same. Ids that only a cloud gives are looked at for their form. */
export function differencesOf(ours: ExpectedMessage, theirs: TheirMessage): Difference[] {
  const found: Difference[] = [];
  const about = aboutOf(ours);
  const say = (kind: DifferenceKind, words: string, more: Partial<Difference> = {}) =>
    void found.push({ kind, about, ...more, message: theirs.id, words });
  const differ = (kind: DifferenceKind, field: string, one: Json | undefined, other: Json | undefined) =>
    say(kind, `${field}: theirs ${quoted(other)}, ours ${quoted(one)}`, {
      field,
      ...(one === undefined ? {} : { ours: one }),
      ...(other === undefined ? {} : { theirs: other }),
    });

  const topic = unprefixed(theirs.topic);
  if (topic !== ours.topic) differ("topic", "topic", ours.topic, topic);
  if (theirs.schema !== ours.schema) differ("schema", "schema", ours.schema, theirs.schema);
  if (theirs.severity !== ours.severity) differ("severity", "severity", ours.severity, theirs.severity);
  const fault = problemWithBody(ours.schema, theirs.body);
  if (fault !== undefined) say("schema", `theirs breaks the schema that readers check: ${fault}`);

  for (const field of [...new Set([...Object.keys(ours.body), ...Object.keys(theirs.body)])].sort()) {
    const one = own(ours.body, field);
    const other = own(theirs.body, field);
    const list = LISTS.get(field);
    // Every field of ours is one that the schema requires: that one is not there was said above.
    if (other === undefined && fault !== undefined) continue;
    const here = namesIn(one);
    const there = namesIn(other);
    if (one === null) {
      if (!hasForm(field, other, theirs.body)) {
        say("id", `${field}: ${quoted(other)} has not the form of such an id`, {
          field,
          ...(other === undefined ? {} : { theirs: other }),
        });
      }
    } else if (REGIONS.has(field) && here !== undefined && there !== undefined) {
      const [onlyHere, onlyThere] = [without(here, there), without(there, here)];
      if (onlyHere.length > 0)
        say("regions-only-here", `${field}: only ours ${named(onlyHere)}`, { field, ours: onlyHere });
      if (onlyThere.length > 0 && !ours.allRegions) {
        say("regions-only-there", `${field}: only theirs ${named(onlyThere)}`, { field, theirs: onlyThere });
      }
      for (const [region, id] of Object.entries(isRecord(other) ? other : {})) {
        if (hasForm("ami", id, theirs.body)) continue;
        say("id", `${field}: ${quoted(id)} in ${region} has not the form of such an id`, { field, theirs: id });
      }
    } else if (list !== undefined && here !== undefined && there !== undefined) {
      const [onlyHere, onlyThere] = [without(here, there), without(there, here)];
      if (onlyHere.length + onlyThere.length === 0) continue;
      const parts = [
        ...(onlyThere.length > 0 ? [`only theirs ${named(onlyThere)}`] : []),
        ...(onlyHere.length > 0 ? [`only ours ${named(onlyHere)}`] : []),
      ];
      say(list, `${field}: ${parts.join("; ")}`, { field, ours: onlyHere, theirs: onlyThere });
    } else if (one === undefined || other === undefined || canonical(one) !== canonical(other)) {
      differ(KINDS.get(field) ?? "field", field, one, other);
    }
  }
  return found;
}

/** What the first has more of than the second; one that stands twice counts twice. */
function without(some: readonly string[], others: readonly string[]): string[] {
  const left = [...others];
  const more = some.filter((one) => {
    const at = left.indexOf(one);
    if (at >= 0) left.splice(at, 1);
    return at < 0;
  });
  return more.sort();
}

/** Ids and addresses differ between two accounts, or two images; their form does not. */
function hasForm(what: string, value: Json | undefined, body: Readonly<Record<string, Json>>): boolean {
  if (typeof value !== "string") return false;
  switch (what) {
    case "ami":
      // Eight digits until 2016, seventeen since.
      return /^ami-([0-9a-f]{8}|[0-9a-f]{17})$/.test(value);
    case "image_resource_id":
      return /^\/subscriptions\/[^/\s]+\/resourceGroups\/[^/\s]+\/providers\/Microsoft\.Compute\/\S+$/i.test(value);
    case "image_url": {
      const form =
        /^https:\/\/(?:www|compute)\.googleapis\.com\/compute\/v1\/projects\/[^/\s]+\/global\/images\/(\S+)$/;
      return form.exec(value)?.[1] === body.image_name;
    }
    default:
      return value !== "";
  }
}

export function missingThere(one: ExpectedMessage): Difference {
  const words = `we would publish ${titleOf(one)}, they did not`;
  return { kind: "missing-there", about: aboutOf(one), ours: { ...one.body }, words };
}

export function missingHere(one: TheirMessage): Difference {
  const words = `they published ${titleOf(one)}, we would not`;
  return { kind: "missing-here", about: aboutOf(one), theirs: { ...one.body }, message: one.id, words };
}

export function duplicate(one: TheirMessage, twin: TheirMessage): Difference {
  const same = canonical(one.body) === canonical(twin.body);
  const words = `they published it again as ${one.id}, ${same ? "saying the same" : `saying ${titleOf(one)}`}`;
  return { kind: "duplicate", about: aboutOf(one), theirs: { ...one.body }, message: one.id, words };
}

function own(body: Readonly<Record<string, Json>>, field: string): Json | undefined {
  return Object.hasOwn(body, field) ? body[field] : undefined;
}

/** A cloud has fewer regions; a sentence with a thousand is read by nobody. All of them are beside it. */
const MOST_NAMED = 60;

function named(names: readonly string[]): string {
  const more = names.length - MOST_NAMED;
  return names.slice(0, MOST_NAMED).join(", ") + (more > 0 ? ` and ${more} more` : "");
}

const MOST_QUOTED = 300;

function quoted(value: Json | undefined): string {
  return value === undefined ? "nothing" : JSON.stringify(value).slice(0, MOST_QUOTED);
}
