/**
 * From deliveries to acknowledgements: what has arrived is gathered while the batch before it is committed, so that a
 * commit serves as many as there are and a lone message waits for nobody. Nothing is acknowledged before it is kept;
 * while the database is away, deliveries wait unacknowledged, and the broker's prefetch bounds how many.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Log } from "../lib/call.ts";
import { reportOf } from "../lib/errors.ts";
import type { Accepted } from "./inbox.ts";
import type { Delivery } from "./message.ts";

export interface Intake {
  /** `acknowledge` is called once, when the delivery is kept; never if the intake ends before. */
  take(delivery: Delivery, acknowledge: () => void): void;
  /** Waits until what was taken is kept and acknowledged, or `signal` ends. */
  drain(): Promise<void>;
  /** Takes nothing more, and drains. */
  close(): Promise<void>;
  counts(): IntakeCounts;
}

export interface IntakeCounts {
  readonly received: number;
  readonly fresh: number;
  readonly repeated: number;
  readonly quarantined: number;
  /** Taken and not kept yet. */
  readonly waiting: number;
  /** Milliseconds since 1970; undefined before the first. */
  readonly lastReceivedAt: number | undefined;
}

/** One INSERT with twelve columns each stays far below PostgreSQL's 65,535 parameters. */
const MOST_AT_ONCE = 500;
/** The bodies of one batch: each may have 16 MiB. */
const MOST_BYTES = 32 * 1024 * 1024;
const FIRST_PAUSE_MS = 100;
const MOST_PAUSE_MS = 10_000;

export interface IntakeOptions {
  /** Keeps a batch, whole or not at all. */
  accept(deliveries: readonly Delivery[]): Promise<Accepted>;
  readonly log: Log;
  readonly signal: AbortSignal;
}

export function openIntake({ accept, log, signal }: IntakeOptions): Intake {
  const waiting: { delivery: Delivery; acknowledge: () => void }[] = [];
  const counts = { received: 0, fresh: 0, repeated: 0, quarantined: 0 };
  let lastReceivedAt: number | undefined;
  let working: Promise<void> | undefined;
  let closed = false;

  async function work(): Promise<void> {
    // Whatever came in the same breath goes together.
    await Promise.resolve();
    while (waiting.length > 0 && !signal.aborted) {
      const batch = nextBatch();
      const kept = await keep(batch.map(({ delivery }) => delivery));
      if (kept === undefined) return;
      waiting.splice(0, batch.length);
      counts.fresh += kept.fresh.length;
      counts.repeated += kept.repeated;
      counts.quarantined += kept.quarantined;
      for (const { acknowledge } of batch) acknowledge();
    }
  }

  function nextBatch() {
    let bytes = 0;
    let size = 0;
    for (const { delivery } of waiting) {
      bytes += delivery.content.length;
      if (size > 0 && (size === MOST_AT_ONCE || bytes > MOST_BYTES)) break;
      size++;
    }
    return waiting.slice(0, size);
  }

  /** Until the database takes it. @returns undefined when the signal came first */
  async function keep(deliveries: readonly Delivery[]): Promise<Accepted | undefined> {
    let pause = FIRST_PAUSE_MS;
    for (let told = false; ; told = true) {
      try {
        return await accept(deliveries);
      } catch (error) {
        if (signal.aborted) return undefined;
        const said = { waiting: waiting.length, error: reportOf(error).message };
        if (!told) log.warn("events cannot be kept for now, none is acknowledged", said);
        else log.debug("events still cannot be kept", said);
      }
      await delay(pause * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return undefined;
      pause = Math.min(pause * 2, MOST_PAUSE_MS);
    }
  }

  async function drain(): Promise<void> {
    while (working !== undefined) await working;
  }

  return {
    take(delivery, acknowledge) {
      if (closed || signal.aborted) return;
      counts.received++;
      lastReceivedAt = Date.now();
      waiting.push({ delivery, acknowledge });
      working ??= work().finally(() => {
        working = undefined;
      });
    },
    drain,
    async close() {
      closed = true;
      await drain();
    },
    counts: () => ({ ...counts, waiting: waiting.length, lastReceivedAt }),
  };
}
