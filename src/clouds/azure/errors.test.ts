import { expect, test } from "vitest";
import { isTransient } from "../../lib/errors.ts";
import { translate } from "./errors.ts";

const rest = (statusCode: number, code: string, message = code, headers: Record<string, string> = {}) =>
  Object.assign(new Error(message), { name: "RestError", statusCode, code, response: { headers } });

const ACTION = "Microsoft.Compute/galleries/images/versions/write";

const cases = [
  {
    name: "an expired secret",
    error: Object.assign(new Error("invalid_client: AADSTS7000222: The provided client secret keys are expired."), {
      name: "AuthenticationError",
      statusCode: 401,
    }),
    code: "unauthenticated",
    next: /Rotate it: az ad app credential reset --id app-1/,
  },
  {
    name: "a wrong secret",
    error: new Error("AADSTS7000215: Invalid client secret provided."),
    code: "unauthenticated",
    next: /not its id/,
  },
  { name: "a tenant that is not", error: new Error("AADSTS90002: Tenant 'x' not found."), code: "unauthenticated" },
  { name: "a sign-in that is out of order", error: new Error("AADSTS90033: A transient error."), code: "unavailable" },
  {
    name: "a role without the action",
    error: rest(
      403,
      "AuthorizationFailed",
      `The client 'a' with object id 'b' does not have authorization to perform action '${ACTION}' over scope '/s'`,
    ),
    code: "forbidden",
    subject: ACTION,
  },
  {
    name: "a linked scope without the action",
    error: rest(
      403,
      "LinkedAuthorizationFailed",
      "The client has permission to perform action 'a/write' on scope 's'; however, it does not have permission to perform action(s) 'Microsoft.Storage/storageAccounts/listKeys/action' on the linked scope(s) 't'",
    ),
    code: "forbidden",
    subject: "Microsoft.Storage/storageAccounts/listKeys/action",
  },
  { name: "a network rule", error: rest(403, "AuthorizationFailure"), code: "forbidden", next: /network rules/ },
  { name: "a token of another tenant", error: rest(401, "InvalidAuthenticationTokenTenant"), code: "unauthenticated" },
  { name: "a busy blob", error: rest(503, "ServerBusy"), code: "throttled" },
  { name: "too many requests", error: rest(429, "TooManyRequests"), code: "throttled" },
  { name: "a quota", error: rest(409, "QuotaExceeded"), code: "quota" },
  {
    name: "a quota in other words",
    error: rest(409, "OperationNotAllowed", "Operation could not be completed as it results in exceeding quota limit."),
    code: "quota",
  },
  { name: "a conflict", error: rest(409, "Conflict"), code: "conflict" },
  { name: "a fence", error: rest(412, "SequenceNumberConditionNotMet"), code: "conflict" },
  { name: "a vanished blob", error: rest(404, "BlobNotFound"), code: "not-found" },
  { name: "a HEAD without body", error: rest(404, "", "", { "x-ms-error-code": "BlobNotFound" }), code: "not-found" },
  { name: "a broken gateway", error: rest(502, "BadGateway"), code: "unavailable" },
  { name: "an operation the server does not have", error: rest(501, "NotImplemented"), code: "unsupported" },
  { name: "nonsense", error: rest(400, "InvalidParameter"), code: "invalid" },
  {
    name: "a connection that breaks",
    error: Object.assign(new Error("socket hang up"), { code: "ECONNRESET" }),
    code: "unavailable",
  },
  {
    name: "a certificate nobody trusts",
    error: Object.assign(new Error("self-signed certificate in certificate chain"), {
      code: "SELF_SIGNED_CERT_IN_CHAIN",
    }),
    code: "invalid",
    next: /\bca\b/,
  },
  { name: "something else", error: new Error("?"), code: "unknown" },
];

test.each(cases)("$name", ({ error, code, subject, next }) => {
  const translated = translate(error, { operation: "Do It", clientId: "app-1" });
  expect(translated).toMatchObject({ code, cloud: "azure", operation: "Do It" });
  if (subject) expect(translated.subject).toBe(subject);
  if (next) expect(translated.next).toMatch(next);
});

test("the secret and the token are in no part of it", () => {
  const error = Object.assign(rest(400, "Bad", "your s3cr+t was refused with Bearer abc.def-ghi"), {
    request: { body: "client_secret=s3cr%2Bt", headers: { authorization: "Bearer abc.def-ghi" } },
  });
  const translated = translate(error, { operation: "x", secrets: ["s3cr+t"] });
  const all = `${translated.stack} ${JSON.stringify(translated)} ${JSON.stringify(translated.cause)} ${translated.cause}`;
  expect(all).not.toMatch(/s3cr(\+|%2B)t|abc\.def/);
});

test("the request id is what support asks for", () => {
  const translated = translate(rest(500, "x", "y", { "x-ms-request-id": "id-1" }), { operation: "x" });
  expect(translated).toMatchObject({ requestId: "id-1" });
  expect(isTransient(translated)).toBe(true);
});

test("a very long answer is cut, and what is ours passes", () => {
  const translated = translate(rest(500, "x", "y".repeat(100_000)), { operation: "x" });
  expect(translated.message.length).toBeLessThan(1000);
  expect(translate(translated, { operation: "other" })).toBe(translated);
});
