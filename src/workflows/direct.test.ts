import { afterAll, beforeAll, expect, test } from "vitest";
import type { Cloud } from "../clouds/index.ts";
import { catchingUp, shareDisk } from "../images/shared-source.ts";
import { reportOf, SlipwayError } from "../lib/errors.ts";
import { openStage, REGIONS, type Stage } from "./testing/stage.ts";

const SECONDS = 60_000;

let stage: Stage;
beforeAll(async () => {
  stage = await openStage();
}, SECONDS);
afterAll(() => stage?.close());

/** The local cloud has one directory a region; written side by side they are what AWS's regions are. */
function direct(down: ReadonlySet<string> = new Set()) {
  return (cloud: Cloud): Cloud => ({
    ...cloud,
    replicate() {
      throw new Error("nothing is to be copied");
    },
    async *uploadEach(disk, spec, regions, journalOf, call) {
      const readers = shareDisk(disk, regions.length);
      const outcomes = regions.map(async (region, position) => {
        const reader = readers[position]!;
        try {
          if (down.has(region)) throw new SlipwayError("unavailable", `${region} is down`);
          await using journal = await journalOf(region);
          const there = { ...spec, homeRegion: region };
          return { region, staged: await catchingUp(() => cloud.upload(reader, there, journal, call)) };
        } catch (error) {
          return { region, error: reportOf(error) };
        } finally {
          await reader.close();
        }
      });
      for (const outcome of outcomes) yield await outcome;
    },
  });
}

test("every region is written from the source, read back, registered and offered", { timeout: SECONDS }, async () => {
  const play = await stage.play({ to: ["one"], direct: true });
  play.faults.one = direct();
  const { outcome, runId } = await play.release();
  expect(outcome.result).toBe("done");
  expect(Object.keys(outcome.groups[0]!.targets[0]!.regions).sort()).toEqual([...REGIONS].sort());
  const names = (await play.steps(runId)).map((step) => step.name);
  expect(names.filter((name) => name === "read-back" || name === "register-image")).toHaveLength(2 * REGIONS.length);
  expect(names).not.toContain("replicate-image");
  expect((await play.images()).map(({ region, state }) => `${region} ${state}`).sort()).toEqual(
    REGIONS.map((region) => `${region} active`).sort(),
  );
});

test("a region that is down is missing, and only it is written when it is back", { timeout: SECONDS }, async () => {
  const play = await stage.play({ to: ["one"], direct: true, offerWhen: { quorum: 0.6 } });
  const down = new Set<string>(["ap-south-1"]);
  play.faults.one = direct(down);
  const { outcome } = await play.release();
  expect(outcome.result).toBe("partial");
  expect(outcome.groups[0]?.targets[0]).toMatchObject({ state: "active", missing: [{ region: "ap-south-1" }] });
  const before = (await play.images()).filter(({ region }) => region !== "ap-south-1").map(({ id }) => id);
  expect((await play.images()).find(({ region }) => region === "ap-south-1")).toMatchObject({
    error: { code: "unavailable" },
  });

  down.clear();
  const again = await play.release(true);
  expect(again.outcome.result).toBe("done");
  const after = await play.images();
  expect(after.every(({ state }) => state === "active")).toBe(true);
  expect(after.map(({ id }) => id)).toEqual(expect.arrayContaining(before));
  const names = (await play.steps(again.runId)).map((step) => step.name);
  expect(names.filter((name) => name === "register-image")).toHaveLength(1);
});
