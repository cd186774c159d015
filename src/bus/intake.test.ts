import { expect, test } from "vitest";
import { silent } from "../lib/call.ts";
import type { Accepted } from "./inbox.ts";
import { openIntake } from "./intake.ts";
import type { Delivery } from "./message.ts";

const delivery = (messageId: string, bytes = 2): Delivery => ({
  ...{ routingKey: "t", messageId, content: Buffer.alloc(bytes, 0x20) },
});

/** A database that is told when to take a batch, and what to say. */
function recorder() {
  const batches: string[][] = [];
  const calls: { settle: (fails?: boolean) => void }[] = [];
  const accept = (deliveries: readonly Delivery[]) => {
    const ids = deliveries.map(({ messageId }) => messageId!);
    return new Promise<Accepted>((resolve, reject) => {
      calls.push({
        settle(fails = false) {
          if (fails) return reject(new Error("the database is away"));
          batches.push(ids);
          resolve({ fresh: ids, repeated: 0, quarantined: 0 });
        },
      });
    });
  };
  const call = async (index: number) => {
    while (calls.length <= index) await new Promise((done) => setImmediate(done));
    return calls[index]!;
  };
  return { accept, batches, calls, call };
}

test("a lone message goes at once, and what comes meanwhile goes together", async () => {
  const { accept, batches, call } = recorder();
  const intake = openIntake({ accept, log: silent, signal: new AbortController().signal });
  const acked: string[] = [];
  const take = (id: string) => intake.take(delivery(id), () => acked.push(id));
  take("a");
  const first = await call(0);
  for (const id of ["b", "c", "d"]) take(id);
  expect(acked).toEqual([]);
  first.settle();
  (await call(1)).settle();
  await intake.drain();
  expect(batches).toEqual([["a"], ["b", "c", "d"]]);
  expect(acked).toEqual(["a", "b", "c", "d"]);
  expect(intake.counts()).toMatchObject({ received: 4, fresh: 4, waiting: 0, lastReceivedAt: expect.any(Number) });
});

test("nothing is acknowledged while the database is away, and everything afterwards, in order", async () => {
  const { accept, batches, call } = recorder();
  const intake = openIntake({ accept, log: silent, signal: new AbortController().signal });
  const acked: string[] = [];
  for (const id of ["a", "b"]) intake.take(delivery(id), () => acked.push(id));
  for (let time = 0; time < 2; time++) {
    (await call(time)).settle(true);
    expect(acked).toEqual([]);
    expect(intake.counts().waiting).toBe(2);
  }
  (await call(2)).settle();
  await intake.drain();
  expect(batches).toEqual([["a", "b"]]);
  expect(acked).toEqual(["a", "b"]);
});

test("what ends in the middle acknowledges nothing that is not kept", async () => {
  const stop = new AbortController();
  const { accept, call } = recorder();
  const intake = openIntake({ accept, log: silent, signal: stop.signal });
  const acked: string[] = [];
  intake.take(delivery("a"), () => acked.push("a"));
  const first = await call(0);
  stop.abort();
  first.settle(true);
  await intake.drain();
  intake.take(delivery("b"), () => acked.push("b"));
  await intake.drain();
  expect(acked).toEqual([]);
  expect(intake.counts().received).toBe(1);
});

test("a closed one keeps what it has and takes nothing more", async () => {
  const { accept, batches, call } = recorder();
  const intake = openIntake({ accept, log: silent, signal: new AbortController().signal });
  intake.take(delivery("a"), () => {});
  const closing = intake.close();
  intake.take(delivery("b"), () => {});
  (await call(0)).settle();
  await closing;
  expect(batches).toEqual([["a"]]);
});

test("a batch is bounded by bytes, and one that is larger than the bound goes alone", async () => {
  const { accept, batches, call } = recorder();
  const intake = openIntake({ accept, log: silent, signal: new AbortController().signal });
  const MiB = 1024 * 1024;
  for (const [id, bytes] of [
    ["a", 20],
    ["b", 10],
    ["c", 40],
    ["d", 1],
    ["e", 1],
  ] as const) {
    intake.take(delivery(id, bytes * MiB), () => {});
  }
  for (let index = 0; index < 3; index++) (await call(index)).settle();
  await intake.drain();
  expect(batches).toEqual([["a", "b"], ["c"], ["d", "e"]]);
});
