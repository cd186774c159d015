/**
 * Everything that brings events in, decides about them and sends messages out, as one thing that can be opened and
 * closed: consumer, webhooks, timers, dispatcher, publisher, and what watches over them. Each works without the others.
 */
import type { Kysely } from "kysely";
import type { AlarmTables } from "../alarms/index.ts";
import { type Consumer, consumeEvents } from "../bus/consume.ts";
import type { DoorsState } from "../bus/doors.ts";
import { acceptDeliveries, INBOX_CHANNEL } from "../bus/inbox.ts";
import { OUTBOX_CHANNEL } from "../bus/outbox.ts";
import { type Publisher, publishMessages } from "../bus/publish.ts";
import { sourceOf } from "../bus/shadow.ts";
import { parseSchedule } from "../bus/timers/schedule.ts";
import { runTimers } from "../bus/timers/timers.ts";
import { createWebhookReceiver, type WebhookReceiver } from "../bus/webhooks/receiver.ts";
import { type Config, type Environment, resolveSecret } from "../config/index.ts";
import type { Database } from "../database/index.ts";
import type { Engine } from "../durable/index.ts";
import type { Log } from "../lib/call.ts";
import { dispatchUntilClosed, type Services, type Tables } from "../workflows/index.ts";
import { openAlarms } from "./alarms.ts";
import { brokerSettings } from "./broker.ts";

export interface Events {
  state(): DoorsState;
  readonly webhooks: WebhookReceiver | undefined;
  /** Takes nothing more, keeps what was taken, and leaves. */
  close(): Promise<void>;
}

export interface EventsOptions {
  readonly config: Config;
  readonly environment: Environment;
  readonly database: Database;
  readonly engine: Engine<Services>;
  readonly services: Services;
  readonly version: string;
  readonly log: Log;
}

/** @throws SlipwayError for settings that cannot be used; a broker that is away is waited for */
export async function openEvents(options: EventsOptions): Promise<Events> {
  const { config, environment, database, engine, services, version, log } = options;
  const { db } = services;
  const settings = await brokerSettings(config, environment, log);
  const closers: (() => Promise<unknown>)[] = [];
  const stop = new AbortController();

  const loop = dispatchUntilClosed(engine, services, log);
  closers.push(() => loop.close());
  const told = await database.listen(INBOX_CHANNEL, () => loop.wake());
  closers.push(() => told.close());

  let consumer: Consumer | undefined;
  let publisher: Publisher | undefined;
  if (settings?.queues.some(({ name, bindings }) => name !== "" || bindings.length > 0)) {
    const source = sourceOf("broker", config.shadow);
    const accept = (deliveries: Parameters<typeof acceptDeliveries>[2]) => acceptDeliveries(db, source, deliveries);
    const opened = await consumeEvents({ settings, version, accept, log });
    consumer = opened;
    closers.push(() => opened.close());
  }
  // A shadow writes no messages; what was left in the outbox from before is not its to send.
  if (settings !== undefined && config.bus?.publish !== false && config.shadow === undefined) {
    const opened = await publishMessages({ settings, version, db, log });
    publisher = opened;
    closers.push(() => opened.close());
    const written = await database.listen(OUTBOX_CHANNEL, () => opened.wake());
    closers.push(() => written.close());
  }
  if (Object.keys(config.timers).length > 0) {
    const timing = runTimers({
      timers: Object.entries(config.timers).map(([name, timer]) => ({
        name,
        schedule: parseSchedule(timer.cron, timer.zone),
        topic: timer.topic ?? `slipway.timer.${name}`,
        body: timer.body,
        catchUp: timer.catch_up,
      })),
      accept: (deliveries) => acceptDeliveries(db, "timer", deliveries),
      lastFired: (name) => lastFired(db, name),
      log,
      signal: stop.signal,
    });
    closers.push(async () => {
      stop.abort();
      await timing;
    });
  }
  function state(): DoorsState {
    const kept = consumer?.intake.counts();
    const sent = publisher?.counts();
    return {
      consuming: consumer?.connected,
      publishing: publisher?.connected,
      trouble: consumer?.trouble ?? publisher?.trouble,
      received: kept?.received ?? 0,
      fresh: kept?.fresh ?? 0,
      repeated: kept?.repeated ?? 0,
      quarantined: kept?.quarantined ?? 0,
      delivered: sent?.delivered ?? 0,
      unroutable: sent?.unroutable ?? 0,
    };
  }
  const watching = await openAlarms({
    ...{ config, environment, broker: settings, engine, state, now: services.now, log },
    db: database.kysely<AlarmTables>(),
  });
  closers.push(() => watching.close());
  return {
    webhooks: webhooksOf(options),
    state,
    async close() {
      // Doors before the dispatcher, which was opened first.
      for (const close of closers.reverse()) await close();
    },
  };
}

function webhooksOf({ config, environment, services, log }: EventsOptions): WebhookReceiver | undefined {
  const sources = Object.entries(config.webhooks);
  if (sources.length === 0) return undefined;
  return createWebhookReceiver({
    sources: Object.fromEntries(
      sources.map(([name, source]) => [
        name,
        {
          forge: source.forge,
          secrets: () => Promise.all([source.secret].flat().map((ref) => resolveSecret(ref, environment))),
          ...(source.topic_prefix === undefined ? {} : { topicPrefix: source.topic_prefix }),
          ...(source.events === undefined ? {} : { events: source.events }),
          ...(source.event === undefined ? {} : { event: source.event }),
        },
      ]),
    ),
    accept: (deliveries) => acceptDeliveries(services.db, "webhook", deliveries),
    log,
  });
}

/** The newest firing of a timer, as the inbox has it. */
async function lastFired(db: Kysely<Tables>, name: string): Promise<Date | undefined> {
  const rows = await db
    .selectFrom("inbox")
    .select("body")
    .where("source", "=", "timer")
    .where("body", "like", `%"timer":${JSON.stringify(name)}%`)
    .orderBy("sequence", "desc")
    .limit(1)
    .execute();
  const body = rows[0] && (JSON.parse(rows[0].body) as { scheduled?: unknown });
  const at = typeof body?.scheduled === "string" ? new Date(body.scheduled) : undefined;
  return at === undefined || Number.isNaN(at.getTime()) ? undefined : at;
}
