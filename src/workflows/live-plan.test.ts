import { expect, test } from "vitest";
import type { Cloud, Found } from "../clouds/cloud.ts";
import type { PlannedImage, Selection } from "../compose/index.ts";
import { quietCall } from "../lib/call.ts";
import { SlipwayError } from "../lib/errors.ts";
import type { Registry } from "../registries/registry.ts";
import { livePlan } from "./live-plan.ts";
import type { PlanningServices } from "./services.ts";
import { plannedImage } from "./testing/planned.ts";

const call = quietCall();

function selectionOf(...items: PlannedImage[]): Selection {
  return {
    compose: "Fedora-43-20251021.0",
    system: "cloud",
    kind: "rc",
    channel: "rc",
    prerelease: false,
    releaseNumber: 43,
    groups: [],
    items,
    skipped: [{ artifact: "x.iso", reason: "nobody takes it" }],
    notes: [],
  };
}

function cloudThat(find: (region: string) => Found | Promise<Found>, regionalCopies = true): Cloud {
  const asked = { name: "aws", can: { regionalCopies }, find: async (_: unknown, region: string) => find(region) };
  return asked as unknown as Cloud;
}

const image = (region: string): Found => ({
  image: { key: "k", region, id: `ami-${region}`, name: "n", state: "active" },
});
const staged: Found = { staged: { key: "k", region: "us-east-1", id: "snap-1", diskBytes: 1 } };

/** Only what a plan asks; anything that changes something is not even there. */
async function planWith(answers: Record<string, Cloud | Registry | Error>, ...items: PlannedImage[]) {
  const open = async (target: string) => {
    const answer = answers[target];
    if (answer === undefined || answer instanceof Error) throw answer;
    return answer;
  };
  const services = { targets: { cloud: open, registry: open } } as unknown as PlanningServices;
  return livePlan(selectionOf(...items), services, call);
}

test.each([
  { name: "nothing is there", find: () => ({}), regions: { "us-east-1": "create", "eu-west-1": "copy" } },
  { name: "all is there", find: image, regions: { "us-east-1": "exists", "eu-west-1": "exists" } },
  {
    name: "one region lacks it",
    find: (region: string) => (region === "us-east-1" ? image(region) : {}),
    regions: { "us-east-1": "exists", "eu-west-1": "copy" },
  },
  {
    name: "the disk is there, the image is not",
    find: (region: string) => (region === "us-east-1" ? staged : {}),
    regions: { "us-east-1": "resume", "eu-west-1": "copy" },
  },
])("$name", async ({ find, regions }) => {
  const plan = await planWith({ aws: cloudThat(find) }, plannedImage());
  expect(plan).toMatchObject({
    compose: "Fedora-43-20251021.0",
    system: "cloud",
    skipped: [{ artifact: "x.iso", reason: "nobody takes it" }],
  });
  expect(plan.items).toMatchObject([{ target: "aws", name: "Fedora-Cloud-43", regions }]);
  expect(plan.items[0]).not.toHaveProperty("reason");
});

test("a cloud whose image has a region list is asked once and answers for all", async () => {
  const asked: string[] = [];
  const gallery = cloudThat((region) => {
    asked.push(region);
    return image(region);
  }, false);
  const plan = await planWith({ aws: gallery }, plannedImage());
  expect(asked).toEqual(["us-east-1"]);
  expect(plan.items[0]?.regions).toEqual({ "us-east-1": "exists", "eu-west-1": "exists" });
});

test("a foreign image of the name is told, with whose it seems to be", async () => {
  const plan = await planWith(
    { aws: cloudThat(() => ({ foreign: { id: "ami-9", reason: "it carries no key" } })) },
    plannedImage({ regions: ["us-east-1"] }),
  );
  expect(plan.items[0]?.reason).toBe("us-east-1: it carries no key (ami-9)");
});

test("a region that does not answer is a reason, in a stable order, and hides no other", async () => {
  const plan = await planWith(
    {
      aws: cloudThat((region) => {
        if (region === "us-east-1") return image(region);
        throw new SlipwayError("unavailable", "no answer");
      }),
    },
    plannedImage({ regions: ["us-east-1", "eu-west-1", "ap-south-1"] }),
  );
  expect(plan.items[0]).toMatchObject({
    regions: { "us-east-1": "exists", "eu-west-1": "copy", "ap-south-1": "copy" },
    reason: "ap-south-1: not asked [unavailable] no answer; eu-west-1: not asked [unavailable] no answer",
  });
});

test("a target that cannot be opened does not hide the plan of the others", async () => {
  const plan = await planWith(
    {
      aws: new SlipwayError("unauthenticated", "no credentials", { next: "Set them." }),
      second: cloudThat(image),
    },
    plannedImage(),
    plannedImage({ target: "second" }),
  );
  expect(plan.items).toMatchObject([
    { regions: { "us-east-1": "create" }, reason: "not asked [unauthenticated]: no credentials Set them." },
    { regions: { "us-east-1": "exists" } },
  ]);
});

function container(arch: string): PlannedImage {
  return plannedImage({
    cloud: "registry",
    target: "quay",
    arch,
    repository: "fedora",
    versionTag: "43.1",
    tags: ["43", "latest"],
    homeRegion: "quay.io",
    regions: ["quay.io"],
  });
}

test("a container exists when its version's index lists its architecture", async () => {
  const asked: string[] = [];
  const find = async (repository: string, tag: string) => {
    asked.push(`${repository}:${tag}`);
    return {
      digest: "sha256:1",
      mediaType: "",
      bytes: 1,
      entries: [{ platform: { architecture: "arm64", os: "linux" } }],
    };
  };
  const plan = await planWith({ quay: { find } as unknown as Registry }, container("aarch64"), container("x86_64"));
  expect(asked).toEqual(["fedora:43.1", "fedora:43.1"]);
  expect(plan.items.map((item) => item.regions["quay.io"])).toEqual(["exists", "create"]);
  expect(plan.items[0]?.tags).toEqual(["43.1", "43", "latest"]);
});

test("a repository that is not there is made", async () => {
  const registry = { find: async () => undefined } as unknown as Registry;
  expect((await planWith({ quay: registry }, container("x86_64"))).items[0]?.regions).toEqual({ "quay.io": "create" });
});

test("Ctrl-C stops the plan instead of becoming a reason in it", async () => {
  const stop = new AbortController();
  const cloud = cloudThat(() => {
    stop.abort();
    throw new SlipwayError("cancelled", "stopped");
  });
  const services = { targets: { cloud: async () => cloud } } as unknown as PlanningServices;
  await expect(livePlan(selectionOf(plannedImage()), services, quietCall(stop.signal))).rejects.toThrow("aborted");
});

test.each([
  { releaseAs: "active", to: "public", verb: "share" },
  { releaseAs: "candidate", to: "public", verb: "exists" },
  { releaseAs: "active", to: "nobody", verb: "exists" },
] as const)("a candidate released as $releaseAs to $to: $verb", async ({ releaseAs, to, verb }) => {
  const item = plannedImage();
  const candidate = cloudThat((region) => ({ image: { ...image(region).image!, state: "candidate" } }));
  const targets = { cloud: async () => candidate, facts: () => ({ audience: { to } }) };
  const groups = [{ id: "g", kind: "disk", items: [item], offerWhen: "all", releaseAs }] as const;
  const plan = await livePlan({ ...selectionOf(item), groups }, { targets } as unknown as PlanningServices, call);
  expect(plan.items[0]?.regions).toEqual({ "us-east-1": verb, "eu-west-1": verb });
});
