import { expect, test } from "vitest";
import { adaptiveWindow } from "./window.ts";

const never = new AbortController().signal;

test("grows by one for each round of successes, up to its most", async () => {
  const window = adaptiveWindow(4);
  expect(window.size).toBe(2);
  for (let i = 0; i < 20; i++) {
    await window.enter(never);
    window.leave("done", 10);
  }
  expect(window.size).toBe(4);
});

test("shrinks once for one burst of busy answers, never below one", async () => {
  let now = 0;
  const window = adaptiveWindow(16, () => now);
  for (let burst = 0; burst < 10; burst++) {
    for (let i = 0; i < 5; i++) {
      await window.enter(never);
      window.leave("throttled", 10);
    }
    if (burst === 0) expect(window.size).toBe(5);
    now += 2_000;
  }
  expect(window.size).toBe(1);
});

test("does not grow while answers take many times longer than they could", async () => {
  const window = adaptiveWindow(16);
  await window.enter(never);
  window.leave("done", 200);
  const before = window.size;
  for (let i = 0; i < 50; i++) {
    await window.enter(never);
    window.leave("done", 5_000);
  }
  expect(window.size).toBe(before);
});

test("lets no more in than it has places, in order, and forgets who was stopped", async () => {
  const window = adaptiveWindow(2);
  const order: number[] = [];
  const stop = new AbortController();
  await window.enter(never);
  const second = window.enter(stop.signal).then(() => order.push(2));
  const third = window.enter(never).then(() => order.push(3));
  stop.abort(new Error("stopped"));
  await expect(second).rejects.toThrow("stopped");
  window.leave("done", 1);
  await third;
  expect(order).toEqual([3]);
});
