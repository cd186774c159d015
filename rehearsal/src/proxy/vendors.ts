/**
 * What the proxy has to know about vendors: how to read from a request which call it is, and how each says no.
 *
 * Nothing here knows a simulator; the same words are used in front of any other emulator or a real account.
 */
import type http from "node:http";
import { AwsFault, type AwsService, answer, answerFault } from "../aws/fault.ts";
import { readClaim, refusal } from "../aws/signature.ts";
import { readBody } from "../body.ts";

/** What the proxy sees of a request. */
export interface Seen {
  readonly service: string;
  readonly operation: string;
  readonly region: string;
  readonly caller: string;
  /** What proves who is calling: a key with its token, a bearer's token. Empty if there is nothing. */
  readonly credential: string;
}

export interface Vendor {
  readonly cloud: string;
  /** May read the body of small forms; whoever answers gets it through `readBody` all the same. */
  see(request: http.IncomingMessage): Seen | Promise<Seen>;
  /** Too fast. */
  throttle(response: http.ServerResponse, seen: Seen): void;
  /** A failure on the vendor's side. */
  fail(response: http.ServerResponse, seen: Seen, status: number): void;
  /** No more of these for this account. */
  exhaust(response: http.ServerResponse, seen: Seen): void;
  /** The credentials were good once. Absent: what is behind the proxy says so itself to whoever shows none. */
  expire?(response: http.ServerResponse, seen: Seen): void;
}

/** Largest form the proxy looks into for its Action. */
const MAX_FORM_BYTES = 1024 * 1024;

const EBS_CALLS: readonly [string, RegExp, string][] = [
  ["PUT", /^\/snapshots\/[^/]+\/blocks\/[^/]+$/, "PutSnapshotBlock"],
  ["GET", /^\/snapshots\/[^/]+\/blocks\/[^/]+$/, "GetSnapshotBlock"],
  ["GET", /^\/snapshots\/[^/]+\/blocks$/, "ListSnapshotBlocks"],
  ["GET", /^\/snapshots\/[^/]+\/changedblocks$/, "ListChangedBlocks"],
  ["POST", /^\/snapshots\/completion\/[^/]+$/, "CompleteSnapshot"],
  ["POST", /^\/snapshots$/, "StartSnapshot"],
];

const aws: Vendor = {
  cloud: "aws",
  async see(request) {
    const claim = readClaim(request);
    const service = claim?.service ?? "";
    const method = request.method ?? "";
    let operation = `${method} ${pathOf(request)}`;
    if (service === "ebs") {
      operation = EBS_CALLS.find(([verb, path]) => verb === method && path.test(pathOf(request)))?.[2] ?? operation;
    } else if (service === "ssm") {
      operation = String(request.headers["x-amz-target"] ?? "").split(".")[1] ?? operation;
    } else if (String(request.headers["content-type"] ?? "").startsWith("application/x-www-form-urlencoded")) {
      const form = new URLSearchParams((await readBody(request, MAX_FORM_BYTES)).toString("utf8"));
      operation = form.get("Action") ?? operation;
    }
    const caller = claim?.accessKeyId ?? "";
    const credential = claim === undefined ? "" : `${caller} ${request.headers["x-amz-security-token"] ?? ""}`;
    return { service, operation, region: claim?.region ?? "", caller, credential };
  },
  throttle(response, seen) {
    const faults: Record<string, AwsFault> = {
      ec2: new AwsFault("RequestLimitExceeded", "Request limit exceeded.", 503),
      ebs: new AwsFault(
        "RequestThrottledException",
        "The number of API requests has exceeded the maximum allowed API request throttling limit for the account.",
        400,
        "ACCOUNT_THROTTLED",
      ),
      s3: new AwsFault("SlowDown", "Please reduce your request rate.", 503),
      ssm: new AwsFault("ThrottlingException", "Rate exceeded", 400),
    };
    refuse(response, seen, faults[seen.service] ?? new AwsFault("Throttling", "Rate exceeded", 400));
  },
  fail(response, seen, status) {
    const code = seen.service === "ebs" ? "InternalServerException" : status === 503 ? "Unavailable" : "InternalError";
    refuse(response, seen, new AwsFault(code, "An internal error has occurred.", status));
  },
  exhaust(response, seen) {
    const said = "You have reached a quota of your account in this Region.";
    if (seen.service === "ebs") {
      const reason = "RESOURCE_QUOTA_EXCEEDED" as const;
      return refuse(response, seen, new AwsFault("ServiceQuotaExceededException", said, 402, reason));
    }
    const code = seen.service === "s3" ? "TooManyBuckets" : "ResourceLimitExceeded";
    refuse(response, seen, new AwsFault(code, said, 400));
  },
  expire(response, seen) {
    const service = seen.service === "ebs" || seen.service === "sts" || seen.service === "s3" ? seen.service : "ec2";
    refuse(response, seen, refusal(service, "expired-token"));
  },
};

