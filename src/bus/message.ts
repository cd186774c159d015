/**
 * The bus's wire format: what fedora-messaging puts into an AMQP delivery, read by somebody who believes none of it.
 *
 * As lenient as the original parser where that is lenient (no headers, no encoding, falsy bodies), and alive where that
 * dies (an unknown encoding, a byte order mark). What cannot be an event is returned with the reason, never thrown: one
 * message nobody can read must not stop the queue. Pure; knows no broker and no database.
 */
import { createHash } from "node:crypto";
import type { Json } from "../model.ts";

/** One delivery as a broker hands it over. */
export interface Delivery {
  /** The topic, prefix included: at most 255 bytes, as AMQP has it. */
  readonly routingKey: string;
  readonly content: Uint8Array;
  readonly messageId?: string | undefined;
  readonly contentEncoding?: string | undefined;
  readonly priority?: number | undefined;
  readonly headers?: Readonly<Record<string, unknown>> | undefined;
}

export type Severity = 10 | 20 | 30 | 40;

/** One message that arrived and can be read. */
export interface Incoming {
  /** The sender's; one made of the message itself if there is none, so that a redelivery has the same. */
  readonly id: string;
  readonly topic: string;
  readonly severity: Severity;
  readonly priority: number;
  /** Name of the message's class, as the sender says. */
  readonly schema?: string;
  readonly sentAt?: string;
  /** All headers but those that hold secrets. */
  readonly headers: Readonly<Record<string, Json>>;
  /** What rules look at: without the envelope of the old bus, and without a webhook's. */
  readonly body: Readonly<Record<string, Json>>;
  /** Lower-case hex, of the bytes as they came. */
  readonly bodySha256: string;
}

/** Why a message is kept and nothing is done with it. */
export interface Unreadable {
  /** A word of a closed list, and a sentence for people. */
  readonly reason: UnreadableReason;
  readonly detail: string;
  readonly id: string;
  readonly bodySha256: string;
}

export type UnreadableReason =
  | "too-large"
  | "too-deep"
  | "topic"
  | "encoding"
  | "not-json"
  | "not-an-object"
  | "headers";

/**
 * RabbitMQ from 4.0 on takes 16 MiB; composes' own messages have kilobytes. Larger ones are not parsed: what JSON takes
 * in memory is many times its text.
 */
export const MOST_BYTES = 16 * 1024 * 1024;
/** Nobody nests so deep who means it, and what walks a body may recurse. */
export const MOST_DEPTH = 100;
const MOST_TOPIC_BYTES = 255;

const SCHEMA = "fedora_messaging_schema";
const SEVERITY = "fedora_messaging_severity";
/** With their types, if they are there. @see fedora-messaging's header schema */
const TEXT_HEADERS = [SCHEMA, "fedora_messaging_schema_package", "sent-at"] as const;

export function readDelivery(delivery: Delivery): Incoming | Unreadable {
  const bodySha256 = createHash("sha256").update(delivery.content).digest("hex");
  const id = idOf(delivery, bodySha256);
  const refuse = (reason: UnreadableReason, detail: string): Unreadable => ({ reason, detail, id, bodySha256 });

  const topicProblem = problemWithTopic(delivery.routingKey);
  if (topicProblem !== undefined) return refuse("topic", topicProblem);
  if (delivery.content.length > MOST_BYTES) {
    return refuse(
      "too-large",
      `The body has ${delivery.content.length} bytes, the most that is read is ${MOST_BYTES}.`,
    );
  }
  const text = decoded(delivery);
  if (typeof text !== "string") return refuse("encoding", text.problem);
  if (depthOf(text) > MOST_DEPTH) return refuse("too-deep", `The body is nested deeper than ${MOST_DEPTH} levels.`);
  let parsed: Json;
  try {
    parsed = JSON.parse(text) as Json;
  } catch (error) {
    return refuse(
      "not-json",
      `The body is no JSON: ${error instanceof Error ? withoutQuote(error.message) : "unknown"}.`,
    );
  }
  // Python's falsy values are taken for an empty body by everybody else on the bus.
  const isFalsy = !parsed || (Array.isArray(parsed) && parsed.length === 0);
  const whole = isFalsy ? {} : parsed;
  if (!isRecord(whole)) return refuse("not-an-object", "The body is no object.");

  const given = { ...(delivery.headers ?? {}) };
  const wrong = problemWithHeaders(given);
  if (wrong !== undefined) return refuse("headers", wrong);
  const schema = given[SCHEMA];
  const sentAt = given["sent-at"];
  return {
    id,
    topic: delivery.routingKey,
    severity: (given[SEVERITY] as Severity | undefined) ?? 20,
    priority: delivery.priority ?? 0,
    ...(typeof schema === "string" ? { schema } : {}),
    ...(typeof sentAt === "string" ? { sentAt } : {}),
    headers: withoutSecrets(given),
    body: unwrapped(whole),
    bodySha256,
  };
}

function idOf({ messageId, routingKey }: Delivery, bodySha256: string): string {
  const given = messageId?.trim();
  // Ids of the old bus are no UUIDs; anything that a database and a log can hold is an id.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  if (given && given.length <= 200 && !/[\u0000-\u001f\u007f]/.test(given) && given.isWellFormed()) return given;
  return `sha256-${createHash("sha256").update(`${routingKey}\n${bodySha256}`).digest("hex").slice(0, 40)}`;
}

