/**
 * Azure's errors in the words of the closed list: the one place that reads the SDKs' error shapes.
 *
 * Three services answer in three shapes (Entra ID, Resource Manager, Blob); what they share is a status, a code and a
 * request id. No error of an SDK is kept as it is: its request carries the token, and the token request the secret.
 */
import type { ErrorCode } from "../../lib/errors.ts";
import { SlipwayError } from "../../lib/errors.ts";
import type { Region } from "../../model.ts";
import { CloudError } from "../errors.ts";

export interface ErrorContext {
  /** The vendor's name of the call: `Put Page`, `GalleryImageVersions.CreateOrUpdate`. */
  readonly operation: string;
  readonly region?: Region | undefined;
  readonly subject?: string | undefined;
  /** The permission a blob call needs: Blob storage does not name it in its refusal. */
  readonly permission?: string | undefined;
  /** Application whose secret has to be rotated, when it is a service principal. */
  readonly clientId?: string | undefined;
  /** Never to be seen in a message. */
  readonly secrets?: readonly string[] | undefined;
}

/** What is read of any SDK's error. */
interface Answer {
  readonly status: number | undefined;
  readonly code: string;
  readonly message: string;
  readonly requestId: string | undefined;
}

export function translate(error: unknown, context: ErrorContext): SlipwayError {
  if (error instanceof SlipwayError) return error;
  const answer = read(error, context.secrets ?? []);
  const code = codeFor(answer);
  const advice = adviceFor(code, answer, context);
  const said = answer.message || answer.code || "no reason given";
  return new CloudError(code, `Azure refused ${context.operation}: ${said}`, {
    cloud: "azure",
    operation: context.operation,
    region: context.region,
    requestId: answer.requestId,
    subject: advice.subject ?? context.subject,
    next: advice.next,
    cause: plainCause(answer),
  });
}

/** Whether a token, and not the secret behind it, has come to its end. */
export function hasExpired(error: unknown): boolean {
  if (error instanceof SlipwayError) return false;
  const { status, code, message } = read(error, []);
  return code === "ExpiredAuthenticationToken" || (status === 401 && /token is expired/i.test(message));
}

/** The error codes of Resource Manager, Compute, Blob storage and the SDKs that say more than their status does. */
const BY_CODE: Readonly<Record<string, ErrorCode>> = {
  InvalidAuthenticationToken: "unauthenticated",
  InvalidAuthenticationTokenTenant: "unauthenticated",
  ExpiredAuthenticationToken: "unauthenticated",
  AuthenticationFailed: "unauthenticated",
  NoAuthenticationInformation: "unauthenticated",
  InvalidAuthenticationInfo: "unauthenticated",
  CredentialUnavailableError: "unauthenticated",
  AuthorizationFailed: "forbidden",
  LinkedAuthorizationFailed: "forbidden",
  AuthorizationPermissionMismatch: "forbidden",
  AuthorizationFailure: "forbidden",
  InsufficientAccountPermissions: "forbidden",
  RequestDisallowedByPolicy: "forbidden",
  PublicAccessNotPermitted: "forbidden",
  ServerBusy: "throttled",
  TooManyRequests: "throttled",
  SubscriptionRequestsThrottled: "throttled",
  ResourceRequestsThrottled: "throttled",
  OperationTimedOut: "unavailable",
  InternalError: "unavailable",
  InternalServerError: "unavailable",
  RetryableError: "unavailable",
  AllocationFailed: "unavailable",
  AnotherOperationInProgress: "unavailable",
  ContainerBeingDeleted: "unavailable",
  // Damage on the way: the next attempt sends the right bytes.
  Md5Mismatch: "unavailable",
  Crc64Mismatch: "unavailable",
  QuotaExceeded: "quota",
  ResourceQuotaExceeded: "quota",
  AccountLimitExceeded: "quota",
  SequenceNumberConditionNotMet: "conflict",
  ConditionNotMet: "conflict",
  BlobAlreadyExists: "conflict",
  GalleryImageNotFound: "not-found",
  FeatureNotSupportedForAccount: "unsupported",
  LocationNotAvailableForResourceType: "invalid",
};

const BY_STATUS: Readonly<Record<number, ErrorCode>> = {
  400: "invalid",
  401: "unauthenticated",
  403: "forbidden",
  404: "not-found",
  408: "unavailable",
  409: "conflict",
  410: "not-found",
  411: "invalid",
  412: "conflict",
  413: "invalid",
  416: "invalid",
  429: "throttled",
  501: "unsupported",
};

/** Codes of Entra ID that pass by themselves. All others mean the credentials have to be looked at. */
const PASSING_SIGN_IN = new Set(["90033", "90006", "90099", "50196"]);

/** The sign-in library's words when it got no answer; it calls that a missing credential and forgets the cause. */
const AUTHORITY_UNREACHABLE = /^(endpoints_resolution_error|network_error|openid_config_error)\b/;

function codeFor({ code, status, message }: Answer): ErrorCode {
  const signIn = signInCode(message);
  if (signIn) return PASSING_SIGN_IN.has(signIn) ? "unavailable" : "unauthenticated";
  if (/^OperationNotAllowed$/.test(code) && /quota|limit/i.test(message)) return "quota";
  if (AUTHORITY_UNREACHABLE.test(message)) return "unavailable";
  const known = BY_CODE[code];
  if (known) return known;
  if (isUntrusted(code)) return "invalid";
  if (/quota|LimitExceeded|MaximumNumberOf/i.test(code)) return "quota";
  if (status === undefined) return isNetworkCode(code) ? "unavailable" : "unknown";
  if (status >= 500 && status !== 501) return code === "ServerBusy" ? "throttled" : "unavailable";
  return BY_STATUS[status] ?? "unknown";
}

