/** The blob service's refusals: XML, with the code again in a header, and the request id in the sentence. */
import type { Answer, Exchange } from "./exchange.ts";
import { element, textElement, xmlDocument } from "./xml.ts";

export class StorageError extends Error {
  readonly status: number;
  readonly code: string;
  readonly details: Readonly<Record<string, string>>;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: number,
    code: string,
    message: string,
    details: Record<string, string> = {},
    headers: Record<string, string> = {},
  ) {
    super(message);
    this.status = status;
    this.code = code;
    this.details = details;
    this.headers = headers;
  }
}

/** Codes and sentences that are used in more than one place. */
export const refusals = {
  headerValue: (name: string, value: string | undefined) =>
    new StorageError(400, "InvalidHeaderValue", "The value for one of the HTTP headers is not in the correct format.", {
      HeaderName: name,
      HeaderValue: value ?? "",
    }),
  missingHeader: (name: string) =>
    new StorageError(
      400,
      "MissingRequiredHeader",
      "An HTTP header that's mandatory for this request is not specified.",
      {
        HeaderName: name,
      },
    ),
  queryValue: (name: string, value: string) =>
    new StorageError(
      400,
      "InvalidQueryParameterValue",
      "Value for one of the query parameters specified in the request URI is invalid.",
      { QueryParameterName: name, QueryParameterValue: value },
    ),
  containerMissing: () => new StorageError(404, "ContainerNotFound", "The specified container does not exist."),
  blobMissing: () => new StorageError(404, "BlobNotFound", "The specified blob does not exist."),
  conditionNotMet: () =>
    new StorageError(412, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met."),
  notModified: () =>
    new StorageError(304, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met."),
  pageRange: () => new StorageError(416, "InvalidPageRange", "The page range specified is invalid."),
  range: (bytes: number) =>
    new StorageError(
      416,
      "InvalidRange",
      "The range specified is invalid for the current size of the resource.",
      {},
      { "content-range": `bytes */${bytes}` },
    ),
  tooLarge: (limit: number) =>
    new StorageError(
      413,
      "RequestBodyTooLarge",
      "The request body is too large and exceeds the maximum permissible limit.",
      {
        MaxLimit: String(limit),
      },
    ),
  unknownOperation: (operation: string) =>
    new StorageError(501, "NotImplemented", `The simulated blob service has no operation "${operation}".`),
};

export function storageErrorAnswer(error: StorageError, exchange: Exchange): Answer {
  const time = new Date(exchange.now).toISOString();
  const message = `${error.message}\nRequestId:${exchange.requestId}\nTime:${time}`;
  const details = Object.entries(error.details).map(([name, value]) => textElement(name, value));
  const body = xmlDocument(
    element("Error", textElement("Code", error.code), textElement("Message", message), ...details),
  );
  const bare = exchange.method === "HEAD" || error.status === 304;
  return {
    status: error.status,
    headers: {
      "x-ms-error-code": error.code,
      ...(bare ? {} : { "content-type": "application/xml" }),
      ...error.headers,
    },
    ...(bare ? {} : { body }),
  };
}
