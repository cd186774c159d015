/** How many requests may be under way: as many as the other side bears, found out by listening to it. */
export interface Window {
  /** Waits for a place. @throws the signal's reason */
  enter(signal: AbortSignal): Promise<void>;
  /** Gives the place back. `ms` is how long the answer took. */
  leave(outcome: "done" | "throttled" | "failed", ms: number): void;
  /** Places there are now; for tests and logs. */
  readonly size: number;
}

/**
 * azcopy's figures: on "busy" the rate falls to 65 %, and further busy answers to requests sent before that are not
 * counted a second time.
 * @see https://github.com/Azure/azure-storage-azcopy/blob/main/ste/pacer-autoPacer.go
 */
const SHRINK = 0.65;
const DEAF_MS = 1_000;
/**
 * A request this many times slower than the fastest seen waits in a queue, over there or on the way: more of them would
 * not help, and each holds memory. What is answered within a fifth of a second is not held back by any queue.
 */
const QUEUEING = 4;
const QUEUEING_MS = 200;

export function adaptiveWindow(most: number, now: () => number = () => performance.now()): Window {
  let size = Math.max(1, Math.ceil(most / 2));
  let used = 0;
  let successes = 0;
  let deafUntil = 0;
  let fastest = Number.POSITIVE_INFINITY;
  const waiting = new Set<() => void>();

  function admit(): void {
    for (const go of waiting) {
      if (used >= size) return;
      waiting.delete(go);
      used++;
      go();
    }
  }

  return {
    get size() {
      return size;
    },
    async enter(signal) {
      signal.throwIfAborted();
      if (used < size) {
        used++;
        return;
      }
      await new Promise<void>((resolve, reject) => {
        const go = () => {
          signal.removeEventListener("abort", stop);
          resolve();
        };
        const stop = () => {
          waiting.delete(go);
          reject(signal.reason);
        };
        waiting.add(go);
        signal.addEventListener("abort", stop, { once: true });
      });
    },
    leave(outcome, ms) {
      used--;
      if (outcome === "throttled" && now() >= deafUntil) {
        size = Math.max(1, Math.floor(size * SHRINK));
        deafUntil = now() + DEAF_MS;
        successes = 0;
      }
      if (outcome === "done") {
        fastest = Math.min(fastest, ms);
        const queueing = ms > QUEUEING_MS && ms > fastest * QUEUEING;
        if (!queueing && ++successes >= size && size < most) {
          size++;
          successes = 0;
        }
      }
      admit();
    },
  };
}
