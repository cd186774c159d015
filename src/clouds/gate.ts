import { SlipwayError } from "../lib/errors.ts";

/** Lets only so many bodies run at one time; the others wait their turn, and stop waiting when their signal says so. */
export type Gate = <T>(signal: AbortSignal, body: () => Promise<T>) => Promise<T>;

export function gate(places: number): Gate {
  let free = places;
  const waiting = new Set<() => void>();
  async function enter(signal: AbortSignal): Promise<void> {
    if (signal.aborted) throw new SlipwayError("cancelled", "Stopped before it began.");
    if (free > 0) {
      free--;
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const turn = () => {
        signal.removeEventListener("abort", stop);
        resolve();
      };
      const stop = () => {
        waiting.delete(turn);
        reject(new SlipwayError("cancelled", "Stopped while waiting for its turn."));
      };
      waiting.add(turn);
      signal.addEventListener("abort", stop, { once: true });
    });
  }
  function leave(): void {
    const [next] = waiting;
    if (next) {
      waiting.delete(next);
      next();
    } else free++;
  }
  return async (signal, body) => {
    await enter(signal);
    try {
      return await body();
    } finally {
      leave();
    }
  };
}

/**
 * Places to upload from, so many for each name.
 *
 * Who uploads one disk to several targets needs a place at each before it begins, because one decoder feeds them all at
 * the pace of the slowest. Places are taken in one order by everybody: two who want the same ones never hold one each
 * and wait for the other for ever.
 */
export function uploadPlaces(placesEach: number) {
  const gates = new Map<string, Gate>();
  const gateOf = (name: string) => {
    const known = gates.get(name) ?? gate(placesEach);
    gates.set(name, known);
    return known;
  };
  return function hold<T>(names: readonly string[], signal: AbortSignal, body: () => Promise<T>): Promise<T> {
    const inOrder = [...new Set(names)].sort();
    return inOrder.reduceRight<() => Promise<T>>((inner, name) => () => gateOf(name)(signal, inner), body)();
  };
}
