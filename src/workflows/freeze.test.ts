import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { windowAt } from "./freeze.ts";
import { offerThawed } from "./index.ts";
import { openStage, type Play, type Stage } from "./testing/stage.ts";

describe("which window is now", () => {
  const window = (from: number, until: number, systems?: string[]) => ({ from, until, systems, reason: `${from}` });
  const at = new Date(50);

  test("begins with its first moment, ends before its last, and the longest one counts", () => {
    expect(windowAt([window(50, 60)], at)).toMatchObject({ until: 60 });
    expect(windowAt([window(40, 50), window(51, 60)], at)).toBeUndefined();
    expect(windowAt([window(40, 60), window(45, 90), window(49, 70)], at)).toMatchObject({ until: 90 });
  });

  test("is one of a system, or of all", () => {
    expect(windowAt([window(40, 60, ["cloud"])], at, "cloud")).toBeDefined();
    expect(windowAt([window(40, 60, ["cloud"])], at, "iot")).toBeUndefined();
    expect(windowAt([window(40, 60)], at, "iot")).toBeDefined();
    expect(windowAt([window(40, 60, ["cloud"])], at)).toBeDefined();
  });
});

describe("a release in a freeze window", () => {
  let stage: Stage;
  beforeAll(async () => {
    stage = await openStage();
  });
  afterAll(() => stage?.close());
  afterEach(() => {
    stage.automation.freeze = [];
  });
  const freeze = (play: Play, minutes: number) => {
    const now = stage.services.now().getTime();
    stage.automation.freeze = [
      { from: now - 3_600_000, until: now + minutes * 60_000, reason: "final freeze", systems: [play.system] },
    ];
  };
  const thaw = () => offerThawed(stage.engine, stage.services);
  const states = async (play: Play) => [...new Set((await play.images()).map(({ state }) => state))];

  test("is made and checked everywhere, offered to nobody, and offered when the window ends", async () => {
    const play = await stage.play({ to: ["one", "two"], containers: true });
    freeze(play, 60);
    const { outcome } = await play.release();
    expect(outcome.groups.map(({ held }) => held?.reason)).toEqual(outcome.groups.map(() => "final freeze"));
    expect(await states(play)).toEqual(["candidate"]);
    // A version has a tag of its own, which moves nobody; who waits for images is not told.
    const told = (await play.messages()).map(({ topic }) => topic);
    expect(told.filter((topic) => !topic.includes(".container."))).toEqual([]);
    const tags = async () => (await play.containers()).map(({ tags: own }) => own);
    const before = await tags();

    expect(await thaw()).toEqual([]);
    freeze(play, -1);
    // It ended sooner than was said: what was held until then waits until then.
    expect(await thaw()).toEqual([]);
    await stage.database.pool.query("update held_offers set until_at = '2025-10-21T11:00Z'");
    const [run, ...more] = await thaw();
    expect(more).toEqual([]);
    expect(await stage.engine.result(run!)).toMatchObject({ result: "done" });
    expect(await states(play)).toEqual(["active"]);
    expect((await tags()).flat().length).toBeGreaterThanOrEqual(before.flat().length);
    expect(await thaw()).toEqual([]);
  });

  test("stays held while another window is open", async () => {
    const play = await stage.play({ to: ["one"] });
    freeze(play, 60);
    await play.release();
    await stage.database.pool.query("update held_offers set until_at = '2025-10-21T11:00Z' where offered_by is null");
    expect(await thaw()).toEqual([]);
    stage.automation.freeze = [];
    expect(await thaw()).toHaveLength(1);
  });

  test("another system's window does not hold it", async () => {
    const play = await stage.play({ to: ["one"] });
    const other = await stage.play({ to: ["one"] });
    freeze(other, 60);
    const { outcome } = await play.release();
    expect(outcome.groups[0]).not.toHaveProperty("held");
    expect(await states(play)).toEqual(["active"]);
  });
});
