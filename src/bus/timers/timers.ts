/**
 * Timers: events that come because it is time. A firing goes the way of every event, through the inbox to the rules; what
 * it starts is no concern of this folder. Its id is made of the timer's name and the moment it was meant for, never of the
 * moment it was sent: ten services over one database, each with its clock, fire it once.
 *
 * Nothing is remembered here. What has fired is what the inbox holds, and after a downtime the latest firing that was
 * missed is delivered, not all of them: a nightly clean-up that was missed for a week is due once.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Log } from "../../lib/call.ts";
import { reportOf, SlipwayError } from "../../lib/errors.ts";
import { hours, minutes, seconds } from "../../lib/units.ts";
import type { Json } from "../../model.ts";
import type { Accepted } from "../inbox.ts";
import type { Delivery } from "../message.ts";
import { messageId } from "../outbox.ts";
import { latestFiring, type Schedule } from "./schedule.ts";

export interface Timer {
  /** Part of every firing's id: one that is renamed is another timer. */
  readonly name: string;
  readonly schedule: Schedule;
  readonly topic: string;
  /** Of the event; `timer` and `scheduled` are added. */
  readonly body: Readonly<Record<string, Json>>;
  /** Whether a firing missed for more than `LATE_MS` is delivered at all. Default: `latest`. */
  readonly catchUp?: "latest" | "none" | undefined;
}

export interface TimersOptions {
  readonly timers: readonly Timer[];
  /** Keeps a batch, whole or not at all; throws when it cannot. */
  accept(deliveries: readonly Delivery[]): Promise<Accepted>;
  /**
   * The `scheduled` of the newest event of this timer, by whichever service; undefined if there is none. Then there is
   * nothing to catch up with: a timer does not fire for the time before it was there.
   */
  lastFired(name: string): Promise<Date | undefined>;
  readonly log: Log;
  /** Ends it. */
  readonly signal: AbortSignal;
  /** Milliseconds: what was missed longer ago is not delivered any more. Default: 24 hours. */
  readonly catchUpMs?: number | undefined;
  readonly now?: (() => Date) | undefined;
  /** Resolves after so many milliseconds, or when the signal ends; never rejects. */
  readonly sleep?: ((ms: number, signal: AbortSignal) => Promise<void>) | undefined;
}

/** What a restart, a slow database or a clock a little off may take: a firing delivered within it is on time. */
export const LATE_MS = minutes(5);
const CATCH_UP_MS = hours(24);
/** Clocks are set and machines are suspended: nobody sleeps through that for longer. */
const MOST_SLEEP_MS = minutes(1);
const FIRST_PAUSE_MS = seconds(1);
const MOST_TOPIC_BYTES = 255;

/**
 * Fires timers until the signal ends. Does not throw while it runs: without a database it waits, and then delivers what is
 * due by then.
 * @throws SlipwayError `invalid` for two timers of one name, or a topic that cannot be
 */
export async function runTimers(options: TimersOptions): Promise<void> {
  const { timers, accept, lastFired, log, signal, catchUpMs = CATCH_UP_MS } = options;
  const { now = () => new Date(), sleep = sleepUntilAborted } = options;
  checkTimers(timers);
  if (timers.length === 0) return;
  const started = now();
  /** By name: the moment up to which nothing is due any more. */
  const settled = new Map<string, Date>();
  let pause = 0;

  while (!signal.aborted) {
    try {
      await fireDue();
      pause = 0;
    } catch (error) {
      if (signal.aborted) return;
      if (pause === 0) log.warn("timers cannot fire for now", { error: reportOf(error).message });
      pause = Math.min(Math.max(pause * 2, FIRST_PAUSE_MS), MOST_SLEEP_MS);
    }
    if (!signal.aborted) await sleep(pause > 0 ? pause : untilNext(), signal);
  }

  async function fireDue(): Promise<void> {
    for (const { name } of timers) {
      if (!settled.has(name)) settled.set(name, (await lastFired(name)) ?? started);
    }
    const at = now();
    // A clock that was set back must not keep timers waiting; their ids keep what has fired from firing again.
    for (const [name, until] of settled) if (until > at) settled.set(name, at);
    const due = timers.flatMap((timer) => {
      const scheduled = latestFiring(timer.schedule, since(timer, at), at);
      return scheduled === undefined ? [] : [{ timer, scheduled, late: isLate(scheduled, at) }];
    });
    if (due.length === 0) return;
    const kept = await accept(due.map(({ timer, scheduled, late }) => firing(timer, scheduled, late)));
    for (const { timer, scheduled } of due) settled.set(timer.name, scheduled);
    for (const { timer, scheduled, late } of due) {
      const fields = { timer: timer.name, scheduled: scheduled.toISOString(), late };
      log.info(
        kept.fresh.includes(firingId(timer.name, scheduled)) ? "timer fired" : "timer was fired already",
        fields,
      );
    }
    // The same firing with another body: services of two configurations. The first one counts.
    if (kept.quarantined > 0) log.warn("timers differ between services", { quarantined: kept.quarantined });
  }

  function since(timer: Timer, at: Date): Date {
    const bound = timer.catchUp === "none" ? LATE_MS : Math.max(catchUpMs, LATE_MS);
    return new Date(Math.max(settled.get(timer.name)!.getTime(), at.getTime() - bound));
  }

  function untilNext(): number {
    const at = now();
    const next = timers.map(({ schedule }) => schedule.next(at)?.getTime() ?? Number.POSITIVE_INFINITY);
    return Math.min(MOST_SLEEP_MS, Math.max(1, Math.min(...next) - at.getTime()));
  }
}

/**
 * A firing as a delivery.
 *
 * That it is late stands in the header `late`, not in the body: one service may deliver it in time and another one, back
 * from a restart, as missed. The body must be the same, or the inbox takes the second for a forgery of the first.
 */
export function firing(timer: Timer, scheduled: Date, late: boolean): Delivery {
  const body = { ...timer.body, timer: timer.name, scheduled: scheduled.toISOString() };
  return {
    messageId: firingId(timer.name, scheduled),
    routingKey: timer.topic,
    content: Buffer.from(JSON.stringify(body)),
    headers: { late },
  };
}

function firingId(name: string, scheduled: Date): string {
  return messageId("timer", name, scheduled.toISOString());
}

function isLate(scheduled: Date, at: Date): boolean {
  return at.getTime() - scheduled.getTime() > LATE_MS;
}

function checkTimers(timers: readonly Timer[]): void {
  const seen = new Set<string>();
  for (const { name, topic } of timers) {
    const problem = seen.has(name)
      ? "Two timers have this name."
      : topic === "" || Buffer.byteLength(topic) > MOST_TOPIC_BYTES
        ? `A timer's topic has 1 to ${MOST_TOPIC_BYTES} bytes.`
        : undefined;
    if (problem !== undefined) throw new SlipwayError("invalid", problem, { subject: `timers.${name}` });
    seen.add(name);
  }
}

async function sleepUntilAborted(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal }).catch(() => {});
}
