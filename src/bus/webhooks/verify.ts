/**
 * Whether a webhook call comes from the forge it says: a decision over bytes and headers, nothing else. Pure; reads no
 * body before it is believed, and never throws for what a caller sends.
 *
 * What each forge proves decides what an event's identity is made of, because only a signed thing can tell a new call
 * from a replay of an old one:
 *
 * - GitHub, Forgejo and Gitea sign the body and nothing else. The delivery id is a header anybody may change, so the
 *   identity is the body's digest. Bodies carry ids, commits and times of change: two that are equal are one event, also
 *   when a person presses "redeliver". No time is signed, so there is no window in which a replay would be new.
 * - GitLab with a signing token signs id, time and body (the Standard Webhooks scheme): the id is the identity, the same
 *   for every attempt, and a call more than five minutes off is refused.
 * - GitLab with a secret token signs nothing: who has seen a call has the token and can make any other. Its idempotency
 *   key keeps the forge's own repetitions apart from news; it is no defence, and none is possible.
 * - Quay signs nothing, sends no id, and its bodies repeat honestly: pushing the tag `latest` twice gives the same bytes.
 *   Losing the second push is worse than doing something twice, so every call is an event of its own.
 */
import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { minutes } from "../../lib/units.ts";

export const FORGES = ["github", "forgejo", "gitea", "gitlab", "quay"] as const;
export type Forge = (typeof FORGES)[number];

/** Names in lower case, the first value of each. */
export type CallHeaders = Readonly<Record<string, string | undefined>>;

export interface WebhookCall {
  readonly forge: Forge;
  /** Any of them will do, so that one can be replaced while both are in use. Empty ones count for nothing. */
  readonly secrets: readonly string[];
  readonly headers: CallHeaders;
  /** As it came over the wire; not one byte parsed and written again. */
  readonly rawBody: Buffer;
  readonly now: Date;
  /** What a call that does not name its event is about. Quay's only. */
  readonly event?: string | undefined;
}

export interface VerifiedCall {
  readonly ok: true;
  /** One word of a topic: a-z, 0-9, `_` and `-`, 1 … 64 characters. Only a header says it, except Quay's. */
  readonly event: string;
  /** The forge's own name for this call, for people who look for it in the forge's log. */
  readonly delivery: string | undefined;
  /** The JSON, taken out of a form if it came in one. Not parsed yet. */
  readonly content: Buffer;
  /** The facts that make this event the same as another one, within its source. */
  readonly identity: readonly string[];
}

/** A closed list; the first five are about who calls, the others about what was sent, the last about ourselves. */
export type VerifyRefusal =
  | "unsigned" // no signature or token at all
  | "algorithm" // signed with something that is not SHA-256
  | "malformed" // the signature has not the form it must have
  | "mismatch" // the signature or token is wrong
  | "stale" // signed more than five minutes from now
  | "no-event"
  | "no-delivery"
  | "no-payload" // a form without exactly one field `payload`
  | "no-secret"; // nothing is configured to check it with

export interface RefusedCall {
  readonly ok: false;
  readonly why: VerifyRefusal;
}

/** What the Standard Webhooks libraries allow to clocks and queues. */
const MOST_SKEW_MS = minutes(5);
const SIGNING_TOKEN = "whsec_";
const LEAST_KEY_BYTES = 16;

/**
 * Checks a call. The algorithm is ours, never the caller's choice; secrets are compared in constant time.
 * @see https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
 * @see https://forgejo.org/docs/latest/user/webhooks/
 * @see https://docs.gitlab.com/user/project/integrations/webhooks/
 */
export function verifyWebhook(call: WebhookCall): VerifiedCall | RefusedCall {
  const secrets = call.secrets.filter(isSecret);
  if (secrets.length === 0) return refused("no-secret");
  return VERIFIERS[call.forge]({ ...call, secrets });
}

/** An empty one, or a signing token with hardly a key in it, is one that everybody knows. */
function isSecret(secret: string): boolean {
  return secret.startsWith(SIGNING_TOKEN) ? keyOf(secret).length >= LEAST_KEY_BYTES : secret.trim() !== "";
}

function keyOf(signingToken: string): Buffer {
  return Buffer.from(signingToken.slice(SIGNING_TOKEN.length), "base64");
}

