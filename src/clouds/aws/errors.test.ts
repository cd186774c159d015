import { expect, test } from "vitest";
import { quietCall } from "../../lib/call.ts";
import { CloudError } from "../errors.ts";
import { AwsAnswer, translate } from "./errors.ts";

const call = { service: "ec2", operation: "RegisterImage", region: "eu-west-1", signal: quietCall().signal } as const;

const cases = [
  { vendor: "RequestLimitExceeded", status: 503, code: "throttled" },
  { vendor: "ThrottlingException", status: 400, code: "throttled" },
  { vendor: "RequestThrottledException", status: 400, code: "throttled" },
  { vendor: "UnauthorizedOperation", status: 403, code: "forbidden" },
  { vendor: "AccessDeniedException", status: 403, code: "forbidden" },
  { vendor: "AuthFailure", status: 401, code: "unauthenticated" },
  { vendor: "ExpiredToken", status: 403, code: "unauthenticated" },
  { vendor: "SignatureDoesNotMatch", status: 403, code: "unauthenticated" },
  { vendor: "InvalidAMIID.NotFound", status: 400, code: "not-found" },
  { vendor: "InvalidSnapshot.NotFound", status: 400, code: "not-found" },
  { vendor: "ResourceNotFoundException", status: 404, code: "not-found" },
  { vendor: "InvalidAMIName.Duplicate", status: 400, code: "already-exists" },
  { vendor: "ServiceQuotaExceededException", status: 402, code: "quota" },
  { vendor: "InvalidSnapshot.InUse", status: 400, code: "conflict" },
  { vendor: "ConflictException", status: 409, code: "conflict" },
  { vendor: "InvalidAMIName.Malformed", status: 400, code: "invalid" },
  { vendor: "ValidationException", status: 400, code: "invalid" },
  { vendor: "NotImplemented", status: 501, code: "unsupported" },
  { vendor: "", status: 429, code: "throttled" },
  { vendor: "", status: 502, code: "unavailable" },
  { vendor: "NeverHeardOf", status: 400, code: "invalid" },
];

test.each(cases)("$vendor with status $status is $code", ({ vendor, status, code }) => {
  const error = translate(new AwsAnswer({ code: vendor, message: "said so", status, requestId: "r-1" }), call);
  expect(error).toMatchObject({
    code,
    cloud: "aws",
    operation: "RegisterImage",
    region: "eu-west-1",
    requestId: "r-1",
  });
});

test.each(["ECONNREFUSED", "ECONNRESET", "UND_ERR_HEADERS_TIMEOUT", "UND_ERR_CONNECT_TIMEOUT", "ENOTFOUND"])(
  "%s is unavailable",
  (code) => {
    expect(translate(Object.assign(new Error("net"), { code }), call).code).toBe("unavailable");
  },
);

test("the missing permission is named, and the encoded part of the message left out", () => {
  const message =
    "You are not authorized to perform this operation. User: arn:aws:iam::1:user/x is not authorized to perform: ec2:CreateTags on resource: arn. Encoded authorization failure message: AAAA";
  const error = translate(
    new AwsAnswer({ code: "UnauthorizedOperation", message, status: 403, requestId: undefined }),
    call,
  );
  expect(error.next).toContain("ec2:CreateTags");
  expect(error.message).not.toContain("AAAA");
});

test("after the caller's own abort whatever comes is cancelled", () => {
  const signal = AbortSignal.abort();
  expect(translate(new Error("socket hang up"), { ...call, signal }).code).toBe("cancelled");
});

test("our own errors pass as they are", () => {
  const ours = new CloudError("quota", "full", { cloud: "aws", operation: "x" });
  expect(translate(ours, call)).toBe(ours);
});