function refuse(response: http.ServerResponse, seen: Seen, fault: AwsFault): void {
  answerFault(response, seen.service as AwsService, fault, "00000000-0000-4000-8000-000000000000");
}

/** Page blob calls by their `comp`, as the vendor's reference names them. */
const BLOB_CALLS: Readonly<Record<string, string>> = {
  "PUT page": "Put Page",
  "GET pagelist": "Get Page Ranges",
  "PUT metadata": "Set Blob Metadata",
  "PUT properties": "Set Blob Properties",
  "PUT lease": "Lease Blob",
  "GET list": "List Blobs",
  "PUT ": "Put Blob",
  "GET ": "Get Blob",
  "HEAD ": "Get Blob Properties",
  "DELETE ": "Delete Blob",
};

const azure: Vendor = {
  cloud: "azure",
  see(request) {
    const url = new URL(request.url ?? "/", "http://localhost");
    const method = request.method ?? "";
    const rest = { region: "", caller: "", credential: bearer(request) };
    if (/^\/subscriptions\//i.test(url.pathname)) {
      return { service: "management", operation: `${method} ${resourceType(url.pathname)}`, ...rest };
    }
    if (/\/oauth2\/|\/\.well-known\/|\/discovery\//.test(url.pathname)) {
      return { service: "authority", operation: `${method} token`, ...rest };
    }
    const comp = url.searchParams.get("comp") ?? "";
    return { service: "blob", operation: BLOB_CALLS[`${method} ${comp}`] ?? `${method} ${comp}`, ...rest };
  },
  throttle(response, seen) {
    if (seen.service === "blob") azureBlobFault(response, 503, "ServerBusy", "The server is busy.");
    else azureArmFault(response, 429, "TooManyRequests", "The request is being throttled.");
  },
  fail(response, seen, status) {
    if (seen.service === "blob")
      azureBlobFault(response, status, "InternalError", "Server encountered an internal error.");
    else azureArmFault(response, status, "InternalServerError", "An internal execution error occurred.");
  },
  exhaust(response, seen) {
    const said = "The maximum number of resources in this subscription and region has been reached.";
    if (seen.service === "blob") azureBlobFault(response, 409, "AccountLimitExceeded", said);
    else azureArmFault(response, 409, "QuotaExceeded", said);
  },
  expire(response, seen) {
    const said = "The access token expiry UTC time is earlier than current UTC time.";
    if (seen.service !== "blob") return azureArmFault(response, 401, "ExpiredAuthenticationToken", said);
    const failed = "Server failed to authenticate the request. Lifetime validation failed. The token is expired.";
    azureBlobFault(response, 401, "InvalidAuthenticationInfo", failed);
  },
};

function bearer(request: http.IncomingMessage): string {
  return /^Bearer (\S+)$/i.exec(request.headers.authorization ?? "")?.[1] ?? "";
}

