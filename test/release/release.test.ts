/** A whole release by the command line, to simulated clouds over TLS, with the vendors' own clients in between. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { expectOneImageEach, expectOneVersionEach } from "./clouds.ts";
import { type Stage, setStage } from "./stage.ts";

const AMIS = ["Fedora-Cloud-Base-AmazonEC2.aarch64-43-1.6", "Fedora-Cloud-Base-AmazonEC2.x86_64-43-1.6"];
const DEFINITIONS = ["Fedora-Cloud-43-Arm64", "Fedora-Cloud-43-x64"];

let stage: Stage;
beforeAll(async () => {
  stage = await setStage();
}, 120_000);
afterAll(async () => {
  await stage[Symbol.asyncDispose]();
});

test("everything is released, once, and a second release fetches no image and changes nothing", async () => {
  const first = await stage.slipway(["release", stage.compose, "--output", "json"]);
  expect(first.stderr).not.toContain("error");
  expect(first).toMatchObject({ code: 0 });
  const outcome = JSON.parse(first.stdout);
  expect(outcome.result).toBe("done");
  expect(outcome.images[AMIS[1]!].aws.regions["eu-central-1"]).toMatch(/^ami-/);
  expectOneImageEach(stage, AMIS, { public: true });
  expectOneVersionEach(stage, DEFINITIONS);

  const fetched = stage.imageBytes();
  const calls = new Map(stage.rehearsal.simulators.aws.state.calls);
  const again = await stage.slipway(["release", stage.compose, "--output", "json"]);
  expect(again).toMatchObject({ code: 0 });
  expect(JSON.parse(again.stdout)).toEqual(outcome);
  expect(stage.imageBytes()).toBe(fetched);
  expect(new Map(stage.rehearsal.simulators.aws.state.calls)).toEqual(calls);

  const forced = await stage.slipway(["release", stage.compose, "--force", "--output", "json"]);
  expect(forced).toMatchObject({ code: 0 });
  expect(stage.imageBytes()).toBe(fetched);
  expectOneImageEach(stage, AMIS, { public: true });
  expectOneVersionEach(stage, DEFINITIONS);
}, 120_000);

test("what was done can be listed: images, AMIs for the website, messages once each, runs, log", async () => {
  const images = JSON.parse((await stage.slipway(["images", "list", "--output", "json"])).stdout);
  expect(Object.keys(images.images).sort()).toEqual(
    [...AMIS, ...DEFINITIONS.map((name) => `${name}/43.20251021.0`)].sort(),
  );
  expect(images.containers.map((one: { repository: string }) => one.repository).sort()).toEqual([
    "fedora",
    "fedora-minimal",
  ]);

  const amis = JSON.parse((await stage.slipway(["images", "amis", "--output", "json"])).stdout);
  expect(Object.keys(amis[AMIS[0]!].aarch64).length).toBe(4);
  const website = (await stage.slipway(["images", "amis", "--format", "get-amis"])).stdout;
  expect(website).toMatch(/^ga:\n {2}x86_64:\n {4}ap-southeast-2: ami-/);

  const events = JSON.parse((await stage.slipway(["events", "list", "--sent", "--output", "json"])).stdout);
  const topics = events.map((event: { topic: string }) => event.topic).sort();
  expect(topics).toEqual([
    "fedora_image_uploader.published.v1.aws.rc.Cloud_Base.aarch64",
    "fedora_image_uploader.published.v1.aws.rc.Cloud_Base.x86_64",
    "fedora_image_uploader.published.v1.azure.rc.Cloud_Base.aarch64",
    "fedora_image_uploader.published.v1.azure.rc.Cloud_Base.x86_64",
    "fedora_image_uploader.published.v1.container.rc.fedora",
    "fedora_image_uploader.published.v1.container.rc.fedora-minimal",
  ]);

  const logs = await stage.slipway(["runs", "logs", "Fedora-43-20251021.0.fedora-cloud.1"]);
  expect(logs.stdout).toContain("disk uploaded");
  for (const secret of ["rehearsal-client-secret", "rehearsal-publisher-secret", "rehearsal-password"]) {
    expect(logs.stdout).not.toContain(secret);
  }
  const why = await stage.slipway(["runs", "why", "--last", "--output", "text"]);
  expect(why.stdout).toContain("done");
}, 120_000);