function problemWithTopic(topic: string): string | undefined {
  const bytes = Buffer.byteLength(topic);
  if (bytes > MOST_TOPIC_BYTES) return `The topic has ${bytes} bytes, AMQP allows ${MOST_TOPIC_BYTES}.`;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  if (/[\u0000-\u001f\u007f]/.test(topic)) return "The topic holds control characters.";
  return topic.isWellFormed() ? undefined : "The topic is no well-formed text.";
}

/** Names that Python's codecs have and `TextDecoder` has not, among those seen on the bus. */
const ENCODINGS: Readonly<Record<string, string>> = { utf_8: "utf-8", latin_1: "latin1", "latin-1": "latin1" };

function decoded({ content, contentEncoding }: Delivery): string | { problem: string } {
  const name = (contentEncoding ?? "").trim().toLowerCase() || "utf-8";
  const decoder = decoderOf(ENCODINGS[name] ?? name);
  if (decoder === undefined) {
    return { problem: `Nothing here decodes the content encoding "${name.slice(0, 40)}".` };
  }
  try {
    // A byte order mark is taken off.
    return decoder.decode(content);
  } catch {
    return { problem: `The body is not in its content encoding, ${name}.` };
  }
}

function decoderOf(name: string) {
  try {
    return new TextDecoder(name, { fatal: true });
  } catch {
    return undefined;
  }
}

/** How deep brackets are nested, strings left out. Counts without recursion what a parser might recurse into. */
function depthOf(text: string): number {
  let depth = 0;
  let deepest = 0;
  let inString = false;
  for (let at = 0; at < text.length; at++) {
    const char = text.charCodeAt(at);
    if (inString) {
      if (char === BACKSLASH) at++;
      else if (char === QUOTE) inString = false;
    } else if (char === QUOTE) inString = true;
    else if (char === OPEN_BRACE || char === OPEN_BRACKET) deepest = Math.max(deepest, ++depth);
    else if (char === CLOSE_BRACE || char === CLOSE_BRACKET) depth--;
  }
  return deepest;
}

const [QUOTE, BACKSLASH, OPEN_BRACE, CLOSE_BRACE, OPEN_BRACKET, CLOSE_BRACKET] = Array.from('"\\{}[]', (char) =>
  char.charCodeAt(0),
) as [number, number, number, number, number, number];

/** A parser's message quotes the text it stumbled over, which may hold anything. */
function withoutQuote(message: string): string {
  return message.replace(/,? ?"[\s\S]*$/, "").slice(0, 120);
}

function problemWithHeaders(headers: Readonly<Record<string, unknown>>): string | undefined {
  for (const name of TEXT_HEADERS) {
    if (Object.hasOwn(headers, name) && typeof headers[name] !== "string") return `The header ${name} is no text.`;
  }
  if (!Object.hasOwn(headers, SEVERITY)) return undefined;
  return [10, 20, 30, 40].includes(headers[SEVERITY] as number)
    ? undefined
    : `The header ${SEVERITY} is none of 10, 20, 30 and 40.`;
}

/**
 * Words in the names of headers, HTTP's or AMQP's, whose values are for the receiver alone: credentials, and signatures
 * that prove who sent something.
 */
const SECRET = /authorization|cookie|signature|token|secret|api-?key|password/i;

function withoutSecrets(headers: Readonly<Record<string, unknown>>): Record<string, Json> {
  const kept: [string, Json][] = [];
  for (const [name, value] of Object.entries(headers)) {
    if (name !== SCHEMA && SECRET.test(name)) continue;
    const plain = plainJson(value);
    if (plain !== undefined) kept.push([name, plain]);
  }
  // fromEntries defines properties, so that one called __proto__ is one.
  return Object.fromEntries(kept);
}

/** What an AMQP table may hold, as JSON: dates as text, byte arrays left out. */
function plainJson(value: unknown, depth = 0): Json | undefined {
  if (value === null || typeof value === "string" || typeof value === "boolean") return value;
  if (typeof value === "number") return Number.isFinite(value) ? value : null;
  if (typeof value === "bigint") return String(value);
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString();
  if (depth > 8 || ArrayBuffer.isView(value)) return undefined;
  if (Array.isArray(value)) return value.flatMap((one) => plainJson(one, depth + 1) ?? []);
  if (!isRecord(value)) return undefined;
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, one]) => {
      const plain = plainJson(one, depth + 1);
      return plain === undefined || SECRET.test(name) ? [] : [[name, plain]];
    }),
  );
}

/**
 * The body without what was wrapped around it: by the bridge from the old bus (`msg` beside `msg_id` or `topic`), or by
 * the webhook gateway (`body` beside the caller's HTTP `headers`, which hold what nobody else may see).
 */
function unwrapped(whole: Record<string, Json>): Record<string, Json> {
  const { msg, body, headers } = whole;
  if (isRecord(msg) && (Object.hasOwn(whole, "msg_id") || typeof whole.topic === "string")) return msg;
  if (isRecord(body) && isRecord(headers) && isWebhook(headers)) return body;
  return whole;
}

function isWebhook(headers: Readonly<Record<string, Json>>): boolean {
  return Object.keys(headers).some((name) => /^x-(github|forgejo|gitea|gitlab)-event$/i.test(name));
}

function isRecord(value: unknown): value is Record<string, Json> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
