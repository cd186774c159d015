/** Something is down: the rest is done, the exit code says so, and a retry does what was left. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { expectOneImageEach, expectOneVersionEach } from "./clouds.ts";
import { type Stage, setStage } from "./stage.ts";

const AMIS = ["Fedora-Cloud-Base-AmazonEC2.x86_64-43-1.6"];

let stage: Stage;
beforeEach(async () => {
  stage = await setStage({ arches: ["x86_64"] });
}, 120_000);
afterEach(async () => {
  await stage[Symbol.asyncDispose]();
});

test("a region is down: nothing of that image is public, the rest is released, and a retry finishes it", async () => {
  stage.rehearsal.set({
    name: "region",
    match: { cloud: "aws", region: "eu-central-1" },
    fault: "outage",
    as: "reset",
  });
  const first = await stage.slipway(["release", stage.compose, "--output", "json"], { hurry: true });
  expect(first).toMatchObject({ code: 77 });
  const { images } = JSON.parse(first.stdout);
  expect(images[AMIS[0]!].aws.state).toBe("failed");
  expect(images[AMIS[0]!].aws.error.message).toContain("eu-central-1");
  expect(stage.rehearsal.simulators.aws.state.images().some((image) => image.permissions.size > 0)).toBe(false);
  expectOneVersionEach(stage, ["Fedora-Cloud-43-x64"]);

  stage.rehearsal.enable("region", false);
  const fetched = stage.imageBytes();
  const retried = await stage.slipway(["runs", "retry", "--last", "--output", "json"], { hurry: true });
  expect(retried.stderr).not.toContain("error");
  expect(retried).toMatchObject({ code: 0 });
  expect(stage.imageBytes()).toBe(fetched);
  expectOneImageEach(stage, AMIS, { public: true });
}, 180_000);

test("a whole cloud is down: the others are done, exit 77, and a retry finishes it", async () => {
  stage.rehearsal.set({ name: "azure", match: { cloud: "azure" }, fault: "outage", as: "reset" });
  const first = await stage.slipway(["release", stage.compose, "--output", "json"], { hurry: true });
  expect(first).toMatchObject({ code: 77 });
  expectOneImageEach(stage, AMIS, { public: true });

  stage.rehearsal.enable("azure", false);
  const retried = await stage.slipway(["runs", "retry", "--last", "--output", "json"], { hurry: true });
  expect(retried).toMatchObject({ code: 0 });
  expectOneVersionEach(stage, ["Fedora-Cloud-43-x64"]);
  expectOneImageEach(stage, AMIS, { public: true });
}, 180_000);
