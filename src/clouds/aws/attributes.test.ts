import { afterEach, beforeEach, expect, test } from "vitest";
import { memoryJournal } from "../../images/journal.ts";
import { quietCall } from "../../lib/call.ts";
import { GiB, MiB } from "../../lib/units.ts";
import type { CloudImage, ImageSpec } from "../../model.ts";
import type { Cloud } from "../cloud.ts";
import { fakeDisk } from "../testing/disks.ts";
import { deprecationTime } from "./deprecation.ts";
import { openWeather, type Weather } from "./testing/weather.ts";

const REGIONS = ["us-east-1", "eu-west-1"];
const call = quietCall();
let weather: Weather;
let cloud: Cloud;
beforeEach(async () => {
  weather = await openWeather();
  cloud = weather.open();
});
afterEach(() => weather.close());

test("what the rule says of an image is what it is registered with, in every region", async () => {
  const aws = {
    ...({ bootMode: "uefi", imds: "optional", tpm: "v2.0", sriov: false, uefiData: "QU1aTlVFRkk=" } as const),
    volume: { type: "io2", sizeGiB: 12, iops: 500 },
  } as const;
  await made({ aws });
  for (const region of REGIONS) {
    const [image] = weather.simulator.state.images(region);
    expect(image).toMatchObject({
      ...{ bootMode: "uefi", imdsSupport: undefined, tpmSupport: "v2.0", sriovNetSupport: undefined },
      ...{ enaSupport: true, uefiData: "QU1aTlVFRkk=" },
      mappings: [{ volumeType: "io2", volumeSize: 12, iops: 500 }],
    });
  }
});

test("images and snapshots carry all tags from the moment they are made, copies too", async () => {
  await made({ endOfLife: "2027-06-01", aws: { parameter: "/fedora/latest" } });
  const { state } = weather.simulator;
  const all = [...state.images(), ...state.snapshots()];
  expect(all.map(({ kind, region }) => `${kind} ${region}`).sort()).toEqual(
    ["image", "snapshot"].flatMap((kind) => [...REGIONS].sort().map((region) => `${kind} ${region}`)),
  );
  for (const { tags } of all) {
    expect(Object.fromEntries(tags)).toMatchObject({
      ...weather.spec.tags,
      Name: weather.spec.name,
      ...{ "slipway:key": weather.spec.key, "slipway:disk-key": weather.spec.diskKey, "slipway:owner": "slipway" },
      ...{ "slipway:end-of-life": "2027-06-01", "slipway:parameter": "/fedora/latest" },
    });
  }
  // None had to be added later, when a crash could have come between.
  expect([...state.calls.keys()].filter((name) => name.startsWith("ec2:CreateTags"))).toEqual([]);
});

test("a rule that says nothing makes images as Fedora's are", async () => {
  await made({});
  expect(weather.simulator.state.images("us-east-1")).toMatchObject([
    {
      ...{ bootMode: "uefi-preferred", imdsSupport: "v2.0", tpmSupport: undefined, sriovNetSupport: "simple" },
      mappings: [{ volumeType: "gp3", volumeSize: 1 }],
    },
  ]);
});

test("a volume that is smaller than the disk is refused in words that name both", async () => {
  const staged = { key: "k", region: "us-east-1", id: "snap-00000000000000001", diskBytes: 5 * GiB };
  const spec = { ...weather.spec, aws: { volume: { sizeGiB: 4 } } };
  await expect(cloud.register(staged, spec, call)).rejects.toMatchObject({
    code: "invalid",
    message: "A root volume of 4 GiB is too small for a disk of 5 GiB.",
    next: expect.stringContaining("size_gib"),
  });
});

test("what is offered is protected: it cannot be removed, and the error says by what and how to", async () => {
  const spec: ImageSpec = { ...weather.spec, regions: REGIONS, diskBytes: 1 * MiB, aws: { protect: "with-cooldown" } };
  const images = await made(spec);
  const [home] = images.filter(({ region }) => region === "us-east-1");
  await cloud.offer(images, spec, { to: "public" }, call);
  await cloud.offer(images, spec, { to: "public" }, call);
  const resource = { ...home!, kind: "image", complete: true, tags: {} } as const;
  const refusal = {
    code: "conflict",
    message: `${home!.id} is protected from being deregistered (enabled-with-cooldown).`,
    next: expect.stringContaining(`disable-image-deregistration-protection --region us-east-1 --image-id ${home!.id}`),
  };
  await expect(cloud.remove(resource, call)).rejects.toMatchObject(refusal);
  const [there] = weather.simulator.state.images("us-east-1");
  expect(there?.permissions).toEqual(new Set(["all"]));
  // A person lifts it; AWS holds it for a day.
  there!.protection = { on: false, cooldown: true, until: Date.now() + GiB };
  await expect(cloud.remove(resource, call)).rejects.toMatchObject({
    code: "conflict",
    next: expect.stringContaining("24 hours"),
  });
  there!.protection = { on: false, cooldown: true, until: 0 };
  await cloud.remove(resource, call);
  expect(weather.simulator.state.images("us-east-1")).toEqual([]);
});

const DAY = 86_400_000;
const NOW = Date.parse("2026-06-01T00:00:00Z");
test.each([
  { name: "the date itself", end: "2027-06-02", created: 0, to: "public", at: "2027-06-02T00:00:00.000Z" },
  {
    name: "rounded down to a minute",
    end: "2027-06-02T10:20:59Z",
    created: 0,
    to: "public",
    at: "2027-06-02T10:20:00.000Z",
  },
  {
    name: "two years of a public image's life",
    end: "2031-01-01",
    created: 0,
    to: "public",
    at: "2028-05-30T00:00:00.000Z",
  },
  {
    name: "counted from when it was made",
    end: "2031-01-01",
    created: -365,
    to: "public",
    at: "2027-05-31T00:00:00.000Z",
  },
  { name: "ten of one that is shared", end: "2050-01-01", created: 0, to: "accounts", at: "2036-05-28T00:00:00.000Z" },
  { name: "not in the past", end: "2026-05-31", created: -30, to: "public", at: undefined },
  { name: "not within minutes", end: "2026-06-01T00:05:00Z", created: -30, to: "public", at: undefined },
  { name: "not for a public image of three years", end: "2031-01-01", created: -3 * 365, to: "public", at: undefined },
])("an end of life becomes a deprecation date: $name", ({ end, created, to, at }) => {
  const CreationDate = new Date(NOW + created * DAY).toISOString();
  expect(deprecationTime(end, { CreationDate }, to === "public", NOW)?.toISOString()).toBe(at);
});

async function made(overrides: Partial<ImageSpec>): Promise<readonly CloudImage[]> {
  const spec: ImageSpec = { ...weather.spec, diskBytes: 1 * MiB, regions: REGIONS, ...overrides };
  const staged = await cloud.upload(fakeDisk(spec.diskBytes, [1]), spec, memoryJournal(), call);
  const home = await cloud.register(staged, spec, call);
  const images: CloudImage[] = [];
  for await (const outcome of cloud.replicate(home, spec, REGIONS, call)) {
    if ("image" in outcome) images.push(outcome.image);
  }
  return images;
}
