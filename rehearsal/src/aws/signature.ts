/**
 * Signature Version 4, checked: who asks, in which region, of which service, and that nothing was changed on the way.
 *
 * The signature is verified for real, so that a wrong secret, a forgotten header or a body that changed after signing
 * is found out here and not on the first day with a real account.
 * @see https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
 */
import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import type http from "node:http";
import type { Accounts, Caller } from "./accounts.ts";
import { AwsFault, type AwsService } from "./fault.ts";

/** What the Authorization header claims. Nothing in it is proved. */
export interface Claim {
  readonly accessKeyId: string;
  readonly date: string;
  readonly region: string;
  readonly service: string;
  readonly signedHeaders: readonly string[];
  readonly signature: string;
}

const AUTHORIZATION =
  /^AWS4-HMAC-SHA256 Credential=([A-Z0-9]{4,128})\/(\d{8})\/([a-z0-9-]{1,40})\/([a-z0-9-]{1,40})\/aws4_request, ?SignedHeaders=([a-z0-9;-]{1,4096}), ?Signature=([0-9a-f]{64})$/;

export function readClaim(request: http.IncomingMessage): Claim | undefined {
  const match = AUTHORIZATION.exec(request.headers.authorization ?? "");
  if (match === null) return undefined;
  const [, accessKeyId = "", date = "", region = "", service = "", headers = "", signature = ""] = match;
  return { accessKeyId, date, region, service, signedHeaders: headers.split(";"), signature };
}

/** AWS accepts a clock that is this far off. */
const MAX_SKEW_MS = 15 * 60_000;

/**
 * @param bodySha256 hex of SHA-256 of the body as it arrived
 * @throws AwsFault in the words of the service
 */
export function verify(
  request: http.IncomingMessage,
  claim: Claim,
  bodySha256: () => string,
  accounts: Accounts,
): Caller {
  const service = claim.service as AwsService;
  const key = accounts.find(claim.accessKeyId);
  if (key === undefined) throw refusal(service, "unknown-key");
  if (key.sessionToken !== undefined && request.headers["x-amz-security-token"] !== key.sessionToken) {
    throw refusal(service, "unknown-key");
  }
  if (key.expiresAt !== undefined && key.expiresAt <= Date.now()) throw refusal(service, "expired-token");

  const stamp = String(request.headers["x-amz-date"] ?? "");
  const time = Date.parse(stamp.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, "$1-$2-$3T$4:$5:$6Z"));
  if (!(Math.abs(time - Date.now()) <= MAX_SKEW_MS) || !stamp.startsWith(claim.date)) throw refusal(service, "skew");

  const unsigned = Object.keys(request.headers).filter(
    (name) => (name === "host" || name.startsWith("x-amz-")) && !claim.signedHeaders.includes(name),
  );
  if (unsigned.length > 0) throw refusal(service, "mismatch", `Headers not signed: ${unsigned.join(", ")}.`);

  const signing = signingKey(key.secretAccessKey, claim);
  const matches = payloadHashes(request, service, bodySha256).some((hash) => {
    const scope = `${claim.date}/${claim.region}/${claim.service}/aws4_request`;
    const toSign = `AWS4-HMAC-SHA256\n${stamp}\n${scope}\n${sha256(canonicalRequest(request, claim, hash))}`;
    const expected = createHmac("sha256", signing).update(toSign).digest();
    return timingSafeEqual(expected, Buffer.from(claim.signature, "hex"));
  });
  if (!matches) throw refusal(service, "mismatch");
  const { account, arn, userId, deny = [], memberOf = [], partition = "aws" } = key;
  return { account, arn, userId, region: claim.region, deny, memberOf, partition };
}

/**
 * What the payload's place in the signed text may hold. An announced hash has to be the body's; only PutSnapshotBlock's
 * data is outside the signature, and a checksum header inside it says what the data must be.
 */
function payloadHashes(request: http.IncomingMessage, service: AwsService, bodySha256: () => string): string[] {
  const announced = request.headers["x-amz-content-sha256"];
  const block = service === "ebs" && request.method === "PUT";
  if (typeof announced === "string") {
    const trusted = block || (service === "s3" && S3_UNSIGNED.includes(announced));
    if (!trusted && announced !== bodySha256()) throw refusal(service, "payload");
    return [announced];
  }
  return block ? [UNSIGNED, bodySha256()] : [bodySha256()];
}

const UNSIGNED = "UNSIGNED-PAYLOAD";
const S3_UNSIGNED = [UNSIGNED, "STREAMING-UNSIGNED-PAYLOAD-TRAILER"];

