/**
 * What AWS's errors mean to Slipway. The only place that reads vendor codes.
 *
 * EC2 speaks `InvalidAMIID.NotFound`, EBS direct `ResourceNotFoundException`, STS `InvalidClientTokenId`; networks have
 * words of their own. Whatever is not in the table is judged by its HTTP status.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
 */
import { type ErrorCode, SlipwayError } from "../../lib/errors.ts";
import type { Region } from "../../model.ts";
import { CloudError } from "../errors.ts";

export interface AwsCall {
  readonly service: "ec2" | "ebs" | "sts" | "s3" | "ssm" | "sns";
  readonly operation: string;
  readonly region: Region;
  /** What it is done to. */
  readonly subject?: string | undefined;
  readonly signal: AbortSignal;
}

const CODES: readonly (readonly [ErrorCode, readonly string[]])[] = [
  ["throttled", ["RequestLimitExceeded", "Throttling", "ThrottlingException", "ThrottledException", "SlowDown"]],
  [
    "throttled",
    [
      "RequestThrottledException",
      "RequestThrottled",
      "TooManyRequestsException",
      "SnapshotCreationPerVolumeRateExceeded",
    ],
  ],
  ["throttled", ["ConcurrentSnapshotLimitExceeded", "ConcurrentLimitExceededException", "BandwidthLimitExceeded"]],
  ["forbidden", ["UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "OperationNotPermitted"]],
  ["unauthenticated", ["AuthFailure", "InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch"]],
  [
    "unauthenticated",
    ["InvalidSignatureException", "IncompleteSignature", "MissingAuthenticationToken", "OptInRequired"],
  ],
  [
    "unauthenticated",
    ["ExpiredToken", "ExpiredTokenException", "RequestExpired", "InvalidToken", "CredentialsProviderError"],
  ],
  ["unauthenticated", ["MissingAuthenticationTokenException", "NotAuthorized", "PendingVerification", "Blocked"]],
  [
    "not-found",
    ["InvalidAMIID.NotFound", "InvalidAMIID.Unavailable", "InvalidSnapshot.NotFound", "ResourceNotFoundException"],
  ],
  ["not-found", ["ParameterNotFound", "ParameterVersionNotFound", "InvalidResourceId", "NotFoundException"]],
  ["already-exists", ["InvalidAMIName.Duplicate", "ParameterAlreadyExists"]],
  // Imports under way end by themselves.
  ["throttled", ["ResourceCountLimitExceeded"]],
  ["not-found", ["NoSuchBucket", "NoSuchKey", "NoSuchUpload", "NotFound"]],
  ["unavailable", ["BadDigest", "IncompleteBody", "OperationAborted"]],
  ["invalid", ["PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"]],
  ["quota", ["ParameterLimitExceeded"]],
  ["forbidden", ["AuthorizationErrorException", "KMSAccessDeniedException"]],
  ["throttled", ["TooManyUpdates", "KMSThrottlingException"]],
  ["conflict", ["HierarchyTypeMismatchException"]],
  ["quota", ["ResourceLimitExceeded", "SnapshotLimitExceeded", "ServiceQuotaExceededException", "TagLimitExceeded"]],
  ["quota", ["AMIQuotaExceeded", "ImageQuotaExceeded", "PublicImageLimitExceeded", "PendingSnapshotLimitExceeded"]],
  ["conflict", ["InvalidSnapshot.InUse", "IncorrectState", "ConflictException", "IdempotentParameterMismatch"]],
  ["unavailable", ["InternalError", "InternalFailure", "InternalServerException", "ServiceUnavailable", "Unavailable"]],
  ["unavailable", ["RequestTimeout", "TimeoutError", "ServerInternal", "InsufficientCapacity"]],
  ["unsupported", ["UnsupportedOperation", "Unsupported", "InvalidAction", "UnknownOperationException"]],
  ["invalid", ["ValidationException", "ValidationError", "InvalidRequest", "MissingParameter", "InvalidParameter"]],
];

const BY_CODE = new Map(CODES.flatMap(([code, names]) => names.map((name) => [name, code] as const)));

const NETWORK =
  /^(E[A-Z]+|UND_ERR_[A-Z_]+|CERT_[A-Z_]+|ERR_TLS_[A-Z_]+|(?:SELF_SIGNED|UNABLE_TO)[A-Z_]*|DEPTH_ZERO[A-Z_]*)$/;

/** The vendor's own facts of an error, wherever its client put them. */
export interface Vendor {
  readonly code: string;
  readonly message: string;
  readonly status: number | undefined;
  readonly requestId: string | undefined;
}

/** An error of the hand-made EBS client before it is translated. */
export class AwsAnswer extends Error {
  readonly vendor: Vendor;
  constructor(vendor: Vendor) {
    super(vendor.message);
    this.name = vendor.code;
    this.vendor = vendor;
  }
}

export function vendorOf(error: unknown): Vendor {
  if (error instanceof AwsAnswer) return error.vendor;
  const fields = (error ?? {}) as {
    name?: string;
    Code?: string;
    code?: string;
    message?: string;
    $metadata?: { httpStatusCode?: number; requestId?: string };
  };
  const named = fields.Code ?? fields.name;
  const code = named && named !== "Error" ? named : (fields.code ?? "");
  return {
    code,
    message: fields.message ?? String(error),
    status: fields.$metadata?.httpStatusCode,
    requestId: fields.$metadata?.requestId,
  };
}

/** Any error as one of ours. Those that are ours already pass. */
export function translate(error: unknown, call: AwsCall): SlipwayError {
  if (error instanceof SlipwayError) return error;
  if (call.signal.aborted) {
    return new SlipwayError("cancelled", `${call.operation} in ${call.region} was stopped.`, { cause: error });
  }
  const vendor = vendorOf(error);
  const code = codeFor(vendor, error);
  const permission = code === "forbidden" ? permissionIn(vendor, call) : undefined;
  const said = vendor.message.replace(/\s*Encoded authorization failure message:.*/s, "").slice(0, 500);
  return new CloudError(code, `${call.operation} in ${call.region} failed: ${vendor.code || "error"}: ${said}`, {
    cloud: "aws",
    operation: call.operation,
    region: call.region,
    requestId: vendor.requestId,
    subject: call.subject ?? permission,
    next: nextFor(code, permission),
    cause: error,
  });
}

/** What each service calls temporary credentials that have come to their end; EC2 says the same of a wrong clock. */
const EXPIRED = new Set(["ExpiredToken", "ExpiredTokenException", "RequestExpired"]);

/** Whether the credentials of a call, translated or not, have come to their end. */
export function hasExpired(error: unknown): boolean {
  return EXPIRED.has(vendorOf(error instanceof SlipwayError ? error.cause : error).code);
}

/** A call that was not answered to the end in time. */
export function tooLate(call: AwsCall, ms: number): CloudError {
  return new CloudError("unavailable", `${call.operation} in ${call.region} was not answered in time.`, {
    cloud: "aws",
    operation: call.operation,
    region: call.region,
    subject: call.subject,
    tried: `waited for ${ms / 1000} s`,
    next: nextFor("unavailable", undefined),
  });
}

function codeFor(vendor: Vendor, error: unknown): ErrorCode {
  const known = BY_CODE.get(vendor.code);
  if (known) return known;
  // Families that share a beginning or an end: InvalidSnapshotID.Malformed, MaxImagesLimitExceeded.
  if (/\.NotFound$/.test(vendor.code)) return "not-found";
  if (/LimitExceeded$|QuotaExceeded$/.test(vendor.code)) return "quota";
  if (/^Invalid|\.Malformed$|^Missing|^Malformed/.test(vendor.code)) return "invalid";
  if (isNetwork(vendor, error)) return "unavailable";
  const { status } = vendor;
  if (status === undefined) return "unknown";
  if (status === 429) return "throttled";
  if (status >= 500) return status === 501 ? "unsupported" : "unavailable";
  if (status === 401) return "unauthenticated";
  if (status === 403) return "forbidden";
  if (status === 404) return "not-found";
  return status >= 400 ? "invalid" : "unknown";
}

function isNetwork(vendor: Vendor, error: unknown): boolean {
  const { code, cause } = (error ?? {}) as { code?: string; cause?: { code?: string } };
  return [code, cause?.code, vendor.code].some((one) => typeof one === "string" && NETWORK.test(one));
}

/** AWS names the missing permission in most messages; otherwise it is the call's own. */
function permissionIn(vendor: Vendor, call: AwsCall): string {
  const named = /not authorized to perform: ([a-z0-9-]+:[A-Za-z]+)/.exec(vendor.message)?.[1];
  return named ?? `${call.service}:${call.operation}`;
}

function nextFor(code: ErrorCode, permission: string | undefined): string | undefined {
  switch (code) {
    case "forbidden":
      return `Allow ${permission} in the policy of these credentials, or see whether an account setting blocks it.`;
    case "unauthenticated":
      return "Check the access key, and that it has not expired; that the region is enabled for the account; and this host's clock.";
    case "quota":
      return "Raise the limit in Service Quotas, or remove images that are no longer needed. Waiting does not help.";
    case "throttled":
      return "It is tried again more slowly.";
    case "unavailable":
      return "It is tried again. See https://health.aws.amazon.com if it lasts.";
    default:
      return undefined;
  }
}