/** OpenSSL's words for a server whose certificate is not to be trusted: repeating it helps nobody. */
function isUntrusted(code: string): boolean {
  return /CERT|^UNABLE_TO_|^HOSTNAME_MISMATCH$/.test(code);
}

function isNetworkCode(code: string): boolean {
  return /^(REQUEST_SEND_ERROR|E[A-Z_]{4,}|UND_ERR_\w+|PARSE_ERROR|ABORT_ERR|network_error)$/.test(code);
}

/** `AADSTS7000215: Invalid client secret provided.` → 7000215 */
function signInCode(message: string): string | undefined {
  return /\bAADSTS(\d+)\b/.exec(message)?.[1];
}

function adviceFor(code: ErrorCode, answer: Answer, context: ErrorContext): { subject?: string; next?: string } {
  const application = context.clientId ? `application ${context.clientId}` : "the application";
  switch (code) {
    case "unauthenticated":
      switch (signInCode(answer.message)) {
        case "7000215":
          return {
            subject: "client secret",
            next: `The client secret of ${application} is wrong. Set its value (not its id), or make a new one: az ad app credential reset --id ${context.clientId ?? "ID"}`,
          };
        case "7000222":
          return {
            subject: "client secret",
            next: `The client secret of ${application} has expired. Rotate it: az ad app credential reset --id ${context.clientId ?? "ID"}, then put the new value where the configuration takes it from.`,
          };
        case "90002":
          return {
            subject: "tenant",
            next: "There is no such tenant. Set the directory id: az account show --query tenantId",
          };
        case "700016":
          return { subject: "client id", next: `${application} is not in this tenant. Check client id and tenant id.` };
        default:
          return { next: `Check tenant, client id and secret of ${application}, and this machine's clock.` };
      }
    case "forbidden": {
      if (answer.code === "AuthorizationFailure") {
        return {
          subject: context.subject ?? "storage account network rules",
          next: "Let this machine's address through the storage account's network rules.",
        };
      }
      const action = missingAction(answer.message) ?? context.permission;
      return {
        ...(action ? { subject: action } : {}),
        next: `Grant ${action ?? "the missing permission"} on the resource group to ${application}; "slipway policy print azure" prints the whole role. A new grant takes some minutes.`,
      };
    }
    case "throttled":
      return { next: "Wait; lower in_flight or the number of uploads at one time if it happens often." };
    case "quota":
      return { next: "Remove old versions (slipway lifecycle plan) or ask Azure to raise the limit." };
    case "invalid":
      if (isUntrusted(answer.code)) {
        return { subject: "TLS", next: "Add the authority that signed the server's certificate to the target's ca." };
      }
      return {};
    case "unavailable":
      if (AUTHORITY_UNREACHABLE.test(answer.message)) {
        return {
          subject: "sign-in",
          next: "Check the way to the sign-in service from here: proxy, firewall, and the target's ca if it signs its own certificates.",
        };
      }
      return { next: "Look at https://azure.status.microsoft if it lasts; the step is repeated." };
    default:
      return {};
  }
}

/** Resource Manager names the action in its sentence and nowhere else. */
function missingAction(message: string): string | undefined {
  const linked = /does not have permission to perform action\(s\) '([^']+)'/.exec(message);
  return linked?.[1] ?? /perform action '([^']+)'/.exec(message)?.[1];
}

function read(error: unknown, secrets: readonly string[]): Answer {
  const outer = record(error);
  // A chain of credentials wraps what each of them said.
  const inner = Array.isArray(outer.errors) ? record(outer.errors[0]) : outer;
  const headers = record(record(inner.response).headers);
  const body = record(record(inner.details).error);
  const code =
    text(body.code) ??
    text(inner.code) ??
    header(headers, "x-ms-error-code") ??
    text(record(inner.details).errorCode) ??
    text(record(inner.cause).code) ??
    text(inner.errorCode) ??
    text(inner.name) ??
    "";
  const status = [inner.statusCode, inner.status].map(Number).find((one) => Number.isInteger(one) && one > 0);
  return {
    status,
    code: code === "REQUEST_SEND_ERROR" ? (text(record(inner.cause).code) ?? code) : code,
    message: clean(text(body.message) ?? text(inner.message) ?? "", secrets),
    requestId: header(headers, "x-ms-request-id") ?? text(inner.requestId) ?? text(inner.correlationId) ?? undefined,
  };
}

const MESSAGE_LENGTH = 600;

/** One line, without secrets, of a bearable length: what the other side says is shown to people. */
function clean(message: string, secrets: readonly string[]): string {
  let result = message.replace(/Bearer [\w.~+/=-]+/g, "Bearer …");
  for (const secret of secrets) {
    if (secret) result = result.replaceAll(secret, "…").replaceAll(encodeURIComponent(secret), "…");
  }
  // Blob storage repeats request id and time on lines of their own.
  result = result
    .replace(/\s*(RequestId:|Time:)[^\n]*/g, "")
    .replace(/\s+/g, " ")
    .trim();
  return result.length > MESSAGE_LENGTH ? `${result.slice(0, MESSAGE_LENGTH)}…` : result;
}

function plainCause({ code, status, message }: Answer): Error {
  const cause = new Error(message);
  cause.name = code || "AzureError";
  if (status !== undefined) Object.assign(cause, { status });
  return cause;
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

function text(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

/** The SDKs keep headers in a map of their own or in a plain object. */
function header(headers: Record<string, unknown>, name: string): string | undefined {
  const get = headers.get;
  if (typeof get === "function") return text(get.call(headers, name));
  return text(headers[name]);
}
