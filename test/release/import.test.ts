/** The way through a bucket, by a process that is killed at every step and in the middle of the parts. */
import { afterEach, expect, test } from "vitest";
import { AWS_REGIONS, expectOneImageEach } from "./clouds.ts";
import { type Stage, setStage } from "./stage.ts";
import { untilDone } from "./until-done.ts";

const AMI = "Fedora-Cloud-Base-AmazonEC2.x86_64-43-1.6";
const BUCKET = "fedora-images-import";
const MiB = 1024 * 1024;
const MINUTES = 60_000;

let stage: Stage;
afterEach(async () => {
  await stage?.[Symbol.asyncDispose]();
}, 2 * MINUTES);

async function throughBucket(diskBytes: number): Promise<void> {
  stage = await setStage({
    ...{ arches: ["x86_64"], diskBytes },
    configure(config) {
      config.targets.aws.import = { bucket: BUCKET };
      const system = config.systems["fedora-cloud"];
      config.systems["fedora-cloud"] = { ...system, images: system.images.slice(0, 1), containers: [] };
    },
  });
}

/** One image, one import that counted, and an empty bucket but for the zeros that are copied. */
function expectClean(): void {
  expectOneImageEach(stage, [AMI], { public: true });
  const { state } = stage.rehearsal.simulators.aws;
  expect(state.snapshots().filter((snapshot) => snapshot.madeBy === "import")).toHaveLength(1);
  expect(state.snapshots()).toHaveLength(AWS_REGIONS.length);
  expect(state.objects.uploads.size).toBe(0);
  const left = [...(state.objects.bucket(BUCKET)?.objects.keys() ?? [])];
  expect(left.filter((key) => !key.startsWith("slipway/zeros-"))).toEqual([]);
  expect(state.calls.get("ec2:ImportSnapshot@us-east-1")).toBe(1);
  expect([...state.calls.keys()].filter((call) => call.startsWith("ebs:StartSnapshot"))).toEqual([]);
}

test(
  "killed after every step and every effect: imported once, offered once, nothing left in the bucket",
  async () => {
    await throughBucket(20 * MiB);
    expect(await untilDone(stage, ["release", stage.compose])).toBeGreaterThan(20);
    expectClean();
  },
  10 * MINUTES,
);

test(
  "killed while parts are sent, and while AWS imports: it goes on where it stopped",
  async () => {
    await throughBucket(64 * MiB);
    const { state } = stage.rehearsal.simulators.aws;
    stage.rehearsal.set({ name: "far", fault: "latency", ms: 400, match: { service: "s3", method: "PUT" } });
    state.behaviour.importMs = 3_600_000;
    const parts = () => [...state.objects.uploads.values()].reduce((sum, { parts }) => sum + parts.size, 0);
    let kills = 0;
    for (const enough of [() => parts() >= 2, () => parts() >= 4, () => state.imports.size === 1]) {
      const running = stage.start(["release", stage.compose, "--output", "json"]);
      while (running.process.exitCode === null && !enough()) await new Promise((resolve) => setTimeout(resolve, 5));
      // What was acknowledged is written down within a quarter of a second.
      if (state.imports.size === 0) await new Promise((resolve) => setTimeout(resolve, 300));
      expect(running.process.exitCode).toBe(null);
      running.process.kill("SIGKILL");
      await running.finished;
      kills++;
    }
    expect(kills).toBe(3);
    for (const task of state.imports.values()) Object.assign(task, { completesAt: 0 });
    stage.rehearsal.load({});
    const ended = await stage.slipway(["release", stage.compose, "--output", "json"]);
    expect(ended).toMatchObject({ code: 0 });
    expectClean();
  },
  10 * MINUTES,
);
