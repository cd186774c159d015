/**
 * Microsoft Entra ID as far as a service principal with a secret sees it: the two discovery documents and the token
 * endpoint. Error codes and sentences are those of the service, because a driver can tell "wrong" from "expired" only
 * by the AADSTS number.
 * @see https://learn.microsoft.com/entra/identity-platform/reference-error-codes
 */
import { createHash, randomUUID, timingSafeEqual } from "node:crypto";
import { type Answer, type Exchange, header } from "./exchange.ts";
import type { TokenMint } from "./tokens.ts";

/** A service principal with a secret. */
export interface Principal {
  readonly tenantId: string;
  readonly clientId: string;
  readonly clientSecret: string;
  /** As permission errors name it. */
  readonly objectId: string;
}

export interface AuthoritySettings {
  /** Each in a tenant of its own. */
  readonly principals: readonly Principal[];
  readonly tokenSeconds: number;
  secretExpired: boolean;
}

/** True for the paths only an authority has. The first segment is a tenant, known or not. */
export function isAuthorityPath(path: readonly string[]): boolean {
  const rest = path.slice(1).join("/");
  return /^(v2\.0\/)?\.well-known\/openid-configuration$|^oauth2\/|^discovery\//.test(rest);
}

export function createAuthority(settings: AuthoritySettings, mint: TokenMint): (exchange: Exchange) => Answer {
  return (exchange) => {
    const [tenant = "", ...rest] = exchange.path;
    const path = rest.join("/");
    if (path === "discovery/instance") return json(200, instanceDiscovery(exchange));
    // For any tenant: libraries know this document by heart for the real authority and never ask it, so that a wrong
    // tenant is heard of at the token endpoint. Here too.
    if (path === "v2.0/.well-known/openid-configuration") return json(200, openIdConfiguration(exchange, tenant));
    if (path === "discovery/v2.0/keys") return json(200, { keys: [] });
    if (path === "oauth2/v2.0/token" && exchange.method === "POST") return token(exchange, tenant, settings, mint);
    return refuse(exchange, 501, "not_implemented", 0, `The simulated authority has no ${exchange.method} /${path}.`);
  };
}

function openIdConfiguration(exchange: Exchange, tenant: string): object {
  const base = `${exchange.origin}/${tenant}`;
  return {
    token_endpoint: `${base}/oauth2/v2.0/token`,
    token_endpoint_auth_methods_supported: ["client_secret_post", "client_secret_basic"],
    jwks_uri: `${base}/discovery/v2.0/keys`,
    response_types_supported: ["token"],
    scopes_supported: ["openid"],
    issuer: `${base}/v2.0`,
    authorization_endpoint: `${base}/oauth2/v2.0/authorize`,
    end_session_endpoint: `${base}/oauth2/v2.0/logout`,
    tenant_region_scope: "NA",
  };
}

function instanceDiscovery(exchange: Exchange): object {
  const host = new URL(exchange.origin).host;
  return {
    tenant_discovery_endpoint: `${exchange.query.get("authorization_endpoint")?.replace(/\/oauth2\/.*$/, "") ?? exchange.origin}/v2.0/.well-known/openid-configuration`,
    "api-version": "1.1",
    metadata: [{ preferred_network: host, preferred_cache: host, aliases: [host] }],
  };
}

function token(exchange: Exchange, tenant: string, settings: AuthoritySettings, mint: TokenMint): Answer {
  const principal = settings.principals.find((one) => one.tenantId.toLowerCase() === tenant.toLowerCase());
  if (principal === undefined) return noTenant(exchange, tenant);
  const form = new URLSearchParams(exchange.body.toString());
  const { id, secret } = credentials(exchange, form);
  const grant = form.get("grant_type");
  if (grant === null) {
    return refuse(
      exchange,
      400,
      "invalid_request",
      900144,
      "The request body must contain the following parameter: 'grant_type'.",
    );
  }
  if (grant !== "client_credentials") {
    return refuse(
      exchange,
      501,
      "unsupported_grant_type",
      70003,
      `The simulated authority knows client_credentials, not '${grant}'.`,
    );
  }
  if (id !== principal.clientId) {
    return refuse(
      exchange,
      400,
      "unauthorized_client",
      700016,
      `Application with identifier '${id}' was not found in the directory '${tenant}'. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant.`,
    );
  }
  if (settings.secretExpired) {
    return refuse(
      exchange,
      401,
      "invalid_client",
      7000222,
      `The provided client secret keys for app '${id}' are expired. Visit the Azure portal to create new keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added security: https://aka.ms/certCreds.`,
    );
  }
  if (!same(secret, principal.clientSecret)) {
    return refuse(
      exchange,
      401,
      "invalid_client",
      7000215,
      `Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '${id}'.`,
    );
  }
  const scope = form.get("scope") ?? "";
  if (!/^https:\/\/[^\s]+\/\.default$/.test(scope)) {
    return refuse(
      exchange,
      400,
      "invalid_scope",
      1002012,
      `The provided value for scope ${scope} is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI).`,
    );
  }
  const now = Math.floor(exchange.now / 1000);
  const access = mint.issue({
    aud: scope.replace(/\/+\.default$/, ""),
    iss: `${exchange.origin}/${tenant}/v2.0`,
    iat: now,
    nbf: now,
    exp: now + settings.tokenSeconds,
    appid: principal.clientId,
    oid: principal.objectId,
    tid: principal.tenantId,
    // No two tokens are the same, even of one second.
    uti: randomUUID(),
    ver: "1.0",
  });
  return json(200, {
    token_type: "Bearer",
    expires_in: settings.tokenSeconds,
    ext_expires_in: settings.tokenSeconds,
    access_token: access,
  });
}

/** RFC 6749 §2.3.1: in the form, or as HTTP Basic with both halves form-encoded. */
function credentials(exchange: Exchange, form: URLSearchParams): { id: string; secret: string } {
  const basic = /^Basic (.+)$/i.exec(header(exchange, "authorization") ?? "")?.[1];
  if (basic === undefined) return { id: form.get("client_id") ?? "", secret: form.get("client_secret") ?? "" };
  const [id = "", secret = ""] = Buffer.from(basic, "base64").toString().split(":");
  return { id: decodeURIComponent(id), secret: decodeURIComponent(secret) };
}

/** Compares without telling by its time how much was right. */
function same(a: string, b: string): boolean {
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}

function noTenant(exchange: Exchange, tenant: string): Answer {
  return refuse(
    exchange,
    400,
    "invalid_tenant",
    90002,
    `Tenant '${tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud. Check with your subscription administrator, this may happen if there are no active subscriptions for the tenant.`,
  );
}

function refuse(exchange: Exchange, status: number, error: string, code: number, sentence: string): Answer {
  const time = `${new Date(exchange.now).toISOString().slice(0, 19).replace("T", " ")}Z`;
  const correlation = header(exchange, "client-request-id") ?? exchange.requestId;
  return json(
    status,
    {
      error,
      error_description: `AADSTS${code}: ${sentence} Trace ID: ${exchange.requestId} Correlation ID: ${correlation} Timestamp: ${time}`,
      error_codes: [code],
      timestamp: time,
      trace_id: exchange.requestId,
      correlation_id: correlation,
      error_uri: `${exchange.origin}/error?code=${code}`,
    },
    { "x-ms-request-id": exchange.requestId },
  );
}

function json(status: number, body: object, headers: Record<string, string> = {}): Answer {
  return {
    status,
    headers: { "content-type": "application/json; charset=utf-8", "cache-control": "no-store", ...headers },
    body: JSON.stringify(body),
  };
}
