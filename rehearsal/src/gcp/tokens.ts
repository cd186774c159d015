/** The token endpoint, as far as a service account's key sees it (RFC 7523), and the tokens it gives. */
import { createPublicKey, type KeyObject, randomBytes, verify } from "node:crypto";
import type { Answer, Exchange } from "../azure/exchange.ts";
import { GcpFault, json } from "./fault.ts";

const GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer";

export function createTokens(clientEmail: string, publicKeyPem: string) {
  const key = createPublicKey(publicKeyPem);
  const until = new Map<string, number>();
  return {
    token(exchange: Exchange): Answer {
      const form = new URLSearchParams(exchange.body.toString());
      if (form.get("grant_type") !== GRANT) return refuse("unsupported_grant_type", "Invalid grant_type");
      const wrong = faultOf(form.get("assertion") ?? "", clientEmail, key, exchange.now);
      if (wrong) return refuse("invalid_grant", wrong);
      const token = `ya29.${randomBytes(24).toString("base64url")}`;
      until.set(token, exchange.now + 3_600_000);
      return json({ access_token: token, expires_in: 3599, token_type: "Bearer" });
    },
    /** @throws GcpFault 401 */
    check(exchange: Exchange): void {
      const token = /^Bearer (.+)$/i.exec(exchange.headers.authorization ?? "")?.[1] ?? "";
      if ((until.get(token) ?? 0) > exchange.now) return;
      throw new GcpFault(401, "authError", "Invalid Credentials");
    },
  };
}

function refuse(error: string, error_description: string): Answer {
  return json({ error, error_description }, 400);
}

function faultOf(assertion: string, clientEmail: string, key: KeyObject, now: number): string | undefined {
  const [head = "", body = "", signature = ""] = assertion.split(".");
  let claims: { iss?: string; exp?: number; iat?: number; scope?: string };
  try {
    claims = JSON.parse(Buffer.from(body, "base64url").toString());
  } catch {
    return "Invalid JWT";
  }
  if (claims.iss !== clientEmail) return "Invalid grant: account not found";
  if (!verify("RSA-SHA256", Buffer.from(`${head}.${body}`), key, Buffer.from(signature, "base64url"))) {
    return "Invalid JWT Signature.";
  }
  const { exp = 0, iat = 0 } = claims;
  // One hour, as documented, and a little for clocks that differ.
  if (exp * 1000 < now || exp - iat > 3600 || iat * 1000 > now + 300_000) {
    return "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.";
  }
  return claims.scope ? undefined : "Invalid JWT: scope is missing";
}
