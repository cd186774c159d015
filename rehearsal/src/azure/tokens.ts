/** Access tokens: what the authority issues and the other two services check. Signed with a key that dies with the process. */
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";

export interface TokenClaims {
  /** The resource the token is for, without a trailing slash: `https://management.azure.com`. */
  readonly aud: string;
  readonly iss: string;
  /** Seconds since 1970. */
  readonly iat: number;
  readonly nbf: number;
  readonly exp: number;
  readonly appid: string;
  readonly oid: string;
  readonly tid: string;
  readonly uti?: string;
  readonly ver: string;
}

export type TokenProblem = "malformed" | "expired" | "audience";

export interface TokenMint {
  issue(claims: TokenClaims): string;
  /** @param audiences accepted ones, without a trailing slash; a function when they are a pattern */
  check(token: string, accepts: (audience: string) => boolean, nowSeconds: number): TokenClaims | TokenProblem;
}

export function createTokenMint(): TokenMint {
  const key = randomBytes(32);
  const sign = (text: string): Buffer => createHmac("sha256", key).update(text).digest();
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");

  return {
    issue(claims) {
      const text = `${part({ typ: "JWT", alg: "HS256" })}.${part(claims)}`;
      return `${text}.${sign(text).toString("base64url")}`;
    },

    check(token, accepts, nowSeconds) {
      const [head, body, signature, ...rest] = token.split(".");
      if (head === undefined || body === undefined || signature === undefined || rest.length > 0) return "malformed";
      const given = Buffer.from(signature, "base64url");
      const right = sign(`${head}.${body}`);
      if (given.length !== right.length || !timingSafeEqual(given, right)) return "malformed";
      // The signature is ours, so the claims have the shape we gave them.
      const claims = JSON.parse(Buffer.from(body, "base64url").toString()) as TokenClaims;
      if (claims.exp <= nowSeconds) return "expired";
      return accepts(claims.aud) ? claims : "audience";
    },
  };
}
