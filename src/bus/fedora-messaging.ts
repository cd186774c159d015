/**
 * fedora-messaging's own configuration file, so that a consumer of today is replaced by pointing at what it reads.
 *
 * Read as that library reads it: keys of the first level in any case, a table in the file instead of the whole default
 * table, unknown keys refused. What it does to a process (callback, logging) means nothing here and is told of.
 * @see https://fedora-messaging.readthedocs.io/en/stable/user-guide/configuration.html
 */
import { parse, TomlError } from "smol-toml";
import { z } from "zod";
import { SlipwayError } from "../lib/errors.ts";

/** What a broker has to be told, whoever said it. */
export interface BrokerSettings {
  /** `amqp:` or `amqps:`; may hold a password: never to be logged. */
  readonly url: string;
  /** Paths of PEM files. Client certificate and key are there both or not at all; with them the login is EXTERNAL. */
  readonly caFile?: string;
  readonly certFile?: string;
  readonly keyFile?: string;
  /** Shown to the broker's operators. */
  readonly clientProperties: Readonly<Record<string, string | readonly string[]>>;
  readonly publishExchange: string;
  /** Without dots at its end. */
  readonly topicPrefix: string;
  readonly publishPriority?: number;
  /** `passive`: only looked for; `none`: taken to be there without a look. */
  readonly declare: "active" | "passive" | "none";
  readonly queues: readonly QueueSettings[];
  readonly prefetch: number;
}

export interface QueueSettings {
  /** Empty: the broker gives it a name, another one after each reconnect. */
  readonly name: string;
  readonly durable: boolean;
  readonly autoDelete: boolean;
  readonly exclusive: boolean;
  readonly arguments: Readonly<Record<string, unknown>>;
  readonly bindings: readonly { readonly exchange: string; readonly topic: string }[];
}

const text = z.string().max(4096);
const table = z.record(z.string(), z.unknown());

const schema = z.strictObject({
  amqp_url: text.default("amqp://?connection_attempts=3&retry_delay=5"),
  callback: z.unknown().optional(),
  passive_declares: z.boolean().default(false),
  tls: z.strictObject({ ca_cert: text.nullish(), keyfile: text.nullish(), certfile: text.nullish() }).prefault({}),
  client_properties: z.record(z.string(), z.union([text, z.array(text)])).default({ app: "Unknown" }),
  publish_exchange: text.default("amq.topic"),
  topic_prefix: text.default(""),
  publish_priority: z.int().min(0).max(255).nullish(),
  exchanges: table.optional(),
  queues: z
    .record(
      z.string().max(255),
      z.strictObject({ durable: z.boolean(), auto_delete: z.boolean(), exclusive: z.boolean(), arguments: table }),
    )
    .default({ "": { durable: false, auto_delete: true, exclusive: true, arguments: {} } }),
  bindings: z
    .array(z.strictObject({ exchange: text, routing_keys: z.array(z.string().max(255)), queue: text.default("") }))
    .default([{ queue: "", exchange: "amq.topic", routing_keys: ["#"] }]),
  qos: z
    .strictObject({ prefetch_size: z.int().min(0).default(0), prefetch_count: z.int().min(0).max(65_535).default(10) })
    .prefault({}),
  monitoring: table.optional(),
  consumer_config: table.optional(),
  log_config: table.optional(),
});

/** Set by us, as the original sets them by itself and lets nobody change them. */
const OWN_PROPERTIES = ["product", "information", "version"];

/** Keys that are read without complaint and change nothing here. */
const IGNORED = {
  callback: "rules say what is done about an event",
  exchanges: "the original never declares them either",
  monitoring: "the console has the probes and counters",
  consumer_config: "it belonged to the callback",
  log_config: "logging is set by Slipway's own flags",
} as const;

export interface ReadSettings {
  readonly settings: BrokerSettings;
  /** What stands in the file and means nothing here, with the reason. */
  readonly notes: readonly string[];
}

