import { SlipwayError } from "../lib/errors.ts";
import { clean } from "./errors.ts";
import { isLoopback } from "./names.ts";

export interface Credentials {
  readonly username: string;
  readonly password: string;
}

/** Fetches a token from its realm; http.ts brings the one that speaks HTTP. Resolves with the parsed JSON body. */
export type TokenFetcher = (url: URL, authorization: string | undefined, signal: AbortSignal) => Promise<unknown>;

export interface Challenge {
  /** Lower case: `basic`, `bearer`. */
  readonly scheme: string;
  readonly params: Readonly<Record<string, string>>;
}

/**
 * Proves to one registry who we are, by Basic or by token, whichever it asks for.
 *
 * Credentials leave this process for two places only: the registry's own origin, and a token realm over https (over
 * http only when registry and realm are both on this machine). Tokens are kept per scope until shortly before they end.
 */
export interface Authenticator {
  /** The header for a call that needs these scopes, if it is known already. */
  header(scopes: readonly string[]): string | undefined;
  /** After a 401: a header other than the refused one to try once more with, or undefined if there is none. */
  answer(
    challenges: readonly Challenge[],
    scopes: readonly string[],
    refused: string | undefined,
    signal: AbortSignal,
  ): Promise<string | undefined>;
}

interface Token {
  readonly header: string;
  readonly endsAt: number;
}

// Of a token whose answer does not say: the token specification's default.
// https://distribution.github.io/distribution/spec/auth/token/
const DEFAULT_TOKEN_SECONDS = 60;
/** A token is not used in its last seconds: it could end on the way. */
const TOKEN_MARGIN_MS = 10_000;

export function createAuthenticator(
  origin: string,
  credentials: Credentials | undefined,
  fetchToken: TokenFetcher,
  now: () => number = Date.now,
): Authenticator {
  const basic = credentials && basicHeader(credentials);
  const tokens = new Map<string, Token>();
  const asking = new Map<string, Promise<Token>>();
  let usesBasic = false;

  return {
    header(scopes) {
      if (usesBasic) return basic;
      const token = tokens.get(scopes.join(" "));
      return token && token.endsAt > now() ? token.header : undefined;
    },

    async answer(challenges, scopes, refused, signal) {
      const bearer = challenges.find((challenge) => challenge.scheme === "bearer");
      if (bearer) {
        const key = scopes.join(" ");
        // Blobs travel side by side and are all refused at first: one of them asks, the others wait for its token.
        const shared = await asking.get(key)?.catch(() => undefined);
        if (shared) return shared.header;
        const url = realmOf(bearer, origin, scopes);
        const asked = fetchToken(url, basic, signal).then((body) => readToken(body, url.host, now()));
        asking.set(key, asked);
        const token = await asked.finally(() => asking.delete(key));
        tokens.set(key, token);
        return token.header;
      }
      if (basic && basic !== refused && challenges.some((challenge) => challenge.scheme === "basic")) {
        usesBasic = true;
        return basic;
      }
      return undefined;
    },
  };
}

/**
 * Reads WWW-Authenticate headers: schemes with `key="value"` parameters.
 * A parameter that is no such thing is left out; nothing is ever thrown.
 */
export function parseChallenges(values: readonly string[]): Challenge[] {
  const found: { scheme: string; params: Record<string, string> }[] = [];
  for (const value of values.slice(0, 10)) {
    const tokens = value.slice(0, 4096).matchAll(/([A-Za-z][\w-]*)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+)))?/g);
    for (const [, word, quoted, bare] of tokens) {
      const text = quoted ?? bare;
      if (text === undefined) found.push({ scheme: word!.toLowerCase(), params: {} });
      else
        found.at(-1)?.params &&
          Object.assign(found.at(-1)!.params, { [word!.toLowerCase()]: text.replace(/\\(.)/g, "$1") });
    }
  }
  return found;
}

/** Where to ask for the token. The scope the registry named comes first: it knows best what the call needs. */
function realmOf(challenge: Challenge, origin: string, scopes: readonly string[]): URL {
  const { realm, service, scope } = challenge.params;
  const refuse = (why: string) =>
    new SlipwayError("unauthenticated", `${new URL(origin).host} sends to a token service that ${why}`, {
      subject: clean(realm ?? "", 200),
      next: "no credentials were sent; ask the registry's operators",
    });
  let url: URL;
  try {
    url = new URL(realm ?? "");
  } catch {
    throw refuse("has no readable address");
  }
  const bothHere = isLoopback(url.hostname) && isLoopback(new URL(origin).hostname) && origin.startsWith("http:");
  if (url.protocol !== "https:" && !(url.protocol === "http:" && bothHere)) throw refuse("is not https");
  if (url.username || url.password) throw refuse("has credentials in its address");
  if (service) url.searchParams.set("service", service);
  for (const each of new Set([...scopes, ...(scope ? [scope] : [])])) url.searchParams.append("scope", each);
  return url;
}

function readToken(body: unknown, host: string, now: number): Token {
  const { token, access_token, expires_in } = (body ?? {}) as Record<string, unknown>;
  const text = typeof token === "string" && token ? token : access_token;
  if (typeof text !== "string" || !/^[\x21-\x7e]{1,16384}$/.test(text)) {
    throw new SlipwayError("unauthenticated", `The token service ${host} gave no usable token`, {
      next: "try again; tell the registry's operators if it stays so",
    });
  }
  const seconds = typeof expires_in === "number" && expires_in > 0 ? expires_in : DEFAULT_TOKEN_SECONDS;
  return { header: `Bearer ${text}`, endsAt: now + Math.max(0, seconds * 1000 - TOKEN_MARGIN_MS) };
}

function basicHeader({ username, password }: Credentials): string {
  if (username.includes(":")) {
    throw new SlipwayError("invalid", "A registry's user name cannot contain a colon", {
      subject: "credentials.username",
    });
  }
  return `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
}
