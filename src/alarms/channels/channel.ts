import type { CallContext } from "../../lib/call.ts";
import { SlipwayError } from "../../lib/errors.ts";
import { seconds } from "../../lib/units.ts";
import type { Notice } from "../alarm.ts";

/** A way to people. */
export interface Channel {
  /** As the configuration calls it. */
  readonly name: string;
  readonly kind: "bus" | "mail" | "matrix" | "slack" | "webhook";
  /**
   * Brings one notice there and returns when the other side has it; half a minute at most. Safe to repeat: the notice's
   * id goes along, and where the other side can, it shows it once.
   * @throws SlipwayError `unavailable`, `throttled`, `unauthenticated`, `forbidden`, `not-found`, `invalid`, `cancelled`;
   *   no secret is in what it says
   */
  send(notice: Notice, call: CallContext): Promise<void>;
}

/** Read anew for each notice, so that one that was replaced is used. @throws SlipwayError `unauthenticated` */
export type Secret = () => Promise<string>;

export const DEADLINE_MS = seconds(30);

/** Takes secrets out of what another side says: it may have been told them, and say them back. */
export function masked(text: string, secrets: readonly string[]): string {
  let said = text;
  for (const secret of secrets) {
    if (secret === "") continue;
    for (const form of new Set([secret, encodeURIComponent(secret), Buffer.from(secret).toString("base64")])) {
      said = said.replaceAll(form, "…");
    }
  }
  return said;
}

/** A shorter part of a URL is a word that others use too. */
const SECRET_PART = 8;

/** What is secret of a URL that is one: the whole, and each part that is long enough to be guessed by nobody. */
export function secretsOf(url: string): string[] {
  if (!URL.canParse(url)) return [url];
  const { pathname, searchParams, password } = new URL(url);
  const parts = [...pathname.split("/"), ...searchParams.values(), password];
  return [url, ...parts.filter((part) => part.length >= SECRET_PART)];
}

export function stopped(name: string): SlipwayError {
  return new SlipwayError("cancelled", "the notification was stopped before it was sent", { subject: name });
}
