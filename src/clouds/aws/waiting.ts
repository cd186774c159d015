import { setTimeout as delay } from "node:timers/promises";
import { codeOf, SlipwayError } from "../../lib/errors.ts";
import { minutes, seconds } from "../../lib/units.ts";
import { CloudError } from "../errors.ts";

/** How often AWS is asked whether something is done, and for how long. Milliseconds. */
export interface Pace {
  /** First pause; each is half as long again as the one before. */
  readonly firstMs: number;
  readonly mostMs: number;
  /** A new snapshot or image may be unknown for so long: PutSnapshotBlock was seen to answer 404 for two minutes. */
  readonly visibleMs: number;
  readonly completeMs: number;
  readonly registerMs: number;
  /** Best effort at AWS: minutes as a rule, an hour on bad days. */
  readonly copyMs: number;
  /** An import waits in a queue of AWS's before it begins. */
  readonly importMs: number;
  /** How long a request that is refused for want of pace is asked again. */
  readonly throttledMs: number;
  /** A call that has not been answered to the end by then has been lost. */
  readonly answerMs: number;
  /** The same for blocks, and the longest silence in the middle of one. */
  readonly blockAnswerMs: number;
}

/** @see https://github.com/awslabs/coldsnap/issues/43 for how long a snapshot stays unknown */
export const DEFAULT_PACE: Pace = {
  firstMs: seconds(1),
  mostMs: seconds(20),
  visibleMs: seconds(150),
  completeMs: minutes(60),
  registerMs: minutes(15),
  copyMs: minutes(85),
  // Ten minutes were too few for NixOS's images, a hundred were enough.
  importMs: minutes(100),
  throttledMs: minutes(10),
  // A region that answers after a minute and a half is slow, not gone.
  answerMs: seconds(120),
  // A block is taken in a tenth of a second; a put that hangs is better sent again. Coldsnap came to 12 s to 20 s too.
  blockAnswerMs: seconds(20),
};

export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await delay(ms, undefined, { signal });
  } catch (cause) {
    throw new SlipwayError("cancelled", "Waiting was stopped.", { cause });
  }
}

/**
 * Asks again while AWS refuses to listen. A throttled request was not carried out, so this is pacing and no third level
 * of retrying: a region that refuses every third request is slow, not broken, and costs no attempt of a step.
 * @throws CloudError `throttled` when it was refused for as long as the pace allows
 */
export async function whileThrottled<T>(pace: Pace, signal: AbortSignal, ask: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + pace.throttledMs;
  let wait = pace.firstMs;
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (codeOf(error) !== "throttled" || performance.now() + wait > deadline) throw error;
    }
    // Whoever was refused together shall not come back together.
    await pause(wait * (0.5 + Math.random()), signal);
    wait = Math.min(wait * 2, pace.mostMs);
  }
}

/**
 * Asks until `look` has an answer.
 * @throws CloudError `unavailable` at the deadline, so that a later attempt goes on waiting
 */
export async function until<T>(
  look: () => Promise<T | undefined>,
  options: { what: string; operation: string; region: string; deadlineMs: number; pace: Pace; signal: AbortSignal },
): Promise<T> {
  const { what, operation, region, deadlineMs, pace, signal } = options;
  const deadline = performance.now() + deadlineMs;
  let wait = pace.firstMs;
  for (;;) {
    const seen = await look();
    if (seen !== undefined) return seen;
    const left = deadline - performance.now();
    if (left <= 0) {
      throw new CloudError("unavailable", `${what} did not come about in time.`, {
        cloud: "aws",
        operation,
        region,
        tried: `looked for ${Math.round(deadlineMs / 1000)} s`,
        next: "It is looked at again by the next attempt, which goes on waiting.",
      });
    }
    await pause(Math.min(wait, left), signal);
    wait = Math.min(wait * 1.5, pace.mostMs);
  }
}

/** Works on all items, so many at a time, and yields results as they come. `work` must not throw for what is a result. */
export async function* asCompleted<T, R>(
  items: readonly T[],
  atOnce: number,
  work: (item: T) => Promise<R>,
): AsyncGenerator<R> {
  const waiting = [...items];
  const running = new Map<number, Promise<readonly [number, R]>>();
  let next = 0;
  try {
    for (;;) {
      while (running.size < atOnce && waiting.length > 0) {
        const id = next++;
        running.set(
          id,
          work(waiting.shift()!).then((result) => [id, result] as const),
        );
      }
      if (running.size === 0) return;
      const [id, result] = await Promise.race(running.values());
      running.delete(id);
      yield result;
    }
  } finally {
    // Whoever stops reading stops the rest by the signal; nothing may fail unheard.
    for (const left of running.values()) left.catch(() => {});
  }
}

/** Works on all items even if some fail, then throws the first failure. */
export async function forEachOf<T>(
  items: readonly T[],
  atOnce: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const failures: unknown[] = [];
  const settled = asCompleted(items, atOnce, async (item) => {
    try {
      await work(item);
    } catch (error) {
      failures.push(error);
    }
  });
  for await (const _ of settled);
  if (failures.length > 0) throw failures[0];
}
