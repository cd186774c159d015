/** Every region written from the source, by a process that is killed at every step and in the middle of the blocks. */
import { afterEach, expect, test } from "vitest";
import { AWS_REGIONS, expectOneImageEach } from "./clouds.ts";
import { type Stage, setStage } from "./stage.ts";
import { untilDone } from "./until-done.ts";

const AMI = "Fedora-Cloud-Base-AmazonEC2.x86_64-43-1.6";
const MINUTES = 60_000;

let stage: Stage;
afterEach(async () => {
  await stage?.[Symbol.asyncDispose]();
}, 2 * MINUTES);

async function onlyAws(): Promise<void> {
  stage = await setStage({
    ...{ arches: ["x86_64"], diskBytes: 8 * 1024 * 1024 },
    configure(config) {
      config.targets.aws.replicate = "direct";
      const system = config.systems["fedora-cloud"];
      config.systems["fedora-cloud"] = { ...system, images: system.images.slice(0, 1), containers: [] };
    },
  });
}

const puts = () =>
  AWS_REGIONS.flatMap((region) => {
    const [snapshot] = stage.rehearsal.simulators.aws.state.snapshots(region);
    return snapshot === undefined ? [] : [...snapshot.puts].map(([index, count]) => ({ region, index, count }));
  });

async function catalog(): Promise<string[]> {
  const { images } = JSON.parse((await stage.slipway(["images", "list", "--output", "json"])).stdout);
  const regions: Record<string, { state: string }> = images[AMI].aws.regions;
  return Object.entries(regions).map(([region, { state }]) => `${region} ${state}`);
}

test(
  "killed after every step and every effect: one image a region, offered once, and each block put once",
  async () => {
    await onlyAws();
    expect(await untilDone(stage, ["release", stage.compose])).toBeGreaterThan(20);
    expectOneImageEach(stage, [AMI], { public: true });
    expect((await catalog()).sort()).toEqual(AWS_REGIONS.map((region) => `${region} active`));
    expect(puts().filter(({ count }) => count !== 1)).toEqual([]);
    const { calls } = stage.rehearsal.simulators.aws.state;
    expect([...calls.keys()].filter((call) => call.startsWith("ec2:CopyImage"))).toEqual([]);
    const sent = JSON.parse((await stage.slipway(["events", "list", "--sent", "--output", "json"])).stdout);
    expect(sent.map(({ topic }: { topic: string }) => topic.split(".")[1]).sort()).toEqual(["attested", "published"]);
  },
  10 * MINUTES,
);

test(
  "killed in the middle of the blocks, again and again: every region goes on where it stopped",
  async () => {
    await onlyAws();
    // Slow enough that a kill finds it at work, whatever the machine.
    stage.rehearsal.set({ name: "far", fault: "latency", ms: 40, match: { operation: "PutSnapshotBlock" } });
    let kills = 0;
    for (let target = 6; target < 60; target += 9) {
      const running = stage.start(["release", stage.compose, "--output", "json"]);
      const before = puts().length;
      while (running.process.exitCode === null && puts().length < Math.min(before + 6, target + 12)) {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      if (running.process.exitCode !== null) break;
      running.process.kill("SIGKILL");
      await running.finished;
      kills++;
    }
    expect(kills).toBeGreaterThan(2);
    stage.rehearsal.load({});
    const ended = await stage.slipway(["release", stage.compose, "--output", "json"]);
    expect(ended).toMatchObject({ code: 0 });
    expectOneImageEach(stage, [AMI], { public: true });
    // The last 250 ms before a kill were not written down (decision 4): at most what was in flight then comes again.
    const again = puts().reduce((sum, { count }) => sum + count - 1, 0);
    expect(again).toBeLessThanOrEqual(kills * 4 * 16);
  },
  10 * MINUTES,
);
