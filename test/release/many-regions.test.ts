/**
 * All regions of AWS on a bad day, through a whole release: one dead, one that refuses three requests in ten, one that is
 * slow, one that loses every tenth answer. The rest is public first; what was late is caught up with by the service alone.
 */
import { afterEach, expect, test } from "vitest";
import { type Stage, setStage } from "./stage.ts";

const AMI = "Fedora-Cloud-Base-AmazonEC2.x86_64-43-1.6";
const MINUTES = 60_000;
const [DEAD, REFUSING, SLOW, FORGETFUL] = ["ap-south-1", "eu-west-3", "sa-east-1", "ca-central-1"] as const;

let stage: Stage;
afterEach(async () => {
  await stage?.[Symbol.asyncDispose]();
}, 2 * MINUTES);

const images = () =>
  stage.rehearsal.simulators.aws.state.images().filter(({ name, state }) => name === AMI && state === "available");
const publicRegions = () =>
  images()
    .filter(({ permissions }) => permissions.has("all"))
    .map(({ region }) => region)
    .sort();

async function offered(): Promise<string[]> {
  const { stdout } = await stage.slipway(["images", "amis", "--output", "json"]);
  return Object.keys(JSON.parse(stdout)[AMI].x86_64);
}

test.each(["copy", "direct"])(
  "22 regions by %s: the rest is public first, the dead one is healed",
  async (replicate) => {
    stage = await setStage({
      ...{ arches: ["x86_64"], diskBytes: 4 * 1024 * 1024 },
      rehearsal: {
        scenario: {
          seed: 22,
          rules: [
            { name: "dead", match: { cloud: "aws", region: DEAD }, fault: "outage", as: "reset" },
            {
              name: "refusing",
              match: { cloud: "aws", region: REFUSING },
              chance: 0.3,
              fault: "throttle",
              rate: 0.001,
            },
            { name: "slow", match: { cloud: "aws", region: SLOW }, fault: "latency", ms: 400 },
            { name: "forgetful", match: { cloud: "aws", region: FORGETFUL }, every: 10, fault: "lost-answer" },
          ],
        },
      },
      configure(config) {
        Object.assign(config.targets.aws, { regions: "all", replicate });
        const [ami] = config.systems["fedora-cloud"].images;
        config.systems["fedora-cloud"] = {
          ...config.systems["fedora-cloud"],
          images: [{ ...ami, offer_when: { quorum: 0.9 } }],
          containers: [],
        };
        config.lifecycle = { heal_every: "1s" };
      },
    });
    const released = await stage.slipway(["release", stage.compose, "--output", "json"], { hurry: true });
    expect(released).toMatchObject({ code: 77 });
    const { aws } = JSON.parse(released.stdout).images[AMI];
    expect(aws).toMatchObject({ state: "active", missing: { [DEAD]: { code: "unavailable", region: DEAD } } });
    // One that loses answers may not have come about within a step's attempts; nobody waited for it longer than that.
    const late = Object.keys(aws.missing);
    expect([DEAD, REFUSING, FORGETFUL]).toEqual(expect.arrayContaining(late));
    const regions = Object.keys(aws.regions);
    expect(regions.length + late.length).toBe(22);
    expect(regions).toContain(SLOW);
    expect(publicRegions()).toEqual([...regions].sort());

    stage.rehearsal.enable("dead", false);
    const service = stage.start(["serve", "--listen", "127.0.0.1:0"], { hurry: true });
    // The catalog says so last, after the clouds.
    for (let left = 90; (await offered()).length < 22; left--) {
      if (left > 0 && service.process.exitCode === null) continue;
      service.process.kill("SIGTERM");
      const { stderr } = await service.finished;
      throw new Error(`nobody heals it; the service says:\n${stderr}`);
    }
    service.process.kill("SIGTERM");
    await service.finished;

    // One image and one snapshot a region, the catalog has them all, and they are attested.
    expect(
      images()
        .map(({ region }) => region)
        .sort(),
    ).toEqual([...regions, ...late].sort());
    const { state } = stage.rehearsal.simulators.aws;
    const used = images().flatMap(({ mappings }) => mappings.map(({ snapshotId }) => snapshotId));
    expect(
      state
        .snapshots()
        .map(({ id }) => id)
        .sort(),
    ).toEqual(used.sort());
    expect(publicRegions()).toHaveLength(22);
    stage.rehearsal.load({});
    const verified = await stage.slipway(["images", "verify", AMI, "--output", "json"]);
    expect(verified, verified.stdout).toMatchObject({ code: 0 });
  },
  5 * MINUTES,
);
