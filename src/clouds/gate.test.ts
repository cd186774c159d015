import { expect, test } from "vitest";
import { uploadPlaces } from "./gate.ts";

const never = new AbortController().signal;

test("two who want the same two places, named in other orders, both get their turn", async () => {
  const hold = uploadPlaces(1);
  const done: string[] = [];
  // Each gives the other every chance to take the first of its places before it takes the second.
  const wants = (who: string, names: string[]) =>
    hold(names, never, async () => {
      await new Promise((next) => setImmediate(next));
      done.push(who);
    });
  await Promise.all([wants("one", ["a", "b"]), wants("other", ["b", "a"]), wants("third", ["b"])]);
  expect(done.toSorted()).toEqual(["one", "other", "third"]);
});

test("only so many at one name, and nobody waits for a name that is free", async () => {
  const hold = uploadPlaces(2);
  const running = new Map<string, number>();
  let most = 0;
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  const one = (name: string) =>
    hold([name], never, async () => {
      running.set(name, (running.get(name) ?? 0) + 1);
      most = Math.max(most, running.get(name)!);
      await opened;
      running.set(name, running.get(name)! - 1);
    });
  const all = [one("a"), one("a"), one("a"), one("b")];
  await new Promise((next) => setImmediate(next));
  expect(Object.fromEntries(running)).toEqual({ a: 2, b: 1 });
  open();
  await Promise.all(all);
  expect(most).toBe(2);
});

test("who is stopped while it waits gives up, and what it held is free again", async () => {
  const hold = uploadPlaces(1);
  const stop = new AbortController();
  let open = () => {};
  const blocking = hold(["b"], never, () => new Promise<void>((resolve) => (open = resolve)));
  const waiting = hold(["a", "b"], stop.signal, async () => "never");
  stop.abort();
  await expect(waiting).rejects.toMatchObject({ code: "cancelled" });
  expect(await hold(["a"], never, async () => "free")).toBe("free");
  open();
  await blocking;
});
