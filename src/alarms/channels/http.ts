/** One HTTP request of a channel: its deadline, the bounded answer, and errors that say the host and no secret. */
import { EnvHttpProxyAgent, request } from "undici";
import type { CallContext } from "../../lib/call.ts";
import { type ErrorCode, reportOf, SlipwayError } from "../../lib/errors.ts";
import { trusting } from "../../lib/trust.ts";
import { KiB } from "../../lib/units.ts";
import { plain } from "../text.ts";
import { DEADLINE_MS, masked, stopped } from "./channel.ts";

/** What is said of a refusal fits into this; the rest is not read. */
const MOST_ANSWER_BYTES = 4 * KiB;
const MOST_SAID = 200;

export interface Sending {
  readonly channel: string;
  readonly method: "POST" | "PUT";
  /** May hold a secret: never said. */
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** JSON. */
  readonly body: string;
  readonly secrets: readonly string[];
  /** PEM of authorities that are trusted beside the public ones. */
  readonly ca?: string | undefined;
  /** Default: half a minute. */
  readonly deadlineMs?: number;
}

/**
 * Sends, and returns when the answer is a 2xx. Redirects are not followed: the body and the secrets are for one host.
 * Proxies are the environment's (HTTPS_PROXY, NO_PROXY).
 * @throws SlipwayError as `Channel.send` says
 */
export async function sendJson(what: Sending, call: CallContext): Promise<void> {
  const { channel, method, url, headers, body, secrets, deadlineMs = DEADLINE_MS } = what;
  const host = URL.canParse(url) ? new URL(url).host : undefined;
  if (host === undefined || !/^https?:/.test(url)) {
    throw failure("invalid", channel, "its address is no https URL");
  }
  const tls = trusting(what.ca);
  const dispatcher = new EnvHttpProxyAgent({ connect: tls, requestTls: tls });
  const deadline = AbortSignal.timeout(deadlineMs);
  try {
    const answer = await request(url, {
      ...{ dispatcher, method, body, signal: AbortSignal.any([call.signal, deadline]) },
      headers: { "content-type": "application/json", "user-agent": "Slipway", ...headers },
    });
    const status = answer.statusCode;
    const said = status < 300 ? "" : await beginningOf(answer.body);
    if (status >= 200 && status < 300) return;
    const words = plain(masked(said, secrets), MOST_SAID);
    const why = status < 400 ? `${host} redirects elsewhere, which is not followed` : `${host} answers ${status}`;
    throw failure(codeOf(status), channel, words === "" ? why : `${why}: ${words}`);
  } catch (error) {
    if (error instanceof SlipwayError) throw error;
    if (call.signal.aborted) throw stopped(channel);
    if (deadline.aborted) throw failure("unavailable", channel, `${host} did not answer within ${deadlineMs / 1000} s`);
    // Not as its cause: it may hold the request.
    const words = plain(masked(wordsOf(error), [...secrets, url]), MOST_SAID);
    throw failure("unavailable", channel, `${host} cannot be reached: ${words}`);
  } finally {
    await dispatcher.destroy();
  }
}

async function beginningOf(body: AsyncIterable<unknown>): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    chunks.push(chunk as Buffer);
    bytes += (chunk as Buffer).length;
    if (bytes >= MOST_ANSWER_BYTES) break;
  }
  return Buffer.concat(chunks).subarray(0, MOST_ANSWER_BYTES).toString("utf8");
}

function codeOf(status: number): ErrorCode {
  if (status === 401) return "unauthenticated";
  if (status === 403) return "forbidden";
  if (status === 404 || status === 410) return "not-found";
  if (status === 429) return "throttled";
  return status >= 500 ? "unavailable" : "invalid";
}

function failure(code: ErrorCode, channel: string, why: string): SlipwayError {
  return new SlipwayError(code, `channel ${channel}: ${why}`, {
    subject: channel,
    next: `Correct notifications.channels.${channel}, then: slipway alarms test ${channel}`,
  });
}

/** Several addresses of one host fail together, with an empty message around them. */
function wordsOf(error: unknown): string {
  const { message } = reportOf(error);
  if (message !== "") return message;
  return String((error as { code?: unknown } | null)?.code ?? "no reason given");
}
