import type http from "node:http";
import type { Caller } from "../accounts.ts";
import { BLOCK_BYTES } from "../blocks.ts";
import { AwsFault, answer } from "../fault.ts";
import type { AwsSnapshot, AwsState } from "../state.ts";

export interface EbsRequest {
  readonly state: AwsState;
  readonly caller: Caller;
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: Buffer;
  readonly bodySha256: Buffer;
  readonly requestId: string;
}

export type EbsOperation = (
  request: EbsRequest,
  response: http.ServerResponse,
  parts: readonly string[],
) => Promise<void> | void;

/** A completed snapshot that the caller may read. Public ones are not read through EBS direct, not even by the owner. */
export function readable(request: EbsRequest, id: string): AwsSnapshot {
  const snapshot = known(request, id);
  const { account } = request.caller;
  if (snapshot.owner !== account && !snapshot.permissions.has(account)) throw notFound(id);
  if (snapshot.permissions.has("all")) {
    throw invalid("INVALID_SNAPSHOT_ID", `The snapshot ${id} is public, which is not supported.`);
  }
  if (snapshot.state !== "completed") {
    throw invalid("INVALID_SNAPSHOT_ID", `The snapshot ${id} is not in the completed state.`);
  }
  return snapshot;
}

export function known(request: EbsRequest, id: string): AwsSnapshot {
  if (!/^snap-[0-9a-f]{1,59}$/.test(id)) throw invalid("INVALID_SNAPSHOT_ID", `The snapshot id ${id} is malformed.`);
  const snapshot = request.state.snapshot(request.caller.region, id);
  if (snapshot === undefined) throw notFound(id);
  return snapshot;
}

export function blockIndex(text: string, snapshot: AwsSnapshot): number {
  const index = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (!(index < snapshot.sizeGiB * (1024 ** 3 / BLOCK_BYTES))) {
    throw invalid("INVALID_PARAMETER_VALUE", `Block index ${text} is outside the volume of ${snapshot.sizeGiB} GiB.`);
  }
  return index;
}

export function invalid(reason: string, message: string): AwsFault {
  return new AwsFault("ValidationException", message, 400, reason);
}

export function notFound(id: string): AwsFault {
  return new AwsFault("ResourceNotFoundException", `The snapshot '${id}' does not exist.`, 404, "SNAPSHOT_NOT_FOUND");
}

export function answerJson(response: http.ServerResponse, status: number, body: object, requestId: string): void {
  answer(response, status, "application/json", JSON.stringify(body), { "x-amzn-requestid": requestId });
}
