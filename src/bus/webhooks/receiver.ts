/**
 * The door forges knock at: `POST /webhooks/<name>`. Reads, checks, keeps, and only then says so: an answer of 202 means
 * that the event is in the database. Knows no HTTP server: whoever has one passes a request's parts and sends the answer.
 *
 * Start reading in `verify.ts`, which decides whom to believe; `event.ts` makes an event of it.
 */
import type { Log } from "../../lib/call.ts";
import { reportOf, SlipwayError } from "../../lib/errors.ts";
import { MiB, minutes } from "../../lib/units.ts";
import type { Accepted } from "../inbox.ts";
import { type Delivery, readDelivery } from "../message.ts";
import { createBodyReader, type ReadBody } from "./body.ts";
import { webhookDelivery } from "./event.ts";
import {
  type CallHeaders,
  FORGES,
  type Forge,
  type VerifiedCall,
  type VerifyRefusal,
  verifyWebhook,
} from "./verify.ts";

export interface WebhookSourceOptions {
  readonly forge: Forge;
  /** Asked for every call, so that a secret can be replaced while we run. Never logged, never kept. */
  secrets(): Promise<readonly string[]>;
  /** Words before the forge's in topics. Default: none. */
  readonly topicPrefix?: string | undefined;
  /** Events that are kept, as words of topics (`pull_request`); others are answered and forgotten. Default: all. */
  readonly events?: readonly string[] | undefined;
  /** What Quay's calls are about, which do not say it themselves: `repo_push`. */
  readonly event?: string | undefined;
}

export interface WebhookReceiverOptions {
  readonly sources: Readonly<Record<string, WebhookSourceOptions>>;
  /** Keeps a batch, whole or not at all; throws when it cannot. */
  accept(deliveries: readonly Delivery[]): Promise<Accepted>;
  readonly log: Log;
  readonly limits?: { readonly mostBytes?: number; readonly mostHeldBytes?: number } | undefined;
  readonly now?: (() => Date) | undefined;
}

export interface WebhookRequest {
  /** What follows `/webhooks/` in the URL. */
  readonly name: string;
  /** As Node has them: lower case, several values as a list. */
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  /** The bytes as they came. A server must not parse them before. */
  readonly body: AsyncIterable<Uint8Array> | Buffer;
  /** The caller's address, for the log. */
  readonly remote?: string | undefined;
}

/**
 * 202 kept · 200 known, unwanted or a ping · 400 unreadable · 401 not believed · 404 no such source · 413 too large ·
 * 503 try again: nothing was kept.
 */
export interface WebhookAnswer {
  readonly status: 200 | 202 | 400 | 401 | 404 | 413 | 503;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: {
    readonly state: "accepted" | "repeated" | "quarantined" | "ignored" | "pong" | "refused";
    /** The event's, where there is one. */
    readonly id?: string;
    /** A word. Says nothing about signatures that a forger could learn from. */
    readonly why?: string;
  };
}

export type WebhookRefusal =
  | VerifyRefusal
  | "unknown-source"
  | "too-large"
  | "cut-off"
  | "unreadable"
  | "busy"
  | "database-away";

export interface SourceCounts {
  readonly accepted: number;
  readonly repeated: number;
  readonly quarantined: number;
  /** Pings too. */
  readonly ignored: number;
  readonly refused: Readonly<Partial<Record<WebhookRefusal, number>>>;
}

export interface WebhookReceiver {
  /** Never throws. Safe to repeat: the same call is the same event, except Quay's. */
  handle(request: WebhookRequest): Promise<WebhookAnswer>;
  /** Since the start, by source; those of no source are under `""`. */
  counts(): ReadonlyMap<string, SourceCounts>;
}

/** GitHub sends no more. @see https://docs.github.com/en/webhooks/webhook-events-and-payloads */
const MOST_BYTES = 25 * MiB;
const MOST_HELD_BYTES = 200 * MiB;
const RETRY_AFTER_S = 30;
const LOG_EVERY_MS = minutes(1);
const NAME = /^[a-z0-9][a-z0-9_-]{0,63}$/;
const NOBODY = "";

/** What a caller whose name is unknown is checked against, to take as long as one whose secret is wrong. */
const DECOY: WebhookSourceOptions = { forge: "github", secrets: async () => ["decoy"] };

