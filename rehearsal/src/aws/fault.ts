import type { ServerResponse } from "node:http";
import { element, type XmlValue } from "./xml.ts";

/** The services this account has. `unknown` answers for every other one that a signature names. */
export type AwsService = "ec2" | "ebs" | "sts" | "s3" | "ssm" | "sns";

/** A refusal in AWS's own words: the code, the HTTP status and the sentence a real account would have answered with. */
export class AwsFault extends Error {
  readonly code: string;
  readonly status: number;
  /** EBS direct only: the finer `Reason` of its exceptions. */
  readonly reason: string | undefined;
  /** What the answer carries beside its body. */
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    code: string,
    message: string,
    status = 400,
    reason?: string,
    headers: Readonly<Record<string, string>> = {},
  ) {
    super(message);
    this.name = "AwsFault";
    this.code = code;
    this.status = status;
    this.reason = reason;
    this.headers = headers;
  }
}

/** What nobody taught the simulator is refused by name, so that a client leaving the known path is noticed. */
export function unknownOperation(service: string, operation: string): AwsFault {
  return new AwsFault("NotImplemented", `The rehearsal does not know ${service}:${operation}.`, 501);
}

/** Writes a fault as the service's protocol shapes it. */
export function answerFault(
  response: ServerResponse,
  service: AwsService | undefined,
  fault: AwsFault,
  requestId: string,
): void {
  if (service === "ebs") {
    const body: Record<string, string> = { Message: fault.message };
    if (fault.reason !== undefined) body.Reason = fault.reason;
    answer(response, fault.status, "application/json", JSON.stringify(body), {
      "x-amzn-errortype": fault.code,
      "x-amzn-requestid": requestId,
    });
    return;
  }
  if (service === "ssm") {
    const body = { __type: fault.code, message: fault.message };
    answer(response, fault.status, JSON_1_1, JSON.stringify(body), { "x-amzn-requestid": requestId });
    return;
  }
  answer(response, fault.status, "text/xml;charset=UTF-8", faultXml(service, fault, requestId), {
    ...fault.headers,
    [service === "s3" ? "x-amz-request-id" : "x-amzn-requestid"]: requestId,
  });
}

function faultXml(service: AwsService | undefined, fault: AwsFault, requestId: string): string {
  const error: XmlValue = { Code: fault.code, Message: fault.message };
  if (service === "s3") return element("Error", { ...error, RequestId: requestId });
  if (service === "sts" || service === "sns") {
    const Type = fault.status >= 500 ? "Receiver" : "Sender";
    const namespace = service === "sts" ? STS_NAMESPACE : SNS_NAMESPACE;
    return element("ErrorResponse", { Error: { Type, ...error }, RequestId: requestId }, namespace);
  }
  return element("Response", { Errors: { Error: error }, RequestID: requestId });
}

export const STS_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/";
export const SNS_NAMESPACE = "http://sns.amazonaws.com/doc/2010-03-31/";
export const JSON_1_1 = "application/x-amz-json-1.1";
export const EC2_NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/";

export function answer(
  response: ServerResponse,
  status: number,
  contentType: string,
  body: string | Buffer,
  headers: Record<string, string> = {},
): void {
  if (response.destroyed || response.headersSent) return;
  response.writeHead(status, { "content-type": contentType, "content-length": Buffer.byteLength(body), ...headers });
  response.end(body);
}
