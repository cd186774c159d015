import { type ErrorReport, reportOf, SlipwayError } from "../lib/errors.ts";
import type { Json } from "../model.ts";
import { isChildCancelled } from "./dbos.ts";

/** An error that was stored and comes back: all its fields, whichever process they were written by. */
export class StoredError extends SlipwayError {
  readonly cloud: string | undefined;
  readonly operation: string | undefined;
  readonly region: string | undefined;
  readonly requestId: string | undefined;

  constructor(report: ErrorReport) {
    super(report.code, report.message, { subject: report.subject, tried: report.tried, next: report.next });
    this.cloud = report.cloud;
    this.operation = report.operation;
    this.region = report.region;
    this.requestId = report.requestId;
  }
}

/** How a failed run is handed to DBOS and read back: its serializer keeps enumerable properties of errors. */
export class RunFailure extends Error {
  readonly report: ErrorReport;

  constructor(report: ErrorReport) {
    super(report.message);
    this.name = "RunFailure";
    this.report = report;
  }
}

/** What waiting for a run threw, as an error of ours. */
export function errorOfRun(error: unknown, runId: string): SlipwayError {
  const report = (error as { report?: ErrorReport } | null)?.report;
  if (report?.code && report.message) return new StoredError(report);
  if (isChildCancelled(error)) return cancelledError(runId);
  return toSlipwayError(error);
}

export function cancelledError(runId: string): SlipwayError {
  return new SlipwayError("cancelled", "the run was cancelled", {
    subject: runId,
    next: `slipway runs resume ${runId}`,
  });
}

export function toSlipwayError(error: unknown): SlipwayError {
  return error instanceof SlipwayError ? error : new StoredError(reportOf(error));
}

/** Applies `mask` to every text of a value, keys included. */
export function masked<T extends Json | ErrorReport>(value: T, mask: (text: string) => string): T {
  if (typeof value === "string") return mask(value) as T;
  if (Array.isArray(value)) return value.map((item) => masked(item, mask)) as T;
  if (value !== null && typeof value === "object") {
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => [mask(key), masked(item as Json, mask)]),
    ) as unknown as T;
  }
  return value;
}

/** What JSON keeps of a value: what the first telling hands on is what every replay will see. */
export function plain<T>(value: T): T {
  return value === undefined ? value : (JSON.parse(JSON.stringify(value)) as T);
}
