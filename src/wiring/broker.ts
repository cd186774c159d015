/** Where the bus is: what slipway.yaml says, over what fedora-messaging's own file says, over defaults. */
import { readFile } from "node:fs/promises";
import { type BrokerSettings, readFedoraMessaging } from "../bus/fedora-messaging.ts";
import { type Config, type Environment, resolveSecret, resolveValue } from "../config/index.ts";
import type { Log } from "../lib/call.ts";
import { SlipwayError } from "../lib/errors.ts";
import { MiB } from "../lib/units.ts";

type BusConfig = NonNullable<Config["bus"]>;

const MOST_FILE_BYTES = MiB;

/** A commit takes a few milliseconds whatever it holds; Fedora's 25 would make many small ones. */
const PREFETCH = 250;

const DEFAULTS: BrokerSettings = {
  url: "amqp://localhost",
  clientProperties: { app: "Slipway" },
  publishExchange: "amq.topic",
  topicPrefix: "org.fedoraproject.dev",
  declare: "active",
  queues: [],
  prefetch: PREFETCH,
};

/**
 * Settings of the broker; undefined where none is configured. FEDORA_MESSAGING_CONF names the file if slipway.yaml names
 * none and has no URL.
 * @throws SlipwayError `invalid`, `not-found` for the file, `unauthenticated` for secrets that are not there
 */
export async function brokerSettings(
  config: Pick<Config, "bus" | "shadow">,
  environment: Environment,
  log: Log,
): Promise<BrokerSettings | undefined> {
  const { bus } = config;
  const usual = environment.FEDORA_MESSAGING_CONF || undefined;
  const path = bus?.fedora_messaging ?? (bus?.url === undefined ? usual : undefined);
  if (path === undefined && bus?.url === undefined) return undefined;
  const base = path === undefined ? DEFAULTS : await fromFile(path, log);
  if (bus === undefined) return base;
  const exchange = bus.exchange ?? base.publishExchange;
  return {
    ...base,
    ...without({
      url: await urlOf(bus, environment, base.url),
      caFile: bus.ca_file,
      certFile: bus.cert_file,
      keyFile: bus.key_file,
      publishExchange: exchange,
      topicPrefix: bus.topic_prefix,
      declare: bus.declare,
      prefetch: bus.prefetch,
    }),
    queues:
      bus.queue === undefined && bus.topics.length === 0 ? base.queues : [queueOf(withShadow(config), base, exchange)],
  };
}

async function fromFile(path: string, log: Log): Promise<BrokerSettings> {
  const content = await readFile(path).catch((cause: unknown) => {
    throw new SlipwayError("not-found", "fedora-messaging's configuration cannot be read", {
      subject: path,
      next: "Correct bus.fedora_messaging or FEDORA_MESSAGING_CONF, or who may read the file.",
      cause,
    });
  });
  if (content.length > MOST_FILE_BYTES) {
    throw new SlipwayError("invalid", "fedora-messaging's configuration is larger than 1 MiB", { subject: path });
  }
  const { settings, notes } = readFedoraMessaging(content.toString("utf8"), path);
  for (const note of notes) log.debug(note);
  return settings;
}

async function urlOf(bus: BusConfig, environment: Environment, base: string): Promise<string> {
  const url = bus.url === undefined ? base : await resolveValue(bus.url, environment);
  if (bus.username === undefined && bus.password === undefined) return url;
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed === undefined) return url;
  if (bus.username !== undefined) parsed.username = encodeURIComponent(await resolveValue(bus.username, environment));
  if (bus.password !== undefined) parsed.password = encodeURIComponent(await resolveSecret(bus.password, environment));
  return parsed.href;
}

/** What a shadow compares with comes through the queue that the composes' events come through. */
function withShadow({ bus, shadow }: Pick<Config, "bus" | "shadow">): Pick<BusConfig, "queue" | "topics"> {
  const { queue, topics = [] } = bus ?? {};
  return { queue, topics: topics.length === 0 ? topics : [...new Set([...topics, ...(shadow?.topics ?? [])])] };
}

function queueOf(
  bus: Pick<BusConfig, "queue" | "topics">,
  base: BrokerSettings,
  exchange: string,
): BrokerSettings["queues"][number] {
  const [given] = base.queues.filter(({ name }) => bus.queue === undefined || name === bus.queue);
  const name = bus.queue ?? given?.name ?? "";
  const own = name !== "";
  return {
    ...(given ?? { durable: own, autoDelete: !own, exclusive: !own, arguments: {} }),
    name,
    bindings: bus.topics.length === 0 ? (given?.bindings ?? []) : bus.topics.map((topic) => ({ exchange, topic })),
  };
}

function without<T extends object>(values: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as never;
}
