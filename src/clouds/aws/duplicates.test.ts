import { afterEach, beforeEach, expect, test } from "vitest";
import { memoryJournal } from "../../images/journal.ts";
import { quietCall } from "../../lib/call.ts";
import { MiB } from "../../lib/units.ts";
import type { CloudImage, ImageSpec } from "../../model.ts";
import { fakeDisk } from "../testing/disks.ts";
import { openWeather, type Weather } from "./testing/weather.ts";

const REGION = "eu-west-1";
const call = quietCall();
let weather: Weather;
let spec: ImageSpec;
beforeEach(async () => {
  weather = await openWeather();
  spec = { ...weather.spec, regions: ["us-east-1", REGION], diskBytes: 1 * MiB };
});
afterEach(() => weather.close());

test("two writers copy at once and mean it differently: both end with the oldest, and nothing else is left", async () => {
  const { simulator } = weather;
  const home = await registered();
  simulator.state.behaviour.copyMs = 60;
  // Both have looked and found nothing before either asks for its copy.
  let requests = 0;
  const asking = weather.hold(REGION, () => ++requests > 2);
  const copies = ["as it was", "as it is now"].map((description) => copyOf(home, { ...spec, description }));
  await expect.poll(() => requests, { interval: 2 }).toBe(4);
  asking.release();
  const [one, other] = await Promise.all(copies);
  const asked = simulator.state.calls.get(`ec2:CopyImage@${REGION}`);
  expect(one).toEqual(other);
  const left = simulator.state.images(REGION);
  expect(left.map(({ id }) => id)).toEqual([one!.id]);
  expect(simulator.state.snapshots(REGION)).toHaveLength(1);
  expect(asked).toBe(2);
});

test("a second copy that is still being made when the first is ready is settled too", async () => {
  const { simulator } = weather;
  const home = await registered();
  simulator.state.behaviour.copyMs = 80;
  const slow = copyOf(home, spec);
  await expect.poll(() => simulator.state.images(REGION).length, { interval: 2 }).toBe(1);
  const [older] = simulator.state.images(REGION);
  // Another's copy of the same name and key, younger and ready at once.
  simulator.state.behaviour.copyMs = 0;
  const { ImageId } = await copyAnew(home);
  expect(ImageId).not.toBe(older!.id);
  expect((await copyOf(home, spec)).id).toBe(older!.id);
  expect((await slow).id).toBe(older!.id);
  expect(simulator.state.images(REGION).map(({ id }) => id)).toEqual([older!.id]);
});

async function registered(): Promise<CloudImage> {
  const cloud = weather.open();
  const staged = await cloud.upload(fakeDisk(spec.diskBytes, [1]), spec, memoryJournal(), call);
  return cloud.register(staged, spec, call);
}

async function copyOf(home: CloudImage, wanted: ImageSpec): Promise<CloudImage> {
  const [outcome] = await Array.fromAsync(weather.open().replicate(home, wanted, [REGION], call));
  if (outcome && "image" in outcome) return outcome.image;
  throw new Error(JSON.stringify(outcome));
}

/** As a writer would who does not look first: the vendor's client, our tags, no token. */
async function copyAnew(home: CloudImage) {
  const Tags = Object.entries({ "slipway:key": spec.key, "slipway:owner": "slipway" }).map(([Key, Value]) => ({
    Key,
    Value,
  }));
  const copy = { Name: spec.name, SourceImageId: home.id, SourceRegion: "us-east-1" };
  return weather.ec2(REGION).copyImage({ ...copy, TagSpecifications: [{ ResourceType: "image", Tags }] });
}
