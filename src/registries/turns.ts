/**
 * Writers of one thing, one after the other: the distribution protocol has no compare-and-swap, so what is merged from
 * what is there must not be merged twice at once in this process, and is looked at again a while after it was written.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { CallContext } from "../lib/call.ts";

/** The time writers elsewhere are given to finish what they had begun. */
export async function settle(ms: number, call: CallContext): Promise<void> {
  if (ms > 0) await sleep(ms, undefined, { signal: call.signal }).catch(() => call.signal.throwIfAborted());
}

const turns = new Map<string, Promise<unknown>>();

/** One at a time per key within this process. A writer that gives up waiting does not hold up the next. */
export async function inTurn<T>(key: string, call: CallContext, work: () => Promise<T>): Promise<T> {
  call.signal.throwIfAborted();
  const before = turns.get(key) ?? Promise.resolve();
  const given = Promise.withResolvers<never>();
  const giveUp = () => given.reject(call.signal.reason);
  call.signal.addEventListener("abort", giveUp, { once: true });
  const mine = Promise.race([before, given.promise])
    .finally(() => call.signal.removeEventListener("abort", giveUp))
    .then(work);
  // Whoever comes next waits for both: this one may give up while the one before still writes.
  const both = Promise.allSettled([before, mine]).then(() => {
    if (turns.get(key) === both) turns.delete(key);
  });
  turns.set(key, both);
  return mine;
}
