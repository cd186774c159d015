import { type ErrorCode, type ErrorDetails, SlipwayError } from "../lib/errors.ts";
import type { CloudName, Region } from "../model.ts";

/** Where in a cloud it happened. The request id is what the vendor's support asks for. */
export interface CloudErrorDetails extends ErrorDetails {
  cloud: CloudName;
  /** The vendor's name of the call: `RegisterImage`, `Put Page`. */
  operation: string;
  region?: Region | undefined;
  requestId?: string | undefined;
}

/** What a driver throws. Each driver translates its SDK's errors in one place, `<cloud>/errors.ts`. */
export class CloudError extends SlipwayError {
  readonly cloud: CloudName;
  readonly operation: string;
  readonly region: Region | undefined;
  readonly requestId: string | undefined;

  constructor(code: ErrorCode, message: string, details: CloudErrorDetails) {
    super(code, message, details);
    this.name = "CloudError";
    this.cloud = details.cloud;
    this.operation = details.operation;
    this.region = details.region;
    this.requestId = details.requestId;
  }
}
