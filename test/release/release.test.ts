/** A whole release by the command line, to simulated clouds over TLS, with the vendors' own clients in between. */
import { createPublicKey, verify } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
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
  expect(topics.filter((topic: string) => topic.includes(".attested."))).toHaveLength(6);
  expect(topics.filter((topic: string) => !topic.includes(".attested."))).toEqual([
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

test("what is out is what was attested, and somebody else can see that too", async () => {
  const compose = "Fedora-43-20251021.0";
  const full = await stage.slipway(["images", "verify", compose, "--bytes", "full", "--output", "json"]);
  expect(full).toMatchObject({ code: 0 });
  const { right, wrong, unknown, unreadable, verdicts } = JSON.parse(full.stdout);
  expect({ wrong, unknown }).toEqual({ wrong: 0, unknown: 0 });
  expect(right).toBeGreaterThan(30);
  const bytes = verdicts.filter((one: { check: string }) => one.check === "bytes");
  const say = (cloud: string, word: string) =>
    bytes.filter((one: { target: string; verdict: string }) => one.target === cloud && one.verdict === word).length;
  // Public snapshots and imported versions are closed to everybody; containers are read to the last layer.
  expect({
    aws: say("aws", "unreadable"),
    azure: say("azure", "unreadable"),
    registry: say("registry", "right"),
  }).toEqual({ aws: 8, azure: 6, registry: 2 });
  expect(unreadable).toBe(14);

  const directory = join(stage.directory, "exported");
  const exported = await stage.slipway(["images", "attest", compose, "--export", directory, "--output", "json"]);
  expect(exported).toMatchObject({ code: 0 });
  expect(JSON.parse(exported.stdout)).toMatchObject({ result: "nothing", attested: 0, unchanged: 6 });
  const files = await readdir(directory);
  const envelopes = files.filter((name) => name.endsWith(".intoto.json"));
  expect(envelopes).toHaveLength(6);
  const publicKey = createPublicKey(await readFile(join(stage.directory, "attest.pub")));
  for (const name of envelopes) {
    const { payloadType, payload, signatures } = JSON.parse(await readFile(join(directory, name), "utf8"));
    const body = Buffer.from(payload, "base64");
    const signed = Buffer.concat([Buffer.from(`DSSEv1 ${payloadType.length} ${payloadType} ${body.length} `), body]);
    expect(verify("sha256", signed, publicKey, Buffer.from(signatures[0].sig, "base64")), name).toBe(true);
  }
}, 120_000);

test("a candidate's bytes are read back from every region; what somebody took away is wrong", async () => {
  const compose = "Fedora-43-20251021.0";
  const rolled = await stage.slipway(["images", "rollback", compose, "--target", "aws", "--output", "json"]);
  expect(rolled).toMatchObject({ code: 0 });
  const sampled = await stage.slipway([
    "images",
    "verify",
    compose,
    "--target",
    "aws",
    "--bytes",
    "sample",
    "--output",
    "json",
  ]);
  expect(sampled).toMatchObject({ code: 0 });
  const { verdicts } = JSON.parse(sampled.stdout);
  const bytes = verdicts.filter((one: { check: string; verdict: string }) => one.check === "bytes");
  expect(bytes.map((one: { verdict: string }) => one.verdict)).toEqual(Array(8).fill("right"));

  stage.rehearsal.simulators.aws.state.images("eu-central-1")[0]!.state = "deregistered";
  const after = await stage.slipway(["images", "verify", compose, "--target", "aws"]);
  expect(after).toMatchObject({ code: 1 });
  expect(after.stdout).toContain("it is gone");
}, 120_000);
