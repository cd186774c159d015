/** A plan says what it meets, and is applied only while that is so. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AWS_REGIONS, expectOneImageEach } from "./clouds.ts";
import { type Stage, setStage } from "./stage.ts";

const AMI = "Fedora-Cloud-Base-AmazonEC2.x86_64-43-1.6";

let stage: Stage;
beforeAll(async () => {
  stage = await setStage({ arches: ["x86_64"], diskBytes: 8 * 1024 * 1024 });
}, 120_000);
afterAll(async () => {
  await stage?.[Symbol.asyncDispose]();
}, 120_000);

test("what would be made, sent and hit, with the way out; nothing is made by asking", async () => {
  const file = join(stage.directory, "plan.json");
  const planned = await stage.slipway([
    "plan",
    stage.compose,
    "--out",
    file,
    "--detailed-exitcode",
    "--output",
    "json",
  ]);
  expect(planned.stderr).not.toContain("error");
  expect(planned).toMatchObject({ code: 10 });
  const { items, preflight } = JSON.parse(planned.stdout);
  expect(items.find((item: { name: string }) => item.name === AMI).regions).toMatchObject({ "us-east-1": "create" });
  // Exactly the disks: 8 MiB to AWS, 8 MiB and a footer to Azure; two containers as they are.
  expect(preflight.estimate.sendBytes).toBeGreaterThan(16 * 1024 * 1024);
  expect(preflight.estimate.dollars.once).toBeGreaterThan(0);
  const open = preflight.quotas.filter((one: { subject: string }) => one.subject === "public AMIs");
  expect(open.map((one: { region: string }) => one.region).sort()).toEqual(AWS_REGIONS);
  expect(open[0]).toMatchObject({ used: 0, adds: 1, limit: 5, exceeded: false });
  expect(preflight.clear).toBe(true);
  expect(stage.rehearsal.simulators.aws.state.images()).toEqual([]);
  expect(JSON.parse(await readFile(file, "utf8")).plans[0].items).toEqual(items);
}, 120_000);

test("settings that would stop it are in the plan, and one that came since stops its application", async () => {
  const file = join(stage.directory, "plan.json");
  const settings = stage.rehearsal.simulators.aws.state.settings(
    stage.rehearsal.credentials.aws.account,
    "eu-central-1",
  );
  settings.ebsEncryptionByDefault = true;
  const planned = JSON.parse((await stage.slipway(["plan", stage.compose, "--output", "json"])).stdout);
  expect(planned.preflight.clear).toBe(false);
  expect(planned.preflight.findings).toContainEqual(
    expect.objectContaining({ region: "eu-central-1", subject: "EBS encryption by default", severity: "error" }),
  );
  const refused = await stage.slipway(["apply", file, "--output", "json"]);
  expect(refused).toMatchObject({ code: 1 });
  expect(JSON.parse(refused.stderr.split("\n").find((line) => line.startsWith("{"))!)).toMatchObject({
    error: { code: "conflict", tried: expect.stringContaining("aws eu-central-1: New snapshots are encrypted") },
  });
  expect(stage.rehearsal.simulators.aws.state.images()).toEqual([]);
  settings.ebsEncryptionByDefault = false;
}, 120_000);

test("applied while nothing moved, it is done; a second time the world has moved, and it says where", async () => {
  const file = join(stage.directory, "plan.json");
  const applied = await stage.slipway(["apply", file, "--output", "json"]);
  expect(applied.stderr).not.toContain("error");
  expect(applied).toMatchObject({ code: 0 });
  expectOneImageEach(stage, [AMI], { public: true });
  const again = await stage.slipway(["apply", file, "--output", "json"]);
  expect(again).toMatchObject({ code: 1 });
  expect(again.stderr).toContain(`${AMI} (x86_64) in aws, us-east-1: create then, exists now`);
}, 120_000);