const VERIFIERS: Readonly<Record<Forge, (call: WebhookCall) => VerifiedCall | RefusedCall>> = {
  github: (call) => signedBody(call, ["x-hub-signature-256"], ["x-github"]),
  // Forgejo sends Gitea's names too; a Gitea of any age sends only its own.
  forgejo: (call) =>
    signedBody(call, ["x-forgejo-signature", "x-gitea-signature", "x-hub-signature-256"], ["x-forgejo", "x-gitea"]),
  gitea: (call) => signedBody(call, ["x-gitea-signature", "x-hub-signature-256"], ["x-gitea"]),
  gitlab,
  quay,
};

/** HMAC-SHA256 of the body, in hex. The first signature header that is there decides; no other one rescues it. */
function signedBody(
  call: WebhookCall,
  signatures: readonly string[],
  prefixes: readonly string[],
): VerifiedCall | RefusedCall {
  const { headers, rawBody, secrets } = call;
  // A hook without a secret sends some of them empty.
  const name = signatures.find((one) => headers[one]);
  if (name === undefined) return refused(headers["x-hub-signature"] ? "algorithm" : "unsigned");
  const given = headers[name]!;
  const isHub = name === "x-hub-signature-256";
  if (isHub && !given.startsWith("sha256=")) return refused(given.includes("=") ? "algorithm" : "malformed");
  const hex = isHub ? given.slice("sha256=".length) : given;
  if (!/^[0-9a-f]{64}$/i.test(hex)) return refused("malformed");

  const content = payloadOf(headers, rawBody);
  // GitHub signs the form as it is sent, Forgejo and Gitea the JSON in it.
  const signed = call.forge === "github" ? rawBody : content;
  if (signed === undefined) return refused("no-payload");
  const claimed = Buffer.from(hex, "hex");
  if (!anyOf(secrets, (secret) => timingSafeEqual(hmac(secret, signed), claimed))) return refused("mismatch");
  if (content === undefined) return refused("no-payload");

  const event = eventWord(first(headers, prefixes, "event"));
  if (event === undefined) return refused("no-event");
  const delivery = plainText(first(headers, prefixes, "delivery"));
  if (delivery === undefined) return refused("no-delivery");
  return { ok: true, event, delivery, content, identity: ["body", sha256(content)] };
}

function gitlab({ headers, rawBody, secrets, now }: WebhookCall): VerifiedCall | RefusedCall {
  const keys = secrets.filter((secret) => secret.startsWith(SIGNING_TOKEN));
  const tokens = secrets.filter((secret) => !secret.startsWith(SIGNING_TOKEN));
  const isSigned = keys.length > 0 && Boolean(headers["webhook-signature"]);
  if (isSigned) {
    const problem = standardWebhook(headers, rawBody, keys, now);
    if (problem !== undefined) return refused(problem);
  } else {
    // A signing token is a key: it is never taken for a password that somebody sends.
    const token = headers["x-gitlab-token"];
    if (!token) return refused("unsigned");
    if (!anyOf(tokens, (secret) => sameText(secret, token))) return refused("mismatch");
  }
  // "Merge Request Hook" is what bodies and GitLab's API call merge_request.
  const event = eventWord(headers["x-gitlab-event"]?.replace(/ hook$/i, "").replaceAll(" ", "_"));
  if (event === undefined) return refused("no-event");
  if (isSigned) {
    const id = headers["webhook-id"]!;
    return { ok: true, event, delivery: id, content: rawBody, identity: ["id", id] };
  }
  const key = plainText(headers["idempotency-key"]);
  if (key !== undefined) return { ok: true, event, delivery: key, content: rawBody, identity: ["key", key] };
  // Older versions send only this one, and hooks that set each other off share it.
  const uuid = plainText(headers["x-gitlab-event-uuid"]);
  if (uuid === undefined) return refused("no-delivery");
  return { ok: true, event, delivery: uuid, content: rawBody, identity: ["uuid", uuid, sha256(rawBody)] };
}

