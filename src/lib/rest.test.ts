import { expect, test } from "vitest";
import { createRest } from "./rest.ts";

const LONG_MS = 3_600_000;

test("whoever is told of work does not rest, be it before or meanwhile", async () => {
  const rest = createRest();
  rest.wake();
  await rest.wait(LONG_MS);
  rest.begin();
  const resting = rest.wait(LONG_MS);
  rest.wake();
  await resting;
});

test("what was told before the look began is forgotten, and the rest has an end", async () => {
  const rest = createRest();
  rest.wake();
  rest.begin();
  let ended = false;
  const resting = rest.wait(1).then(() => {
    ended = true;
  });
  await Promise.resolve();
  expect(ended).toBe(false);
  await resting;
});
