/** The token endpoint, as far as a service account's key sees it (RFC 7523), and the tokens it gives. */
import { createPublicKey, type KeyObject, randomBytes, verify } from "node:crypto";
import type { Answer, Exchange } from "../azure/exchange.ts";
import { GcpFault, json } from "./fault.ts";

const GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/** @param accounts public keys, PEM, by the e-mail address of their service account */
export function createTokens(accounts: Readonly<Record<string, string>>) {
  const keys = new Map(Object.entries(accounts).map(([email, pem]) => [email, createPublicKey(pem)]));
  const given = new Map<string, { readonly until: number; readonly email: string }>();
  return {
    token(exchange: Exchange): Answer {
      const form = new URLSearchParams(exchange.body.toString());
      if (form.get("grant_type") !== GRANT) return refuse("unsupported_grant_type", "Invalid grant_type");
      const read = accountOf(form.get("assertion") ?? "", keys, exchange.now);
      if ("wrong" in read) return refuse("invalid_grant", read.wrong);
      const token = `ya29.${randomBytes(24).toString("base64url")}`;
      given.set(token, { until: exchange.now + 3_600_000, email: read.email });
      return json({ access_token: token, expires_in: 3599, token_type: "Bearer" });
    },
    /** @returns whose the token is @throws GcpFault 401 */
    check(exchange: Exchange): string {
      const token = /^Bearer (.+)$/i.exec(exchange.headers.authorization ?? "")?.[1] ?? "";
      const known = given.get(token);
      if (known !== undefined && known.until > exchange.now) return known.email;
      throw new GcpFault(401, "authError", "Invalid Credentials");
    },
  };
}

function refuse(error: string, error_description: string): Answer {
  return json({ error, error_description }, 400);
}

function accountOf(
  assertion: string,
  keys: ReadonlyMap<string, KeyObject>,
  now: number,
): { email: string } | { wrong: string } {
  const [head = "", body = "", signature = ""] = assertion.split(".");
  let claims: { iss?: string; exp?: number; iat?: number; scope?: string };
  try {
    claims = JSON.parse(Buffer.from(body, "base64url").toString());
  } catch {
    return { wrong: "Invalid JWT" };
  }
  const { iss: email = "" } = claims;
  const key = keys.get(email);
  if (key === undefined) return { wrong: "Invalid grant: account not found" };
  if (!verify("RSA-SHA256", Buffer.from(`${head}.${body}`), key, Buffer.from(signature, "base64url"))) {
    return { wrong: "Invalid JWT Signature." };
  }
  const { exp = 0, iat = 0 } = claims;
  // One hour, as documented, and a little for clocks that differ.
  if (exp * 1000 < now || exp - iat > 3600 || iat * 1000 > now + 300_000) {
    return { wrong: "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe." };
  }
  return claims.scope ? { email } : { wrong: "Invalid JWT: scope is missing" };
}
