/** The fake runs of the other tests say what a real engine says: here is one, with releases that end in every way. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { SlipwayError } from "../lib/errors.ts";
import { hours } from "../lib/units.ts";
import { openStage, type Stage } from "../workflows/testing/stage.ts";
import { ALARM_MIGRATIONS, type AlarmTables } from "./schema.ts";
import type { World } from "./watch.ts";
import { watchComposes } from "./watch-composes.ts";
import { watchQueues } from "./watch-queues.ts";
import { watchRuns } from "./watch-runs.ts";

let stage: Stage;
beforeAll(async () => {
  stage = await openStage();
  await stage.database.migrate("alarms", ALARM_MIGRATIONS);
});
afterAll(() => stage?.close());

const world = (later = 0): World => ({
  ...{ db: stage.database.kysely<AlarmTables>(), runs: stage.engine },
  now: new Date(Date.now() + later),
});

test("a release that is out in part, until it is out", async () => {
  const play = await stage.play({ to: ["one", "two"] });
  play.faults.two = (cloud) => ({
    ...cloud,
    register: () => Promise.reject(new SlipwayError("quota", "the account is full")),
  });
  const expected = [{ system: play.system, every: hours(1) }];
  expect(await watchComposes(world(), expected, 0)).toEqual([]);
  const first = await play.release();
  expect(first.outcome.result).not.toBe("done");
  const [alarm, ...others] = await watchRuns(world(), hours(1), new Map());
  expect(others).toEqual([]);
  expect(alarm).toMatchObject({ kind: "run-failed", subject: first.runId, key: expect.stringContaining(play.system) });
  delete play.faults.two;
  expect((await play.release()).outcome.result).toBe("done");
  expect(await watchRuns(world(), hours(1), new Map())).toEqual([]);

  expect(await watchComposes(world(hours(0.9)), expected, 0), "it has arrived").toEqual([]);
  expect(await watchComposes(world(hours(1.1)), expected, 0)).toMatchObject([
    { message: expect.stringContaining("the last one came at ") },
  ]);
});

test("runs that have ended wait in no queue", async () => {
  const limits = { after: hours(1), runsAfter: 1, sending: false };
  expect(await watchQueues(world(hours(2)), limits)).toEqual([]);
});
