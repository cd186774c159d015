/**
 * From the outbox to the broker: in order, with confirms, and `mandatory`, so that a message nobody receives is noticed.
 *
 * A message the broker confirms is delivered. One that it returns because no queue wants it is sent a few times more (a
 * reader may be binding its queue) and then counts as delivered, with a warning: a topic nobody binds must not block the
 * others. One that it refuses or loses is sent until it takes it. A repeat has the same id, so that readers can tell.
 */
import type { ChannelModel, ConfirmChannel } from "amqplib";
import type { Kysely } from "kysely";
import type { Log } from "../lib/call.ts";
import { reportOf } from "../lib/errors.ts";
import { createRest } from "../lib/rest.ts";
import { minutes, seconds } from "../lib/units.ts";
import { type Broker, openBroker } from "./broker.ts";
import type { BrokerSettings } from "./fedora-messaging.ts";
import { problemWithBody } from "./message-schemas.ts";
import { type ClaimedMessage, claimMessages, nextMessage, type OutboxTables, settleMessage } from "./outbox.ts";

export interface Publisher extends Broker {
  /** Somebody wrote a message: look now. */
  wake(): void;
  counts(): { readonly delivered: number; readonly unroutable: number; readonly refused: number };
}

export interface PublishOptions {
  readonly settings: BrokerSettings;
  readonly version: string;
  readonly db: Kysely<OutboxTables>;
  readonly log: Log;
  /** Waits between attempts are multiplied by this; for tests. */
  readonly hurry?: number;
}

const AT_ONCE = 50;
const CONFIRM_MS = seconds(30);
const LOOK_MS = seconds(10);
/** As fast as a reader that starts at the same time binds its queue. */
const UNROUTABLE_AGAIN_MS = [seconds(2), seconds(10), seconds(30)];
const REFUSED_FIRST_MS = seconds(1);
const REFUSED_MOST_MS = minutes(5);
/** The broker does not let us: somebody has to change that. */
const FORBIDDEN_AGAIN_MS = minutes(5);

/** A channel's end with code 403. */
const FORBIDDEN = /ACCESS.REFUSED|403/i;

/** AMQP's words for a routing key are limited in bytes. */
const MOST_TOPIC_BYTES = 255;

