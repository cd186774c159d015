import { describe, expect, test } from "vitest";
import { quietCall } from "../../lib/call.ts";
import { MiB } from "../../lib/units.ts";
import type { Cloud, StagedOutcome } from "../cloud.ts";
import { inProduction } from "../index.ts";
import { digestsOf, fakeDisk, tapped } from "../testing/disks.ts";
import { keptJournals, openWeather, REGIONS_22, type Weather } from "./testing/weather.ts";

const SECONDS = 120_000;
const call = quietCall();
const BLOCKS = 48;
const disk = () => fakeDisk(BLOCKS * (MiB / 2), [...Array(BLOCKS).keys()]);

async function collect(outcomes: AsyncIterable<StagedOutcome>, each: (outcome: StagedOutcome) => void = () => {}) {
  const all: StagedOutcome[] = [];
  for await (const outcome of outcomes) {
    all.push(outcome);
    each(outcome);
  }
  return all;
}

const regionsOf = (outcomes: readonly StagedOutcome[]) =>
  outcomes.flatMap((outcome) => ("staged" in outcome ? outcome.region : [])).sort();

async function withWeather(run: (weather: Weather, cloud: Cloud) => Promise<void>): Promise<void> {
  const weather = await openWeather();
  try {
    await run(weather, inProduction(weather.open({ patienceMs: 20 })));
  } finally {
    await weather.close();
  }
}

describe("a disk written to many regions at once", () => {
  test("is read once, and every region holds the same bytes", { timeout: SECONDS }, async () => {
    await withWeather(async (weather) => {
      const cloud = inProduction(weather.open({ patienceMs: SECONDS }));
      const source = disk();
      const outcomes = await collect(cloud.uploadEach!(source, weather.spec, REGIONS_22, keptJournals(), call));
      expect(regionsOf(outcomes)).toEqual([...REGIONS_22].sort());
      expect([...source.yielded.values()]).toEqual(Array(BLOCKS).fill(1));
      expect(source.held()).toBe(0);
      const wanted = (await digestsOf(disk(), call)).map((digest) => Buffer.from(digest, "hex").toString("base64"));
      for (const region of REGIONS_22) {
        const [snapshot, ...more] = weather.simulator.state.snapshots(region);
        expect(more).toEqual([]);
        expect(snapshot?.state).toBe("completed");
        expect([...snapshot!.puts.values()]).toEqual(Array(BLOCKS).fill(1));
        const held = [...snapshot!.blocks].sort(([a], [b]) => a - b).map(([, digest]) => digest);
        expect(held).toEqual(wanted);
      }
    });
  });

  test.each(["says nothing", "takes no block"] as const)(
    "does not wait for a region that %s",
    { timeout: SECONDS },
    async (how) => {
      await withWeather(async (weather, cloud) => {
        const late = "sa-east-1";
        const answers = weather.hold(late, how === "says nothing" ? () => true : (request) => request.method === "PUT");
        const ended: string[] = [];
        const outcomes = await collect(
          cloud.uploadEach!(disk(), weather.spec, REGIONS_22, keptJournals(), call),
          ({ region }) => {
            ended.push(region);
            if (ended.length === REGIONS_22.length - 1) answers.release();
          },
        );
        expect(regionsOf(outcomes)).toEqual([...REGIONS_22].sort());
        expect(ended.at(-1)).toBe(late);
        expect(weather.simulator.state.snapshots(late)).toHaveLength(1);
      });
    },
  );

  test("reports a dead region, and sends nothing twice when it is back", { timeout: SECONDS }, async () => {
    await withWeather(async (weather, cloud) => {
      weather.kill("me-south-1");
      const kept = keptJournals();
      const first = await collect(cloud.uploadEach!(disk(), weather.spec, REGIONS_22, kept, call));
      expect(first.filter((outcome) => "error" in outcome)).toMatchObject([
        { region: "me-south-1", error: { code: "unavailable", region: "me-south-1" } },
      ]);
      weather.revive("me-south-1");
      const second = await collect(cloud.uploadEach!(disk(), weather.spec, REGIONS_22, kept, call));
      expect(regionsOf(second)).toEqual([...REGIONS_22].sort());
      for (const region of REGIONS_22) {
        const snapshots = weather.simulator.state.snapshots(region);
        expect(snapshots).toHaveLength(1);
        expect(Math.max(...snapshots[0]!.puts.values())).toBe(1);
      }
    });
  });

  test("goes on in every region where it was, after it was stopped in the middle", { timeout: SECONDS }, async () => {
    await withWeather(async (weather) => {
      const kept = keptJournals();
      const stop = new AbortController();
      const dying = tapped(disk(), (count) => {
        if (count === 30) stop.abort();
      });
      const first = inProduction(weather.open({ patienceMs: SECONDS }));
      await expect(
        collect(first.uploadEach!(dying, weather.spec, REGIONS_22, kept, quietCall(stop.signal))),
      ).rejects.toMatchObject({ code: "cancelled" });
      const acked = new Map<string, number>();
      for (const region of REGIONS_22) acked.set(region, (await kept(region)).ackedCount);
      const again = inProduction(weather.open({ patienceMs: SECONDS }));
      const before = weather.puts();
      const outcomes = await collect(again.uploadEach!(disk(), weather.spec, REGIONS_22, kept, call));
      expect(regionsOf(outcomes)).toEqual([...REGIONS_22].sort());
      for (const region of REGIONS_22) {
        expect(weather.simulator.state.snapshots(region)).toHaveLength(1);
        const sent = (weather.puts().get(region) ?? 0) - (before.get(region) ?? 0);
        expect(sent).toBe(BLOCKS - acked.get(region)!);
      }
    });
  });

  test("that has another's name in a region is not written there", { timeout: SECONDS }, async () => {
    await withWeather(async (weather, cloud) => {
      const [staged] = await collect(cloud.uploadEach!(disk(), weather.spec, ["eu-west-1"], keptJournals(), call));
      const stranger = { ...weather.spec, key: "another", homeRegion: "eu-west-1" };
      if (!staged || !("staged" in staged)) throw new Error("not staged");
      await cloud.register(staged.staged, stranger, call);
      const other = { ...weather.spec, diskKey: "another-disk" };
      const outcomes = await collect(
        cloud.uploadEach!(disk(), other, ["eu-west-1", "us-east-1"], keptJournals(), call),
      );
      expect(outcomes.find(({ region }) => region === "eu-west-1")).toMatchObject({
        error: { code: "already-exists" },
      });
      expect(regionsOf(outcomes)).toEqual(["us-east-1"]);
    });
  });
});
