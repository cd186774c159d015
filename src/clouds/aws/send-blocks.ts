import { createHash } from "node:crypto";
import { setMaxListeners } from "node:events";
import { BLOCK_BYTES } from "../../images/block-source.ts";
import { codeOf, SlipwayError } from "../../lib/errors.ts";
import { seconds } from "../../lib/units.ts";
import type { EbsDirect } from "./ebs.ts";
import { pause } from "./waiting.ts";

/**
 * Puts blocks of one snapshot, many at a time, each retried a bounded number of times.
 *
 * How many are under way follows the wire: one more per window that went well, half as many when AWS throttles. Blocks
 * of data go before zeros, because the source waits for their memory.
 */
export interface BlockSender {
  /** Returns when the block is under way; `done` is called when AWS has it, `release` in any case, once. */
  send(index: number, data: Uint8Array, sha256: Uint8Array, done: () => void, release?: () => void): Promise<void>;
  /** Sends zeros when there is nothing better to do. */
  sendZero(index: number, done: () => void): void;
  /** Resolves when all is acknowledged. @throws the first error that no retry helped */
  drain(): Promise<void>;
  /** Stops what is under way and waits until it has stopped. Never throws. */
  stop(): Promise<void>;
}

export const ZERO_BLOCK = Buffer.alloc(BLOCK_BYTES);
export const ZERO_SHA256 = createHash("sha256").update(ZERO_BLOCK).digest();

/** The first window: enough to fill a near link, little enough to harm nobody. */
const FIRST_WINDOW = 16;
const ATTEMPTS = 7;
const FIRST_BACKOFF_MS = 100;
const MOST_BACKOFF_MS = seconds(5);
/** A window that grew slower than this factor over the best latency seen is full: more only waits in a queue. */
const SLOWER = 3;

export function blockSender(
  ebs: EbsDirect,
  snapshotId: string,
  options: { inFlight: number; signal: AbortSignal; visibleUntil: number; pollMs: number },
): BlockSender {
  // One signal for all puts: hundreds listen to it at a time.
  const stopping = new AbortController();
  const signal = AbortSignal.any([options.signal, stopping.signal]);
  setMaxListeners(0, signal);

  let window = Math.min(FIRST_WINDOW, options.inFlight);
  let bestMs = Number.POSITIVE_INFINITY;
  let lastHalved = 0;
  let running = 0;
  let failure: unknown;
  const dataWaiting: (() => void)[] = [];
  const zerosWaiting: { index: number; done: () => void }[] = [];
  let settled: (() => void)[] = [];

  function grew(ms: number): void {
    bestMs = Math.min(bestMs, ms);
    if (ms < bestMs * SLOWER + 5) window = Math.min(options.inFlight, window + 1 / window);
  }
  function shrink(): void {
    const now = performance.now();
    // One burst of throttling is one message, however many puts were in it.
    if (now - lastHalved < 250) return;
    lastHalved = now;
    window = Math.max(1, window / 2);
  }

  async function put(index: number, data: Uint8Array, sha256: Uint8Array): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      const began = performance.now();
      try {
        await ebs.putBlock(snapshotId, index, data, sha256, signal);
        grew(performance.now() - began);
        return;
      } catch (error) {
        const code = codeOf(error);
        if (code === "not-found" && performance.now() < options.visibleUntil) {
          // A new snapshot is not known everywhere at once; that costs no attempt.
          attempt--;
          await pause(options.pollMs, signal);
          continue;
        }
        if (code === "throttled") shrink();
        if ((code !== "throttled" && code !== "unavailable") || attempt === ATTEMPTS) throw error;
        const first = Math.min(FIRST_BACKOFF_MS, options.pollMs);
        const backoff = Math.min(MOST_BACKOFF_MS, first * 2 ** (attempt - 1));
        await pause(backoff * (0.5 + Math.random() / 2), signal);
      }
    }
  }

  function launch(index: number, data: Uint8Array, sha256: Uint8Array, done: () => void, release: () => void): void {
    running++;
    put(index, data, sha256)
      .then(done)
      .catch((error: unknown) => {
        failure ??= error;
        stopping.abort(error);
      })
      .finally(() => {
        release();
        running--;
        pump();
      });
  }

  function pump(): void {
    if (failure || signal.aborted) {
      for (const go of dataWaiting.splice(0)) go();
      zerosWaiting.length = 0;
    }
    while (running < Math.floor(window) && dataWaiting.length + zerosWaiting.length > 0) {
      const go = dataWaiting.shift();
      if (go) {
        go();
        // Whoever was let go launches in its own turn; counting it now would count it twice.
        return;
      }
      const zero = zerosWaiting.shift()!;
      launch(zero.index, ZERO_BLOCK, ZERO_SHA256, zero.done, () => {});
    }
    if (running === 0 && zerosWaiting.length === 0) for (const done of settled.splice(0)) done();
  }

  function throwIfOver(): void {
    if (failure) throw failure;
    if (signal.aborted) throw new SlipwayError("cancelled", "Sending blocks was stopped.", { cause: signal.reason });
  }

  return {
    async send(index, data, sha256, done, release = () => {}) {
      while (running >= Math.floor(window) && !failure && !signal.aborted) {
        await new Promise<void>((go) => dataWaiting.push(go));
      }
      try {
        throwIfOver();
      } catch (error) {
        release();
        throw error;
      }
      launch(index, data, sha256, done, release);
    },
    sendZero(index, done) {
      zerosWaiting.push({ index, done });
      pump();
    },
    async drain() {
      while ((running > 0 || zerosWaiting.length > 0) && !failure && !signal.aborted) {
        await new Promise<void>((done) => {
          settled.push(done);
          pump();
        });
      }
      while (running > 0) await new Promise<void>((done) => settled.push(done));
      throwIfOver();
    },
    async stop() {
      stopping.abort();
      zerosWaiting.length = 0;
      while (running > 0) await new Promise<void>((done) => settled.push(done));
      settled = [];
    },
  };
}