/** @throws SlipwayError `invalid`, with the file's name and where in it */
export function readFedoraMessaging(content: string, path: string): ReadSettings {
  const given = lowered(parsed(content, path), path);
  const checked = schema.safeParse(given);
  if (!checked.success) throw invalid(path, explained(checked.error.issues[0]));
  const { data } = checked;
  const { keyfile, certfile, ca_cert: ca } = data.tls;
  if (Boolean(keyfile) !== Boolean(certfile)) {
    const missing = keyfile ? "certfile" : "keyfile";
    throw invalid(path, `tls.${missing} is missing: certificate and key belong together`);
  }
  checkUrl(data.amqp_url, path);
  const changed = OWN_PROPERTIES.find((name) => Object.hasOwn(data.client_properties, name));
  if (changed !== undefined) throw invalid(path, `client_properties.${changed} cannot be changed`);
  const unknown = data.bindings.find(({ queue }) => !Object.hasOwn(data.queues, queue));
  if (unknown !== undefined)
    throw invalid(path, `a binding names the queue "${unknown.queue}", which is not in queues`);
  const settings: BrokerSettings = {
    url: data.amqp_url,
    ...(ca ? { caFile: ca } : {}),
    ...(certfile && keyfile ? { certFile: certfile, keyFile: keyfile } : {}),
    clientProperties: data.client_properties,
    publishExchange: data.publish_exchange,
    topicPrefix: data.topic_prefix.replace(/\.+$/, ""),
    ...(data.publish_priority === null || data.publish_priority === undefined
      ? {}
      : { publishPriority: data.publish_priority }),
    declare: data.passive_declares ? "passive" : "active",
    queues: Object.entries(data.queues).map(([name, queue]) => ({
      name,
      durable: queue.durable,
      autoDelete: queue.auto_delete,
      exclusive: queue.exclusive,
      arguments: queue.arguments,
      bindings: data.bindings
        .filter((binding) => binding.queue === name)
        .flatMap(({ exchange, routing_keys }) => routing_keys.map((topic) => ({ exchange, topic }))),
    })),
    prefetch: data.qos.prefetch_count,
  };
  const notes = Object.entries(IGNORED)
    .filter(([key]) => Object.hasOwn(given, key))
    .map(([key, why]) => `${path}: ${key} has no effect: ${why}`);
  return { settings, notes };
}

function parsed(content: string, path: string): Record<string, unknown> {
  try {
    return parse(content) as Record<string, unknown>;
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    // Its message goes on with the lines around, which may hold a URL with a password.
    const [sentence = "it is no TOML"] = error.message.split("\n");
    throw invalid(path, `line ${error.line}, column ${error.column}: ${sentence.slice(0, 200)}`);
  }
}

function lowered(given: Record<string, unknown>, path: string): Record<string, unknown> {
  const seen: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(given)) {
    const name = key.toLowerCase();
    if (Object.hasOwn(seen, name)) throw invalid(path, `${name} stands there twice`);
    Object.defineProperty(seen, name, { value, enumerable: true });
  }
  return seen;
}

function checkUrl(url: string, path: string): void {
  if (!/^amqps?:\/\//.test(url)) throw invalid(path, "amqp_url begins with neither amqp:// nor amqps://");
  // Its standard form has no host, which is this machine.
  const withHost = url.replace(/^(amqps?:\/\/)(?=[/?]|$)/, "$1localhost");
  if (!URL.canParse(withHost)) throw invalid(path, "amqp_url is no URL");
}

function explained(issue: z.core.$ZodIssue | undefined): string {
  if (issue === undefined) return "it is not as expected";
  const at = issue.path.map(String).join(".");
  if (issue.code === "unrecognized_keys") {
    const keys = issue.keys.map((key) => (at === "" ? key : `${at}.${key}`)).join(", ");
    return `${keys} ${issue.keys.length === 1 ? "is not a setting" : "are not settings"} of fedora-messaging`;
  }
  return `${at}: ${issue.message}`;
}

function invalid(path: string, what: string): SlipwayError {
  return new SlipwayError("invalid", `${path}: ${what}`, {
    subject: path,
    next: "Correct the file, or name another in bus.fedora_messaging.",
  });
}
