/**
 * Reading from the broker: queues declared (or only looked for), bound, consumed; each delivery goes to the intake and is
 * acknowledged when it is kept. A consumer that is connected and receives nothing, which people noticed after days, is
 * looked for every minute.
 */
import type { Channel, ChannelModel, ConsumeMessage } from "amqplib";
import type { Log } from "../lib/call.ts";
import { minutes } from "../lib/units.ts";
import { type Broker, openBroker } from "./broker.ts";
import type { BrokerSettings, QueueSettings } from "./fedora-messaging.ts";
import type { Accepted } from "./inbox.ts";
import { type Intake, openIntake } from "./intake.ts";
import type { Delivery } from "./message.ts";

export interface Consumer extends Broker {
  readonly intake: Intake;
}

export interface ConsumeOptions {
  readonly settings: BrokerSettings;
  readonly version: string;
  /** Keeps a batch, whole or not at all. */
  accept(deliveries: readonly Delivery[]): Promise<Accepted>;
  readonly log: Log;
  /** How often queues are looked at. Default: a minute. */
  readonly watchMs?: number;
}

/** Messages that wait in the queue while none comes, twice in a row, are a consumer that only seems to be one. */
const STALLED_LOOKS = 2;

/** @throws SlipwayError as `openBroker` does */
export async function consumeEvents(options: ConsumeOptions): Promise<Consumer> {
  const { settings, log, watchMs = minutes(1) } = options;
  const stop = new AbortController();
  const intake = openIntake({ accept: options.accept, log, signal: stop.signal });
  let current: { connection: ChannelModel; queues: string[]; channel: Channel } | undefined;

  async function setup(connection: ChannelModel): Promise<void> {
    const queues: string[] = [];
    for (const queue of settings.queues) {
      const channel = await connection.createChannel();
      // An error on one channel (a queue that is deleted, a refusal) is one of the whole: begin again, all of it.
      const again = (why: string) => {
        log.warn("consuming has ended, connecting again", { queue: queue.name, why });
        void connection.close().catch(() => {});
      };
      channel.on("error", (error: Error) => again(error.message));
      const name = await declare(channel, queue, settings.declare);
      await channel.prefetch(settings.prefetch);
      await channel.consume(name, (message) => {
        if (message === null) again("the broker has cancelled it: the queue was deleted or moved");
        else receive(channel, message);
      });
      queues.push(name);
      log.info("consuming", { queue: name, topics: queue.bindings.map(({ topic }) => topic) });
    }
    current = { connection, queues, channel: await connection.createChannel() };
    current.channel.on("error", (error: Error) => log.debug("watching channel", { why: error.message }));
  }

  function receive(channel: Channel, message: ConsumeMessage): void {
    intake.take(deliveryOf(message), () => {
      try {
        channel.ack(message);
      } catch {
        // The channel is gone; the message comes again and is known.
      }
    });
  }

  const broker = await openBroker({ settings, version: options.version, log, setup });
  let seen = 0;
  let stalled = 0;
  const watch = setInterval(() => void look().catch(() => {}), watchMs);
  watch.unref();

  async function look(): Promise<void> {
    if (!broker.connected || current === undefined) return;
    const { connection, queues, channel } = current;
    const { received, waiting } = intake.counts();
    const moved = received !== seen || waiting > 0;
    seen = received;
    let idle = false;
    for (const queue of queues) {
      const { messageCount, consumerCount } = await channel.checkQueue(queue);
      idle ||= (messageCount > 0 && !moved) || consumerCount === 0;
    }
    stalled = idle ? stalled + 1 : 0;
    if (stalled < STALLED_LOOKS) return;
    stalled = 0;
    log.warn("messages wait and none is delivered, connecting again", { queues });
    await connection.close();
  }

  return {
    intake,
    get connected() {
      return broker.connected;
    },
    get trouble() {
      return broker.trouble;
    },
    async close() {
      clearInterval(watch);
      // What is under way is kept and acknowledged; what is not begun comes again.
      await intake.close();
      stop.abort();
      await broker.close();
    },
  };
}

async function declare(channel: Channel, queue: QueueSettings, how: BrokerSettings["declare"]): Promise<string> {
  if (how === "none") return queue.name;
  if (how === "passive") {
    const { queue: name } = await channel.checkQueue(queue.name);
    return name;
  }
  const { durable, autoDelete, exclusive } = queue;
  const declared = await channel.assertQueue(queue.name, {
    durable,
    autoDelete,
    exclusive,
    arguments: queue.arguments,
  });
  for (const { exchange, topic } of queue.bindings) await channel.bindQueue(declared.queue, exchange, topic);
  return declared.queue;
}

export function deliveryOf({ fields, properties, content }: ConsumeMessage): Delivery {
  return {
    routingKey: fields.routingKey,
    content,
    messageId: text(properties.messageId),
    contentEncoding: text(properties.contentEncoding),
    priority: typeof properties.priority === "number" ? properties.priority : undefined,
    headers: properties.headers ?? undefined,
  };
}

function text(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}