function canonicalRequest(request: http.IncomingMessage, claim: Claim, payloadHash: string): string {
  const [path = "/", query = ""] = splitOnce(request.url ?? "/", "?");
  const headers = claim.signedHeaders.map((name) => `${name}:${headerText(request, name)}\n`).join("");
  // Every service but S3 signs the path encoded once more than it is sent.
  const canonicalPath = claim.service === "s3" ? path : path.split("/").map(encode).join("/");
  return [
    request.method,
    canonicalPath,
    canonicalQuery(query),
    headers,
    claim.signedHeaders.join(";"),
    payloadHash,
  ].join("\n");
}

function headerText(request: http.IncomingMessage, name: string): string {
  const value = request.headers[name];
  return (Array.isArray(value) ? value.join(",") : (value ?? "")).trim().replace(/ +/g, " ");
}

function canonicalQuery(query: string): string {
  if (query === "") return "";
  return query
    .split("&")
    .map((pair) => splitOnce(pair, "=").map((part) => encode(decodeURIComponent(part ?? ""))) as [string, string])
    .sort(([a, x], [b, y]) => (a === b ? compare(x, y) : compare(a, b)))
    .map(([name, value]) => `${name}=${value ?? ""}`)
    .join("&");
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function splitOnce(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}

function encode(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/** Signing keys by secret and scope: the four HMACs are worth doing once a day, not once a block. */
const signingKeys = new Map<string, Buffer>();

function signingKey(secret: string, claim: Claim): Buffer {
  const id = [secret, claim.date, claim.region, claim.service].join("\n");
  const known = signingKeys.get(id);
  if (known !== undefined) return known;
  let key = Buffer.from(`AWS4${secret}`);
  for (const part of [claim.date, claim.region, claim.service, "aws4_request"]) {
    key = createHmac("sha256", key).update(part).digest();
  }
  if (signingKeys.size > 1000) signingKeys.clear();
  signingKeys.set(id, key);
  return key;
}

type Refusal = "missing" | "unknown-key" | "mismatch" | "expired-token" | "skew" | "payload";

const MISMATCH =
  "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.";
const INVALID_TOKEN = "The security token included in the request is invalid.";
const EXPIRED_TOKEN = "The security token included in the request is expired";
const SKEWED = "Signature expired or not yet current: the date of the request is too far from the time here.";

type Refusals = Record<Refusal, readonly [string, string, number]>;

const JSON_REFUSALS: Refusals = {
  missing: ["MissingAuthenticationTokenException", "Missing Authentication Token", 403],
  "unknown-key": ["UnrecognizedClientException", INVALID_TOKEN, 403],
  mismatch: ["InvalidSignatureException", MISMATCH, 403],
  "expired-token": ["ExpiredTokenException", EXPIRED_TOKEN, 403],
  skew: ["InvalidSignatureException", SKEWED, 403],
  payload: ["InvalidSignatureException", MISMATCH, 403],
};

const QUERY_REFUSALS: Refusals = {
  missing: ["MissingAuthenticationToken", "Request is missing Authentication Token", 403],
  "unknown-key": ["InvalidClientTokenId", INVALID_TOKEN, 403],
  mismatch: ["SignatureDoesNotMatch", MISMATCH, 403],
  "expired-token": ["ExpiredToken", EXPIRED_TOKEN, 403],
  skew: ["SignatureDoesNotMatch", SKEWED, 403],
  payload: ["SignatureDoesNotMatch", MISMATCH, 403],
};

/** One refusal has a different name in every service; these are the names their users see. */
const REFUSALS: Record<AwsService, Refusals> = {
  ec2: {
    missing: ["AuthFailure", "AWS was not able to validate the provided access credentials", 401],
    "unknown-key": ["AuthFailure", "AWS was not able to validate the provided access credentials", 401],
    mismatch: ["SignatureDoesNotMatch", MISMATCH, 403],
    "expired-token": ["RequestExpired", "Request has expired.", 400],
    skew: ["RequestExpired", "Request has expired.", 400],
    payload: ["SignatureDoesNotMatch", MISMATCH, 403],
  },
  ebs: JSON_REFUSALS,
  sts: QUERY_REFUSALS,
  s3: {
    missing: ["AccessDenied", "Access Denied", 403],
    "unknown-key": ["InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.", 403],
    mismatch: ["SignatureDoesNotMatch", MISMATCH, 403],
    "expired-token": ["ExpiredToken", "The provided token has expired.", 400],
    skew: ["RequestTimeTooSkewed", "The difference between the request time and the current time is too large.", 403],
    payload: [
      "XAmzContentSHA256Mismatch",
      "The provided 'x-amz-content-sha256' header does not match what was computed.",
      400,
    ],
  },
  ssm: JSON_REFUSALS,
  sns: QUERY_REFUSALS,
};

export function refusal(service: AwsService, why: Refusal, detail = ""): AwsFault {
  const [code, message, status] = REFUSALS[service][why];
  return new AwsFault(code, `${message} ${detail}`.trim(), status);
}
