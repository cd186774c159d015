import { describe, expect, test } from "vitest";
import { memoryJournal } from "../../images/journal.ts";
import { quietCall } from "../../lib/call.ts";
import { errorFrom, isTransient } from "../../lib/errors.ts";
import { MiB } from "../../lib/units.ts";
import type { CloudImage } from "../../model.ts";
import type { Cloud, JournalOf } from "../cloud.ts";
import { inProduction } from "../index.ts";
import { fakeDisk } from "../testing/disks.ts";
import { keptJournals, openWeather, REGIONS_22, type Weather } from "./testing/weather.ts";

const SECONDS = 240_000;
const call = quietCall();
const [DEAD, THROTTLING, LATE, LOSSY] = ["me-south-1", "eu-west-3", "sa-east-1", "ap-east-1"] as const;
/** As often as the step tries. */
const ATTEMPTS = 5;
const BLOCKS = 12;
const disk = () => fakeDisk(BLOCKS * (MiB / 2), [...Array(BLOCKS).keys()]);

/** What a way of bringing an image to many regions looks like to the one who tries it again. */
type Way = (weather: Weather, cloud: Cloud, onImage: (image: CloudImage) => void) => Promise<void>;

function isHopeful(error: Parameters<typeof errorFrom>[0]): boolean {
  return isTransient(errorFrom(error));
}

const copy: Way = async ({ spec }, cloud, onImage) => {
  const staged = await cloud.upload(disk(), spec, memoryJournal(), call);
  const home = await cloud.register(staged, spec, call);
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    let hope = false;
    for await (const outcome of cloud.replicate(home, spec, spec.regions, call)) {
      if ("image" in outcome) onImage(outcome.image);
      else hope ||= isHopeful(outcome.error);
    }
    if (!hope) return;
  }
};

const journals = new WeakMap<Weather, JournalOf>();

const direct: Way = async (weather, cloud, onImage) => {
  const { spec } = weather;
  const journalOf = journals.get(weather) ?? keptJournals();
  journals.set(weather, journalOf);
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    let hope = false;
    const registering: Promise<void>[] = [];
    for await (const outcome of cloud.uploadEach!(disk(), spec, spec.regions, journalOf, call)) {
      if ("error" in outcome) hope ||= isHopeful(outcome.error);
      else {
        const registered = cloud.register(outcome.staged, spec, call).then(onImage, (error: unknown) => {
          if (!isTransient(error)) throw error;
          hope = true;
        });
        registering.push(registered);
      }
    }
    await Promise.all(registering);
    if (!hope) return;
  }
};

/** Everything of one kind in a region that is not gone. */
function alive(weather: Weather, region: string) {
  const { state } = weather.simulator;
  return {
    images: state.images(region).filter((image) => image.state !== "deregistered"),
    snapshots: state.snapshots(region),
  };
}

describe.each([
  ["copied", copy],
  ["written directly", direct],
] as const)("an image that is %s to 22 regions on a bad day", (_, bring) => {
  test("is public wherever it can be, and in the dead region when that returns", { timeout: SECONDS }, async () => {
    const weather = await openWeather({ patienceMs: 20 });
    try {
      weather.kill(DEAD);
      weather.throttle(THROTTLING, 0.3);
      weather.loseEvery(LOSSY, 10);
      // Ninety seconds are: longer than everything else takes.
      const answers = weather.hold(LATE, () => true);
      const cloud = inProduction(weather.open());
      const there = new Map<string, CloudImage>();
      let waiting = true;
      await bring(weather, cloud, (image) => {
        there.set(image.region, image);
        const others = REGIONS_22.filter((region) => ![DEAD, LATE, LOSSY].includes(region as never));
        if (!waiting || !others.every((region) => there.has(region))) return;
        waiting = false;
        expect(there.has(LATE)).toBe(false);
        answers.release();
      });
      expect([...there.keys()].sort()).toEqual(REGIONS_22.filter((region) => region !== DEAD).sort());

      await offerWithPatience(cloud, weather, [...there.values()]);
      for (const region of REGIONS_22) {
        const { images, snapshots } = alive(weather, region);
        const wanted = region === DEAD ? 0 : 1;
        expect({ region, images: images.length, snapshots: snapshots.length }).toEqual({
          ...{ region, images: wanted, snapshots: wanted },
        });
        for (const image of images) expect([...image.permissions]).toEqual(["all"]);
        for (const snapshot of snapshots) expect([...snapshot.permissions]).toEqual(["all"]);
      }

      weather.revive(DEAD);
      await bring(weather, cloud, (image) => there.set(image.region, image));
      await offerWithPatience(cloud, weather, [...there.values()]);
      for (const region of REGIONS_22) {
        const { images, snapshots } = alive(weather, region);
        expect({ region, images: images.length, snapshots: snapshots.length }).toEqual({
          ...{ region, images: 1, snapshots: 1 },
        });
        expect([...images[0]!.permissions]).toEqual(["all"]);
      }
    } finally {
      await weather.close();
    }
  });
});

/** As the step does: an offer that failed is repeated whole. */
async function offerWithPatience(cloud: Cloud, { spec }: Weather, images: readonly CloudImage[]): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await cloud.offer(images, spec, { to: "public" }, call);
      return;
    } catch (error) {
      if (!isTransient(error) || attempt === ATTEMPTS) throw error;
    }
  }
}