/** @see https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md */
function standardWebhook(
  headers: CallHeaders,
  rawBody: Buffer,
  keys: readonly string[],
  now: Date,
): VerifyRefusal | undefined {
  const id = plainText(headers["webhook-id"]);
  const sentAt = headers["webhook-timestamp"] ?? "";
  if (id === undefined || !/^[0-9]{1,12}$/.test(sentAt)) return "malformed";
  // Several, while GitLab itself changes the key.
  const claims = headers["webhook-signature"]!.split(" ").filter((one) => one.startsWith("v1,"));
  if (claims.length === 0) return "algorithm";
  const signed = Buffer.concat([Buffer.from(`${id}.${sentAt}.`), rawBody]);
  const matches = anyOf(keys, (key) => {
    const expected = hmac(keyOf(key), signed).toString("base64");
    return anyOf(claims.slice(0, 8), (claim) => sameText(claim.slice("v1,".length), expected));
  });
  if (!matches) return "mismatch";
  return Math.abs(now.getTime() - Number(sentAt) * 1000) > MOST_SKEW_MS ? "stale" : undefined;
}

/** A URL is all that can be set up at Quay; `https://user:token@…` in it arrives as basic authorization. */
function quay({ headers, rawBody, secrets, now, event: configured }: WebhookCall): VerifiedCall | RefusedCall {
  const authorization = headers.authorization;
  if (!authorization) return refused("unsigned");
  const [, scheme = "", value = ""] = /^(basic|bearer) +([!-~]+)$/i.exec(authorization) ?? [];
  if (scheme === "") return refused("malformed");
  // The user's name is anything; it holds no colon, a token may.
  const token =
    scheme.toLowerCase() === "bearer"
      ? value
      : Buffer.from(value, "base64")
          .toString()
          .replace(/^[^:]*:/, "");
  if (!anyOf(secrets, (secret) => sameText(secret, token))) return refused("mismatch");
  const event = eventWord(configured ?? eventOfQuay(rawBody));
  if (event === undefined) return refused("no-event");
  const identity = ["call", now.toISOString(), sha256(rawBody)];
  return { ok: true, event, delivery: undefined, content: rawBody, identity };
}

/** A template may put `event` into the body; without one, only pushes can be told by what is there. */
function eventOfQuay(rawBody: Buffer): string | undefined {
  try {
    const body = JSON.parse(rawBody.toString()) as unknown;
    if (typeof body !== "object" || body === null) return undefined;
    if (Object.hasOwn(body, "event")) {
      const { event } = body as { event: unknown };
      return typeof event === "string" ? event : undefined;
    }
    return Object.hasOwn(body, "updated_tags") ? "repo_push" : undefined;
  } catch {
    return undefined;
  }
}

/** The JSON of a call: its body, or the one field `payload` of a form. */
function payloadOf(headers: CallHeaders, rawBody: Buffer): Buffer | undefined {
  if (!/^application\/x-www-form-urlencoded *(;|$)/i.test(headers["content-type"] ?? "")) return rawBody;
  const fields = new URLSearchParams(rawBody.toString("latin1")).getAll("payload");
  return fields.length === 1 ? Buffer.from(fields[0]!) : undefined;
}

/** A word that cannot be more than one word of a topic, whatever a header says. */
function eventWord(text: string | undefined): string | undefined {
  const word = (text ?? "")
    .slice(0, 200)
    .toLowerCase()
    .replace(/[^a-z0-9_]+/g, "-")
    .slice(0, 64)
    .replace(/^-+|-+$/g, "");
  return word === "" ? undefined : word;
}

/** A header's value that may be kept and shown: printable ASCII, at most 200 characters. */
export function plainText(value: string | undefined): string | undefined {
  return value !== undefined && /^[ -~]{1,200}$/.test(value) ? value : undefined;
}

function first(headers: CallHeaders, prefixes: readonly string[], what: string): string | undefined {
  return prefixes.map((prefix) => headers[`${prefix}-${what}`]).find(Boolean);
}

function hmac(key: string | Buffer, data: Buffer): Buffer {
  return createHmac("sha256", key).update(data).digest();
}

function sha256(data: string | Buffer): string {
  return createHash("sha256").update(data).digest("hex");
}

/** Digests are compared, so that lengths are equal and tell nothing. */
function sameText(one: string, other: string): boolean {
  return timingSafeEqual(createHash("sha256").update(one).digest(), createHash("sha256").update(other).digest());
}

/** Looks at all of them: how long it takes does not say which one it was. */
function anyOf<T>(all: readonly T[], matches: (one: T) => boolean): boolean {
  return all.map(matches).includes(true);
}

function refused(why: VerifyRefusal): RefusedCall {
  return { ok: false, why };
}
