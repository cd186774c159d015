/** Somebody was in the account. The drift is seen, and repaired by a process that is killed at every step. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { expectOneImageEach } from "./clouds.ts";
import { type Stage, setStage } from "./stage.ts";
import { untilDone } from "./until-done.ts";

const AMI = "Fedora-Cloud-Base-AmazonEC2.x86_64-43-1.6";
const COMPOSE = "Fedora-43-20251021.0";

let stage: Stage;
beforeAll(async () => {
  stage = await setStage({ arches: ["x86_64"], diskBytes: 8 * 1024 * 1024 });
  expect(await stage.slipway(["release", stage.compose])).toMatchObject({ code: 0 });
}, 300_000);
afterAll(async () => {
  await stage?.[Symbol.asyncDispose]();
}, 120_000);

async function drift(): Promise<string[]> {
  const compared = await stage.slipway(["lifecycle", "drift", COMPOSE, "--output", "json"]);
  expect(compared.stderr).not.toContain("error");
  const found: { kind: string; region: string }[] = JSON.parse(compared.stdout).drift;
  return found.map((one) => `${one.region} ${one.kind}`);
}

test("an image is gone and another private: seen, repaired through any number of kills, and then there is no drift", async () => {
  expect(await drift()).toEqual([]);
  const { state } = stage.rehearsal.simulators.aws;
  const gone = state.images("eu-central-1").find((image) => image.name === AMI)!;
  gone.state = "deregistered";
  for (const { snapshotId } of gone.mappings) state.removeSnapshot(state.snapshot("eu-central-1", snapshotId)!);
  state
    .images("us-west-2")
    .find((image) => image.name === AMI)!
    .permissions.clear();

  expect(await drift()).toEqual(["eu-central-1 missing", "us-west-2 not-public"]);
  expect(await untilDone(stage, ["lifecycle", "drift", COMPOSE, "--repair"])).toBeGreaterThan(4);
  expectOneImageEach(stage, [AMI], { public: true });
  expect(await drift()).toEqual([]);
  const amis = JSON.parse((await stage.slipway(["images", "amis", "--output", "json"])).stdout);
  const now = state.images("eu-central-1").find((image) => image.name === AMI && image.state === "available")!;
  expect(amis[AMI].x86_64["eu-central-1"]).toBe(now.id);
}, 600_000);

test("somebody was let in and a snapshot closed: both are told, the second repaired, nobody is put out", async () => {
  const { state } = stage.rehearsal.simulators.aws;
  const [home] = state.images("us-east-1").filter((image) => image.name === AMI);
  home!.permissions.add("999988887777");
  const [far] = state.images("ap-southeast-2").filter((image) => image.name === AMI);
  state.snapshot("ap-southeast-2", far!.mappings[0]!.snapshotId)!.permissions.clear();
  expect((await drift()).sort()).toEqual(["ap-southeast-2 shut-out", "us-east-1 uninvited"]);
  const repaired = await stage.slipway(["lifecycle", "drift", COMPOSE, "--repair", "--output", "json"]);
  expect(repaired).toMatchObject({ code: 77 });
  expect(await drift()).toEqual(["us-east-1 uninvited"]);
  expect(home!.permissions).toContain("999988887777");
}, 300_000);
