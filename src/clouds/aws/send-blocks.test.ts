import { expect, test } from "vitest";
import { CloudError } from "../errors.ts";
import type { EbsDirect } from "./ebs.ts";
import { blockSender, ZERO_BLOCK, ZERO_SHA256 } from "./send-blocks.ts";

type Put = EbsDirect["putBlock"];

function senderWith(putBlock: Put, changes: { inFlight?: number; visibleUntil?: number; signal?: AbortSignal } = {}) {
  const options = { inFlight: 8, signal: new AbortController().signal, visibleUntil: 0, pollMs: 1, ...changes };
  return blockSender({ putBlock } as EbsDirect, "snap-1", options);
}

function failure(code: "throttled" | "unavailable" | "not-found" | "invalid") {
  return new CloudError(code, code, { cloud: "aws", operation: "PutSnapshotBlock" });
}

test("never more blocks are under way than allowed, and data goes before zeros", async () => {
  let running = 0;
  let most = 0;
  const order: number[] = [];
  const sender = senderWith(async (_id, index) => {
    most = Math.max(most, ++running);
    order.push(index);
    await new Promise((done) => setImmediate(done));
    running--;
  });
  for (let index = 100; index < 120; index++) sender.sendZero(index, () => {});
  for (let index = 0; index < 20; index++) await sender.send(index, ZERO_BLOCK, ZERO_SHA256, () => {});
  await sender.drain();
  expect(most).toBeLessThanOrEqual(8);
  expect(order).toHaveLength(40);
  // The zeros that found the window empty went at once; the others waited until the data was under way.
  expect(order.slice(-12).every((index) => index >= 100)).toBe(true);
});

test("a throttled block is sent again and acknowledged once", async () => {
  const seen: number[] = [];
  const acked: number[] = [];
  const sender = senderWith(async (_id, index) => {
    seen.push(index);
    if (seen.filter((one) => one === index).length < 2) throw failure("throttled");
  });
  await sender.send(7, ZERO_BLOCK, ZERO_SHA256, () => acked.push(7));
  await sender.drain();
  expect(seen).toEqual([7, 7]);
  expect(acked).toEqual([7]);
});

test("a snapshot that is not known yet is waited for; one that stays unknown is an error", async () => {
  let left = 20;
  const late = senderWith(
    async () => {
      if (left-- > 0) throw failure("not-found");
    },
    { visibleUntil: performance.now() + 10_000 },
  );
  await late.send(0, ZERO_BLOCK, ZERO_SHA256, () => {});
  await late.drain();
  const gone = senderWith(async () => {
    throw failure("not-found");
  });
  await gone.send(0, ZERO_BLOCK, ZERO_SHA256, () => {});
  await expect(gone.drain()).rejects.toMatchObject({ code: "not-found" });
});

test("what no retry helps ends everything, and every slot is given back once", async () => {
  let released = 0;
  const sender = senderWith(async (_id, index, _data, _sha256, signal) => {
    if (index === 3) throw failure("invalid");
    await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason), { once: true }));
  });
  const sending = (async () => {
    for (let index = 0; index < 30; index++)
      await sender.send(
        index,
        ZERO_BLOCK,
        ZERO_SHA256,
        () => {},
        () => released++,
      );
  })();
  await expect(sending).rejects.toMatchObject({ code: "invalid" });
  await sender.stop();
  expect(released).toBeGreaterThanOrEqual(4);
});

test("an abort stops it as cancelled", async () => {
  const stop = new AbortController();
  const sender = senderWith(
    (_id, _index, _data, _sha256, signal) =>
      new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason), { once: true })),
    { signal: stop.signal },
  );
  await sender.send(0, ZERO_BLOCK, ZERO_SHA256, () => {});
  stop.abort();
  await expect(sender.drain()).rejects.toThrow();
});