/** @throws SlipwayError as `openBroker` does */
export async function publishMessages(options: PublishOptions): Promise<Publisher> {
  const { settings, db, log, hurry = 1 } = options;
  const counts = { delivered: 0, unroutable: 0, refused: 0 };
  let channel: ConfirmChannel | undefined;
  /** Why the channel ended, until the next is there. */
  let ended: string | undefined;
  /** Messages that were under way when the broker refused one of them: sent one by one, to find out which. */
  let suspects = 0;
  let returned = new Set<string>();
  let closed = false;
  const rest = createRest();

  async function setup(connection: ChannelModel): Promise<void> {
    await openChannel(connection);
    connection.on("close", () => {
      channel = undefined;
    });
    rest.wake();
  }

  async function openChannel(connection: ChannelModel): Promise<void> {
    const opened = await connection.createConfirmChannel();
    returned = new Set();
    ended = undefined;
    // Every message under way listens for its end.
    opened.setMaxListeners(AT_ONCE + 10);
    opened.on("return", (message) => returned.add(String(message.properties.messageId)));
    opened.on("error", (error: Error) => {
      ended = error.message;
    });
    opened.on("close", () => {
      if (channel !== opened) return;
      channel = undefined;
      // Only the channel is gone: a topic we may not write to, an exchange that is not there.
      void openChannel(connection).then(rest.wake, () => connection.close().catch(() => {}));
    });
    channel = opened;
  }

  /** Sends one and waits for the broker's word. */
  async function send(message: ClaimedMessage, through: ConfirmChannel, alone: boolean): Promise<void> {
    const { id, headers, body } = message;
    const prefix = settings.topicPrefix === "" ? "" : `${settings.topicPrefix}.`;
    const topic = `${prefix}${message.topic}`;
    const wrong = problemWithBody(headers.fedora_messaging_schema, body) ?? topicProblem(topic);
    if (wrong !== undefined) {
      log.error("a message is not as its readers want it and is not sent", { id, topic, why: wrong });
      await settleMessage(db, id, { how: "invalid", trouble: wrong });
      return;
    }
    const outcome = await confirmed(through, topic, message);
    if (outcome !== undefined) {
      counts.refused++;
      const forbidden = alone && FORBIDDEN.test(outcome);
      if (forbidden) log.error("the broker does not let us send this", { topic, why: outcome });
      const wait = forbidden ? FORBIDDEN_AGAIN_MS : backoff(REFUSED_FIRST_MS, message.attempts, REFUSED_MOST_MS);
      await settleMessage(db, id, { how: "again", trouble: outcome, afterMs: wait * hurry, unroutable: false });
      return;
    }
    if (!returned.delete(id)) {
      counts.delivered++;
      await settleMessage(db, id, { how: "delivered" });
      return;
    }
    counts.unroutable++;
    const trouble = `no queue is bound to ${topic}`;
    const again = UNROUTABLE_AGAIN_MS[message.unroutable];
    if (again === undefined) {
      log.warn("a message was delivered to nobody", { id, topic });
      await settleMessage(db, id, { how: "delivered-with-warning", trouble });
    } else {
      await settleMessage(db, id, { how: "again", trouble, afterMs: again * hurry, unroutable: true });
    }
  }

  /** @returns undefined when the broker has it, else why not */
  function confirmed(through: ConfirmChannel, topic: string, message: ClaimedMessage): Promise<string | undefined> {
    return new Promise((resolve) => {
      const late = setTimeout(() => resolve("the broker did not confirm it in time"), CONFIRM_MS);
      const done = (why: string | undefined) => {
        clearTimeout(late);
        through.off("close", onClose);
        resolve(why);
      };
      const onClose = () => done(ended ?? "the connection was lost before the broker confirmed it");
      through.once("close", onClose);
      const properties = {
        messageId: message.id,
        contentType: "application/json",
        contentEncoding: "utf-8",
        persistent: true,
        mandatory: true,
        headers: { ...message.headers },
        ...(settings.publishPriority === undefined ? {} : { priority: settings.publishPriority }),
      };
      try {
        const content = Buffer.from(JSON.stringify(message.body));
        through.publish(settings.publishExchange, topic, content, properties, (error) => {
          if (error) done(ended ?? "the broker refused it");
          else done(undefined);
        });
      } catch (error) {
        done(reportOf(error).message);
      }
    });
  }

  async function loop(): Promise<void> {
    let told = false;
    while (!closed) {
      rest.begin();
      let pause = LOOK_MS;
      try {
        if (channel !== undefined) {
          const through = channel;
          const claimed = await claimMessages(db, suspects > 0 ? 1 : AT_ONCE);
          const alone = claimed.length === 1;
          suspects = Math.max(0, suspects - claimed.length);
          await Promise.all(claimed.map((message) => send(message, through, alone)));
          if (!alone && ended !== undefined && FORBIDDEN.test(ended)) suspects = claimed.length;
          told = false;
          if (claimed.length > 0) continue;
          pause = await nextMessage(db, LOOK_MS);
        }
      } catch (error) {
        if (!told) log.warn("messages cannot be sent for now", { error: reportOf(error).message });
        told = true;
      }
      if (!closed) await rest.wait(Math.max(20, pause));
    }
  }

  const broker = await openBroker({ settings, version: options.version, log, setup });
  const running = loop();
  return {
    wake: rest.wake,
    counts: () => ({ ...counts }),
    get connected() {
      return broker.connected;
    },
    get trouble() {
      return broker.trouble;
    },
    async close() {
      closed = true;
      rest.wake();
      await running;
      await broker.close();
    },
  };
}

function topicProblem(topic: string): string | undefined {
  const bytes = Buffer.byteLength(topic);
  return bytes > MOST_TOPIC_BYTES ? `the topic has ${bytes} bytes, AMQP allows ${MOST_TOPIC_BYTES}` : undefined;
}

function backoff(first: number, attempt: number, most: number): number {
  return Math.min(most, first * 2 ** Math.min(20, attempt - 1)) * (0.5 + Math.random() / 2);
}
