import { expect, test } from "vitest";
import type { AttemptView, RunView, StepView } from "../durable/index.ts";
import { createPicture } from "./follow.ts";

function run(changes: Partial<RunView> = {}): RunView {
  return {
    ...{ id: "r", workflow: "release-disk", title: "image → aws", labels: {}, root: "r", queue: "aws" },
    ...{ state: "running", createdAt: 0 },
    ...changes,
  };
}

function step(name: string, changes: Partial<StepView> & { tries?: number } = {}): StepView {
  const { tries = 1, ...rest } = changes;
  const attempts = Array.from({ length: tries }, (_, index) => ({ attempt: index + 1 }) as AttemptView);
  return { run: "r", key: name, name, state: "running", startedAt: 0, attempts, ...rest };
}

test("a run without children is its own row; with children they are the rows, by title", () => {
  const picture = createPicture();
  picture.run(run({ id: "root", title: "compose" }));
  expect(picture.rows()).toMatchObject([{ id: "root", label: "compose", state: "running" }]);
  picture.run(run({ id: "2", parent: "root", title: "b", state: "waiting" }));
  picture.run(run({ id: "1", parent: "root", title: "a" }));
  expect(picture.rows().map(({ label, state }) => [label, state])).toEqual([
    ["a", "running"],
    ["b", "waiting"],
  ]);
});

test.each([
  { name: "done", view: run({ state: "done", startedAt: 1000, endedAt: 13_345 }), state: "done", note: "12.3 s" },
  {
    name: "failed",
    view: run({ state: "failed", error: { code: "quota", message: "full" } }),
    state: "failed",
    note: "full",
  },
  { name: "cancelled", view: run({ state: "cancelled" }), state: "failed", note: "cancelled" },
])("a run that is $name", ({ view, state, note }) => {
  const picture = createPicture();
  picture.step(step("upload-disk"));
  picture.run(view);
  expect(picture.rows()).toMatchObject([{ state, note }]);
});

test("the step that began last and still runs is the one shown, with its attempt and regions", () => {
  const picture = createPicture();
  picture.run(run());
  expect(picture.rows()[0]).not.toHaveProperty("note");
  picture.step(step("survey-images"));
  expect(picture.rows()[0]?.note).toBe("survey-images");
  picture.step(step("survey-images", { state: "done" }));
  expect(picture.rows()[0]).not.toHaveProperty("note");
  picture.step(step("replicate-image", { tries: 3, progress: { doneRegions: 2, totalRegions: 17 } }));
  expect(picture.rows()[0]?.note).toBe("replicate-image 2 of 17 regions, attempt 3");
  picture.step(step("replicate-image", { progress: { totalRegions: 17 } }));
  expect(picture.rows()[0]?.note).toBe("replicate-image 0 of 17 regions");
});

test("steps of another run are not this run's", () => {
  const picture = createPicture();
  picture.run(run({ id: "other" }));
  picture.step(step("upload-disk"));
  expect(picture.rows()[0]).not.toHaveProperty("note");
});

test("a rate is measured over a second at least, smoothed, and begins anew with a new attempt", () => {
  let now = 0;
  const picture = createPicture(() => now);
  picture.run(run());
  const at = (time: number, doneBytes: number) => {
    now = time;
    picture.step(step("upload-disk", { progress: { doneBytes, totalBytes: 10_000 } }));
    return picture.rows()[0]?.bytesPerSecond;
  };
  expect(at(0, 0)).toBe(0);
  expect(at(500, 900)).toBe(0);
  expect(at(1000, 1000)).toBe(1000);
  expect(at(1500, 1900)).toBe(1000);
  expect(at(2000, 3000)).toBe(0.6 * 1000 + 0.4 * 2000);
  expect(at(2100, 100)).toBe(0);
  expect(picture.rows()[0]).toMatchObject({ note: "upload-disk", doneBytes: 100, totalBytes: 10_000 });
});
