/** Promoted and rolled back by a process that is killed at every step: the clouds and the catalog end up the same. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { expectOneImageEach } from "./clouds.ts";
import { type Stage, setStage } from "./stage.ts";
import { untilDone } from "./until-done.ts";

const AMI = "Fedora-Cloud-Base-AmazonEC2.x86_64-43-1.6";
const COMPOSE = "Fedora-43-20251021.0";
const REPOSITORIES = ["fedora/fedora", "fedora/fedora-minimal"];

let stage: Stage;
beforeAll(async () => {
  stage = await setStage({ arches: ["x86_64"], diskBytes: 8 * 1024 * 1024 });
  const released = await stage.slipway(["release", stage.compose, "--as", "candidate", "--output", "json"]);
  expect(released.stderr).not.toContain("error");
  expect(released).toMatchObject({ code: 0 });
  expectOneImageEach(stage, [AMI], { public: false });
  // What users had before: any other manifest will do.
  for (const name of REPOSITORIES) {
    const repository = repositoryOf(name);
    const [older] = [...repository.manifests.keys()];
    for (const tag of ["43", "latest"]) repository.tags.set(tag, older!);
  }
}, 300_000);
afterAll(async () => {
  await stage?.[Symbol.asyncDispose]();
}, 120_000);

function repositoryOf(name: string) {
  return stage.rehearsal.simulators.registry.state.repository(name);
}

function floating(): Record<string, string | undefined> {
  const found = REPOSITORIES.flatMap((name) =>
    ["43", "latest"].map((tag) => [`${name}:${tag}`, repositoryOf(name).tags.get(tag)] as const),
  );
  return Object.fromEntries(found);
}

async function catalog(): Promise<string[]> {
  const { images, containers } = JSON.parse((await stage.slipway(["images", "list", "--output", "json"])).stdout);
  const states = new Set<string>(containers.map((one: { state: string }) => one.state));
  for (const byTarget of Object.values<Record<string, { regions: Record<string, { state: string }> }>>(images)) {
    for (const { regions } of Object.values(byTarget)) {
      for (const { state } of Object.values(regions)) states.add(state);
    }
  }
  return [...states];
}

/** The parameter's image in each region, as users would have it; and what subscribers were told, each once. */
function outside() {
  const { state } = stage.rehearsal.simulators.aws;
  const named = state.parameters.all().map(({ region, versions }) => `${region} ${versions.at(-1)?.value}`);
  const told = [...state.topics.values()].flatMap(({ messages }) => messages.map(({ message }) => JSON.parse(message)));
  return { named: named.sort(), told: [...new Set(told.map(({ change, name }) => `${name} ${change}`))] };
}

async function topics(part: string): Promise<string[]> {
  const events = JSON.parse(
    (await stage.slipway(["events", "list", "--sent", "--topic", part, "--output", "json"])).stdout,
  );
  return events.map((event: { topic: string }) => event.topic.replace("fedora_image_uploader.", "")).sort();
}

test("promoted, killed after every step and every effect: all of it is out, once, and said once", async () => {
  const before = floating();
  const dry = await stage.slipway(["images", "promote", COMPOSE, "--dry-run", "--output", "json"]);
  expect(Object.keys(JSON.parse(dry.stdout).images[0].change).length).toBeGreaterThan(2);
  expectOneImageEach(stage, [AMI], { public: false });

  expect(await untilDone(stage, ["images", "promote", COMPOSE])).toBeGreaterThan(8);
  expectOneImageEach(stage, [AMI], { public: true });
  expect(await catalog()).toEqual(["active"]);
  for (const [tag, digest] of Object.entries(floating())) expect(digest).not.toBe(before[tag]);
  expect(await topics("promoted.v1")).toEqual([
    "promoted.v1.aws.rc.Cloud_Base.x86_64",
    "promoted.v1.azure.rc.Cloud_Base.x86_64",
    "promoted.v1.container.rc.fedora",
    "promoted.v1.container.rc.fedora-minimal",
  ]);
  expect(await topics("published.v1.aws")).toHaveLength(1);
  const amis = stage.rehearsal.simulators.aws.state.images().map(({ region, id }) => `${region} ${id}`);
  expect(outside()).toEqual({ named: amis.sort(), told: [`${AMI} offered`] });

  const again = await stage.slipway(["images", "promote", COMPOSE, "--output", "json"]);
  expect(JSON.parse(again.stdout)).toMatchObject({ result: "nothing" });

  expect(await untilDone(stage, ["images", "rollback", COMPOSE])).toBeGreaterThan(6);
  expectOneImageEach(stage, [AMI], { public: false });
  expect(await catalog()).toEqual(["candidate"]);
  expect(floating()).toEqual(before);
  expect(await topics("rolled_back.v1")).toHaveLength(4);
  expect(outside()).toEqual({ named: [], told: [`${AMI} offered`, `${AMI} withdrawn`] });
}, 600_000);

test("a region is down: the rest is taken back, exit 77, and a repeat does what was left", async () => {
  const promoted = await stage.slipway(["images", "promote", COMPOSE, "--output", "json"]);
  expect(promoted).toMatchObject({ code: 0 });
  expect(JSON.parse(promoted.stdout).witnessed).toBe(4 + 3);
  const match = { cloud: "aws", region: "eu-central-1" } as const;
  stage.rehearsal.set({ name: "region", match, fault: "outage", as: "reset" });
  const part = await stage.slipway(["images", "rollback", COMPOSE, "--output", "json"], { hurry: true });
  expect(part).toMatchObject({ code: 77 });
  const open = stage.rehearsal.simulators.aws.state.images().filter((image) => image.permissions.size > 0);
  expect(open.map((image) => image.region)).toEqual(["eu-central-1"]);

  stage.rehearsal.enable("region", false);
  expect(await stage.slipway(["images", "rollback", COMPOSE, "--output", "json"])).toMatchObject({ code: 0 });
  expectOneImageEach(stage, [AMI], { public: false });
}, 300_000);