/** `galleries/images/versions` of a resource's path: its types, without its names. */
function resourceType(path: string): string {
  const rest = path.split(/\/providers\/[^/]+\//i).at(-1) ?? "";
  return rest
    .replace(/^\//, "")
    .split("/")
    .filter((_part, index) => index % 2 === 0)
    .join("/");
}

function azureBlobFault(response: http.ServerResponse, status: number, code: string, message: string): void {
  const body = `<?xml version="1.0" encoding="utf-8"?><Error><Code>${code}</Code><Message>${message}</Message></Error>`;
  answer(response, status, "application/xml", body, { "x-ms-error-code": code, "x-ms-version": "2025-01-05" });
}

function azureArmFault(response: http.ServerResponse, status: number, code: string, message: string): void {
  const headers = status === 429 ? { "retry-after": "1" } : undefined;
  answer(response, status, "application/json; charset=utf-8", JSON.stringify({ error: { code, message } }), headers);
}

/** Calls of Cloud Storage and Compute Engine by method and path, as the vendor's references name them. */
const GCP_CALLS: readonly [string, RegExp, string, string][] = [
  ["POST", /^\/token$/, "token", "token"],
  ["POST", /^\/(resumable\/)?upload\/storage\//, "storage", "objects.insert"],
  ["PUT", /^\/(resumable\/)?upload\/storage\//, "storage", "objects.insert"],
  ["POST", /^\/storage\/.*\/compose$/, "storage", "objects.compose"],
  ["POST", /^\/storage\/.*\/rewriteTo\//, "storage", "objects.rewrite"],
  ["GET", /^\/storage\/v1\/b\/[^/]+\/o$/, "storage", "objects.list"],
  ["GET", /^\/storage\/v1\/b\/[^/]+\/o\/[^/]+$/, "storage", "objects.get"],
  ["GET", /^\/download\/storage\//, "storage", "objects.get"],
  ["DELETE", /^\/storage\/v1\/b\/[^/]+\/o\/[^/]+$/, "storage", "objects.delete"],
  ["GET", /^\/storage\/v1\/b\/[^/]+$/, "storage", "buckets.get"],
  ["GET", /\/global\/operations\//, "compute", "globalOperations.get"],
  ["GET", /\/global\/images$/, "compute", "images.list"],
  ["POST", /\/global\/images$/, "compute", "images.insert"],
  ["GET", /\/global\/images\/[^/]+$/, "compute", "images.get"],
  ["PATCH", /\/global\/images\/[^/]+$/, "compute", "images.patch"],
  ["DELETE", /\/global\/images\/[^/]+$/, "compute", "images.delete"],
  ["POST", /\/global\/images\/[^/]+\/deprecate$/, "compute", "images.deprecate"],
  ["GET", /\/global\/images\/[^/]+\/getIamPolicy$/, "compute", "images.getIamPolicy"],
  ["POST", /\/global\/images\/[^/]+\/setIamPolicy$/, "compute", "images.setIamPolicy"],
];

const gcp: Vendor = {
  cloud: "gcp",
  see(request) {
    const path = pathOf(request);
    const known = GCP_CALLS.find(([method, pattern]) => method === request.method && pattern.test(path));
    const [, , service = "", operation = `${request.method} ${path}`] = known ?? [];
    return { service, operation, region: "", caller: "", credential: bearer(request) };
  },
  throttle: (response) => gcpFault(response, 429, "rateLimitExceeded", "The rate of requests is too high."),
  fail: (response, _seen, status) => gcpFault(response, status, "backendError", "Backend Error"),
  exhaust: (response) => gcpFault(response, 403, "quotaExceeded", "Quota exceeded for this project."),
  expire: (response) => gcpFault(response, 401, "authError", "Invalid Credentials"),
};

function gcpFault(response: http.ServerResponse, status: number, reason: string, message: string): void {
  const error = { code: status, message, errors: [{ domain: "global", reason, message }] };
  answer(response, status, "application/json; charset=UTF-8", JSON.stringify({ error }));
}

const registry: Vendor = {
  cloud: "registry",
  see(request) {
    const path = pathOf(request);
    const thing = /\/blobs\/uploads\//.test(path)
      ? "upload"
      : (/\/(blobs|manifests|referrers|tags)\//.exec(path)?.[1]?.replace(/s$/, "") ?? "other");
    return {
      service: "registry",
      operation: `${request.method} ${thing}`,
      region: "",
      caller: "",
      credential: bearer(request),
    };
  },
  throttle(response) {
    registryFault(response, 429, "TOOMANYREQUESTS", "too many requests");
  },
  fail(response, _seen, status) {
    registryFault(response, status, "UNAVAILABLE", "the service is not available");
  },
  // Quay, Harbor and Docker Hub each have words of their own; "denied" is what they share.
  exhaust(response) {
    registryFault(response, 403, "DENIED", "the quota of this namespace is exceeded");
  },
};

function registryFault(response: http.ServerResponse, status: number, code: string, message: string): void {
  const body = JSON.stringify({ errors: [{ code, message, detail: null }] });
  answer(response, status, "application/json", body, status === 429 ? { "retry-after": "1" } : undefined);
}

/** Any other server: web servers with composes, a queue's management interface. */
const plain: Vendor = {
  cloud: "plain",
  see: (request) => ({
    ...{ service: "", operation: `${request.method} ${pathOf(request)}`, region: "", caller: "" },
    credential: request.headers.authorization ?? "",
  }),
  throttle: (response) => answer(response, 429, "text/plain", "Too Many Requests\n", { "retry-after": "1" }),
  fail: (response, _seen, status) => answer(response, status, "text/plain", `Status ${status}\n`),
  exhaust: (response) => answer(response, 507, "text/plain", "Insufficient Storage\n"),
  expire: (response) => answer(response, 401, "text/plain", "Unauthorized\n"),
};

export const VENDORS = { aws, azure, gcp, registry, plain } as const;

function pathOf(request: http.IncomingMessage): string {
  return (request.url ?? "/").split("?", 1)[0] ?? "/";
}
