/**
 * A believed call as a delivery, the same thing a broker hands over: from here on a webhook is an event like any other.
 * Topics are those of webhook2fedmsg (`forgejo.push`, `github.pull_request`), so that rules need not know which way an
 * event came; bodies are the forge's JSON alone. Pure.
 */
import type { Delivery } from "../message.ts";
import { messageId } from "../outbox.ts";
import { type CallHeaders, type Forge, plainText, type VerifiedCall } from "./verify.ts";

export interface WebhookSource {
  /** As in the URL. */
  readonly name: string;
  readonly forge: Forge;
  /** Words before the forge's, without a dot at the end: `org.fedoraproject.prod`. Default: none. */
  readonly topicPrefix?: string | undefined;
}

/**
 * What is kept of HTTP. A list of what is, because nobody can list what is not: gateways add credentials, addresses and
 * signatures of their own.
 */
const KEPT_HEADERS = [
  ...["x-github-event", "x-github-delivery", "x-github-hook-id"],
  ...["x-github-hook-installation-target-id", "x-github-hook-installation-target-type"],
  ...["x-forgejo-event", "x-forgejo-event-type", "x-forgejo-delivery"],
  ...["x-gitea-event", "x-gitea-event-type", "x-gitea-delivery"],
  ...["x-gitlab-event", "x-gitlab-event-uuid", "x-gitlab-webhook-uuid", "x-gitlab-instance"],
  ...["webhook-id", "webhook-timestamp", "idempotency-key"],
] as const;

/**
 * The delivery of a call. One call gives the same bytes and the same id however often it is made into one.
 *
 * The id is derived from the source and from the call's identity, so that the inbox's one row for each id is the
 * protection against replays. The header `webhook-source` names the source: two sources of one forge share topics, and a
 * rule that trusts one of them must be able to say so.
 */
export function webhookDelivery(source: WebhookSource, call: VerifiedCall, headers: CallHeaders): Delivery {
  const kept: [string, string][] = [["webhook-source", source.name]];
  for (const name of KEPT_HEADERS) {
    const value = plainText(headers[name]);
    if (value !== undefined) kept.push([name, value]);
  }
  return {
    messageId: eventId(source.name, call),
    routingKey: [source.topicPrefix, source.forge, call.event].filter(Boolean).join("."),
    content: withoutSecret(call.content),
    headers: Object.fromEntries(kept),
  };
}

export function eventId(source: string, { identity }: VerifiedCall): string {
  return messageId("webhook", source, ...identity);
}

/** Gitea and Forgejo used to write the hook's own secret into every body, as `secret`; no forge means anything else by it. */
function withoutSecret(content: Buffer): Buffer {
  if (!content.includes('"secret"')) return content;
  try {
    const body = JSON.parse(content.toString()) as unknown;
    if (typeof body !== "object" || body === null || !Object.hasOwn(body, "secret")) return content;
    const { secret: _, ...rest } = body as { secret: unknown };
    return Buffer.from(JSON.stringify(rest));
  } catch {
    // No JSON: whoever takes the delivery says so.
    return content;
  }
}
