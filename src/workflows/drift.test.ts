import { expect, test } from "vitest";
import type { CloudResource } from "../clouds/cloud.ts";
import type { CloudImage } from "../model.ts";
import { audienceDrift, driftOf, straysOf } from "./drift.ts";
import { imageSpec } from "./specs.ts";
import type { LookedAt } from "./steps/look-at-images.ts";
import { plannedImage } from "./testing/planned.ts";

const spec = imageSpec(plannedImage());

function image(region: string, state: CloudImage["state"] = "active"): CloudImage {
  return { key: spec.key, region, id: `ami-${region}`, name: spec.name, state };
}

function looked(changes: Partial<LookedAt> = {}): LookedAt {
  return {
    facts: { composeId: "C-1", system: "cloud", kind: "rc", releaseNumber: 43 },
    ...{ subvariant: "Cloud_Base", arch: "x86_64", cloud: "aws", target: "aws", name: spec.name, spec },
    artifact: { path: "x.raw.xz", sha256: "ab" },
    place: { versionId: "v", target: "aws", cloud: "aws", name: spec.name, key: spec.key },
    images: [image("us-east-1"), image("eu-west-1")],
    known: { "us-east-1": "active", "eu-west-1": "active" },
    missing: [],
    absent: [],
    ...changes,
  };
}

function resource(region: string, changes: Partial<CloudResource> = {}): CloudResource {
  const tags = { ...spec.tags };
  return {
    kind: "image",
    key: spec.key,
    region,
    id: `ami-${region}`,
    name: spec.name,
    complete: true,
    tags,
    ...changes,
  };
}

const held = (...all: CloudResource[]) => new Map(all.map((one) => [`${one.region} ${one.id}`, one]));
const down = { code: "unavailable", message: "is down" };

const cases: { name: string; given: Partial<LookedAt>; found: string[] }[] = [
  { name: "all as it should be", given: {}, found: [] },
  {
    name: "gone",
    given: { images: [image("us-east-1")], absent: [{ region: "eu-west-1", id: "ami-2" }] },
    found: ["eu-west-1 missing repairable"],
  },
  {
    name: "gone from home: nothing to copy from",
    given: { images: [image("eu-west-1")], absent: [{ region: "us-east-1", id: "ami-1" }] },
    found: ["us-east-1 missing"],
  },
  {
    name: "no answer is no drift to repair",
    given: { images: [image("us-east-1")], absent: [{ region: "eu-west-1", id: "ami-2", error: down }] },
    found: ["eu-west-1 silent"],
  },
  {
    name: "never made",
    given: { missing: [{ region: "ap-south-1", error: down }] },
    found: ["ap-south-1 not-made repairable"],
  },
  {
    name: "private",
    given: { images: [image("us-east-1", "candidate"), image("eu-west-1")] },
    found: ["us-east-1 not-public repairable"],
  },
  {
    name: "out before its time",
    given: { known: { "us-east-1": "candidate", "eu-west-1": "active" } },
    found: ["us-east-1 public"],
  },
  {
    name: "deprecated by its date",
    given: { images: [image("us-east-1", "deprecated"), image("eu-west-1")] },
    found: ["us-east-1 state repairable"],
  },
];

test.each(cases)("$name", ({ given, found }) => {
  const drift = driftOf(looked(given), new Map());
  expect(drift.map((one) => `${one.region} ${one.kind}${one.repairable ? " repairable" : ""}`)).toEqual(found);
});

test("tags that were changed or lost are named; a cloud may write their names differently", () => {
  const lower = Object.fromEntries(Object.entries(spec.tags).map(([name, value]) => [name.toLowerCase(), value]));
  expect(driftOf(looked(), held(resource("us-east-1", { tags: lower })))).toEqual([]);
  expect(driftOf(looked(), held(resource("us-east-1", { tags: { ComposeID: "other" } })))).toMatchObject([
    { kind: "wrong-tags", detail: 'ComposeID is "other"', repairable: false },
  ]);
  expect(driftOf(looked(), held(resource("us-east-1", { tags: {} })))[0]?.detail).toBe("ComposeID is gone");
});

test("what nobody has on record, and what was never completed; staged disks belong to their images", () => {
  const onRecord = { keys: new Set([spec.key, "disk"]), ids: new Set(["us-east-1 ami-us-east-1"]) };
  const found = straysOf(
    "aws",
    [
      resource("us-east-1"),
      resource("eu-west-1", { id: "snap-1", kind: "staged-disk", key: "disk" }),
      resource("eu-west-1", {
        id: "snap-2",
        kind: "staged-disk",
        key: "disk",
        complete: false,
        createdAt: "2026-01-01",
      }),
      resource("eu-west-1", { id: "ami-9", key: "another" }),
    ],
    onRecord,
  );
  expect(found.map((one) => `${one.kind} ${one.id} ${one.detail ?? ""}`)).toEqual([
    "half-made snap-2 made 2026-01-01",
    "extra ami-9 ",
  ]);
});

test("who is let in against who shall be: what a person opened is told, what is closed is opened again", () => {
  const there = looked();
  const many = ["1", "2", "3", "4", "5", "6", "7"];
  expect(audienceDrift(there, image("eu-west-1"), { uninvited: many, shutOut: ["8"] })).toEqual([
    {
      ...{ kind: "uninvited", target: "aws", region: "eu-west-1", name: spec.name, id: "ami-eu-west-1" },
      ...{ detail: "let in: 1, 2, 3, 4, 5 and 2 more", repairable: false },
    },
    {
      ...{ kind: "shut-out", target: "aws", region: "eu-west-1", name: spec.name, id: "ami-eu-west-1" },
      ...{ detail: "not let in: 8", repairable: true },
    },
  ]);
  expect(audienceDrift(there, image("eu-west-1"), { uninvited: [], shutOut: [] })).toEqual([]);
});
