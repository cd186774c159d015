/** Looks, remembers and tells, every minute until it is closed. */
import type { Kysely } from "kysely";
import type { Log } from "../lib/call.ts";
import { reportOf } from "../lib/errors.ts";
import { createRest } from "../lib/rest.ts";
import { minutes } from "../lib/units.ts";
import type { Channel } from "./channels/channel.ts";
import { reconcile } from "./keep.ts";
import { type AlarmSettings, emptyMemory, lookAround, type Memory } from "./look.ts";
import type { AlarmTables } from "./schema.ts";
import { sendNotices } from "./send.ts";
import type { Runs } from "./watch.ts";
import type { BrokerState } from "./watch-broker.ts";

const LOOK_MS = minutes(1);

export interface WatchOptions {
  readonly db: Kysely<AlarmTables>;
  readonly runs: Runs;
  readonly settings: AlarmSettings;
  readonly channels: readonly Channel[];
  /** How the doors to the broker are now. */
  broker(): BrokerState;
  now(): Date;
  readonly log: Log;
  /** Test only; one minute when absent. */
  readonly everyMs?: number;
}

export interface AlarmLoop {
  /** Stops what is being sent, and ends. What was not sent is sent by whoever comes next. */
  close(): Promise<void>;
}

/**
 * Returns at once; the first look is a minute later. A database that is away is waited for, and said once; channels
 * that cannot be reached are tried again. As many processes as are wanted may watch one database: each alarm is told
 * once.
 */
export function watchAlarms(options: WatchOptions): AlarmLoop {
  const { log, everyMs = LOOK_MS } = options;
  const memory = emptyMemory();
  const stop = new AbortController();
  const rest = createRest();

  async function loop(): Promise<void> {
    let said = false;
    for (;;) {
      // First, too: what has piled up while nothing ran is worked off in this time, and nobody is woken by it.
      await rest.wait(everyMs);
      if (stop.signal.aborted) return;
      try {
        await watchOnce(options, memory, stop.signal);
        said = false;
      } catch (error) {
        if (!said && !stop.signal.aborted)
          log.warn("alarms cannot be watched for now", { error: reportOf(error).message });
        said = true;
      }
    }
  }

  const running = loop();
  return {
    async close() {
      stop.abort();
      rest.wake();
      await running;
    },
  };
}

/** One round: what is true, what is to be told of it, and what is due to be sent. Safe to repeat and side by side. */
export async function watchOnce(options: WatchOptions, memory: Memory, signal: AbortSignal): Promise<void> {
  const { db, runs, settings, channels, now, log } = options;
  const at = now();
  const look = await lookAround({ db, runs, now: at }, settings, options.broker, memory, log);
  const { raised, recovered } = await reconcile(db, look, settings, at);
  for (const key of raised) log.warn("alarm", { key, message: look.alarms.find((one) => one.key === key)?.message });
  for (const key of recovered) log.info("alarm is over", { key });
  while (!signal.aborted && (await sendNotices(db, channels, { signal, log }, now())) > 0);
}