/** @throws SlipwayError `invalid` for a source that cannot be: its name, forge or prefix */
export function createWebhookReceiver(options: WebhookReceiverOptions): WebhookReceiver {
  const { accept, log, limits = {}, now = () => new Date() } = options;
  const sources = new Map(Object.entries(options.sources));
  for (const [name, source] of sources) checkSource(name, source);
  const bodies = createBodyReader({
    mostBytes: limits.mostBytes ?? MOST_BYTES,
    mostHeldBytes: limits.mostHeldBytes ?? MOST_HELD_BYTES,
  });
  const counts = new Map([NOBODY, ...sources.keys()].map((name) => [name, zeroCounts()]));
  const logged = new Map<string, { at: number; unsaid: number }>();

  async function handle({ name, headers: given, body, remote }: WebhookRequest): Promise<WebhookAnswer> {
    const source = sources.get(name);
    const headers = firstValues(given);
    const counted = counts.get(source === undefined ? NOBODY : name)!;

    function refuse(why: WebhookRefusal, details: Readonly<Record<string, unknown>> = {}): WebhookAnswer {
      counted.refused[why] = (counted.refused[why] ?? 0) + 1;
      tellRefused(source === undefined ? NOBODY : name, why, { ...details, remote });
      return REFUSALS[why];
    }

    async function decide(read: ReadBody): Promise<WebhookAnswer> {
      if (typeof read === "string") return refuse(read);
      const { forge, event, secrets } = source ?? DECOY;
      let known: readonly string[];
      try {
        known = await secrets();
      } catch (error) {
        return refuse("no-secret", { error: reportOf(error).message });
      }
      const call = verifyWebhook({ forge, secrets: known, headers, rawBody: read, now: now(), event });
      if (source === undefined) return refuse("unknown-source", NAME.test(name) ? { named: name } : {});
      if (!call.ok) return refuse(call.why);
      // GitHub's first call to a new hook: that it was believed is all it wants to know.
      if (forge === "github" && call.event === "ping") return ignore("pong");
      if (source.events !== undefined && !source.events.includes(call.event)) return ignore("ignored");
      return keep(source, call);
    }

    function ignore(state: "pong" | "ignored"): WebhookAnswer {
      counted.ignored++;
      return answer(200, { state });
    }

    async function keep({ forge, topicPrefix }: WebhookSourceOptions, call: VerifiedCall): Promise<WebhookAnswer> {
      const delivery = webhookDelivery({ name, forge, topicPrefix }, call, headers);
      const id = delivery.messageId!;
      const said = readDelivery(delivery);
      // Nobody waits for an answer from a broker, so what is unreadable there goes to quarantine; here somebody does. One
      // that is only larger than what is read goes there too: the forge is not to blame, and people can look at it.
      if ("reason" in said && said.reason !== "too-large") return refuse("unreadable", { reason: said.reason });
      let kept: Accepted;
      try {
        kept = await accept([delivery]);
      } catch (error) {
        return refuse("database-away", { error: reportOf(error).message });
      }
      const state = kept.quarantined > 0 ? "quarantined" : kept.fresh.length > 0 ? "accepted" : "repeated";
      counted[state]++;
      log.debug("webhook", { source: name, state, id, topic: delivery.routingKey, delivery: call.delivery });
      return answer(state === "repeated" ? 200 : 202, { state, id });
    }

    return bodies.read(body, headers["content-length"], decide);
  }

  /** Anybody can call, so anybody could fill the log: one line a minute for each source and reason, with how many more. */
  function tellRefused(source: string, why: WebhookRefusal, details: Readonly<Record<string, unknown>>): void {
    const key = `${source} ${why}`;
    const at = now().getTime();
    const last = logged.get(key);
    if (last !== undefined && Math.abs(at - last.at) < LOG_EVERY_MS) {
      last.unsaid++;
      return;
    }
    logged.set(key, { at, unsaid: 0 });
    const more = last === undefined || last.unsaid === 0 ? {} : { unsaid: last.unsaid };
    log.warn("webhook refused", { source, why, ...details, ...more });
  }

  return {
    handle,
    counts: () => new Map([...counts].map(([name, one]) => [name, { ...one, refused: { ...one.refused } }])),
  };
}

function answer(
  status: WebhookAnswer["status"],
  body: WebhookAnswer["body"],
  headers: WebhookAnswer["headers"] = {},
): WebhookAnswer {
  return { status, headers: { ...headers, "cache-control": "no-store" }, body };
}

const bad = (why: string) => answer(400, { state: "refused", why });
// Which of the checks failed is in our log, not in the answer.
const stranger = answer(401, { state: "refused", why: "unauthenticated" });
const later = (why: string) => answer(503, { state: "refused", why }, { "retry-after": String(RETRY_AFTER_S) });

const REFUSALS: Readonly<Record<WebhookRefusal, WebhookAnswer>> = {
  unsigned: stranger,
  algorithm: stranger,
  malformed: stranger,
  mismatch: stranger,
  stale: stranger,
  "no-event": bad("no-event"),
  "no-delivery": bad("no-delivery"),
  "no-payload": bad("no-payload"),
  unreadable: bad("unreadable"),
  "cut-off": bad("cut-off"),
  "unknown-source": answer(404, { state: "refused", why: "unknown-source" }),
  // The rest of the body is still on its way: the connection is of no more use.
  "too-large": answer(413, { state: "refused", why: "too-large" }, { connection: "close" }),
  busy: answer(503, { state: "refused", why: "busy" }, { "retry-after": String(RETRY_AFTER_S), connection: "close" }),
  "no-secret": later("not-configured"),
  "database-away": later("unavailable"),
};

function firstValues(given: WebhookRequest["headers"]): CallHeaders {
  const all = Object.entries(given).map(([name, value]) => [name, typeof value === "object" ? value[0] : value]);
  return Object.assign(Object.create(null) as CallHeaders, Object.fromEntries(all));
}

function zeroCounts() {
  const refused: Partial<Record<WebhookRefusal, number>> = {};
  return { accepted: 0, repeated: 0, quarantined: 0, ignored: 0, refused };
}

function checkSource(name: string, { forge, topicPrefix = "" }: WebhookSourceOptions): void {
  const problem = !NAME.test(name)
    ? "A webhook's name has 1 to 64 of a-z, 0-9, - and _, and begins with a letter or digit."
    : !FORGES.includes(forge)
      ? `A webhook's forge is one of ${FORGES.join(", ")}.`
      : !/^([a-z0-9_-]+(\.[a-z0-9_-]+)*)?$/i.test(topicPrefix) || topicPrefix.length > 150
        ? "A topic prefix is words with dots between them, at most 150 characters."
        : undefined;
  if (problem !== undefined) throw new SlipwayError("invalid", problem, { subject: `webhooks.${name}` });
}
