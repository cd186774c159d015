import { createHash } from "node:crypto";
import type http from "node:http";
import { BLOCK_BYTES } from "../blocks.ts";
import { answer } from "../fault.ts";
import type { AwsSnapshot } from "../state.ts";
import { answerJson, blockIndex, type EbsRequest, invalid, readable } from "./call.ts";

export function listSnapshotBlocks(request: EbsRequest, response: http.ServerResponse, parts: readonly string[]): void {
  const snapshot = readable(request, parts[0] ?? "");
  const { page, next } = pageOf(
    request,
    [...snapshot.blocks.keys()].sort((a, b) => a - b),
  );
  const listed = { Blocks: page.map((index) => ({ BlockIndex: index, BlockToken: tokenOf(snapshot, index) })) };
  answerJson(response, 200, { ...listed, ...pageFacts(request, snapshot, next) }, request.requestId);
}

export function listChangedBlocks(request: EbsRequest, response: http.ServerResponse, parts: readonly string[]): void {
  const second = readable(request, parts[0] ?? "");
  const firstId = request.query.get("firstSnapshotId");
  const first = firstId === null ? undefined : readable(request, firstId);
  const indexes = new Set([...second.blocks.keys(), ...(first?.blocks.keys() ?? [])]);
  const changed = [...indexes].filter((index) => first?.blocks.get(index) !== second.blocks.get(index));
  const { page, next } = pageOf(
    request,
    changed.sort((a, b) => a - b),
  );
  const listed = page.map((index) => ({
    BlockIndex: index,
    ...(first?.blocks.has(index) ? { FirstBlockToken: tokenOf(first, index) } : {}),
    ...(second.blocks.has(index) ? { SecondBlockToken: tokenOf(second, index) } : {}),
  }));
  answerJson(response, 200, { ChangedBlocks: listed, ...pageFacts(request, second, next) }, request.requestId);
}

export async function getSnapshotBlock(
  request: EbsRequest,
  response: http.ServerResponse,
  parts: readonly string[],
): Promise<void> {
  const snapshot = readable(request, parts[0] ?? "");
  const index = blockIndex(parts[1] ?? "", snapshot);
  const digest = snapshot.blocks.get(index);
  if (digest === undefined) throw invalid("INVALID_BLOCK", `Block ${index} is not in the snapshot.`);
  if (request.query.get("blockToken") !== tokenOf(snapshot, index)) {
    throw invalid("INVALID_BLOCK_TOKEN", "The block token is invalid or has expired.");
  }
  answer(response, 200, "application/octet-stream", await request.state.blocks.get(digest), {
    "x-amz-data-length": String(BLOCK_BYTES),
    "x-amz-checksum": digest,
    "x-amz-checksum-algorithm": "SHA256",
    "x-amzn-requestid": request.requestId,
  });
}

/** Opaque to clients; ties a block to the snapshot it was listed for. */
function tokenOf(snapshot: AwsSnapshot, index: number): string {
  return createHash("sha256")
    .update(`${snapshot.id}/${index}/${snapshot.blocks.get(index)}`)
    .digest("base64");
}

function pageOf(
  request: EbsRequest,
  indexes: readonly number[],
): { page: readonly number[]; next: number | undefined } {
  const limit = Number(request.query.get("maxResults") ?? 1000);
  if (!(limit >= 100 && limit <= 10_000)) throw invalid("INVALID_PARAMETER_VALUE", "MaxResults must be 100 to 10000.");
  const token = request.query.get("pageToken");
  const from =
    token === null ? Number(request.query.get("startingBlockIndex") ?? 0) : Number(Buffer.from(token, "base64"));
  if (!Number.isInteger(from) || from < 0) throw invalid("INVALID_PAGE_TOKEN", "The page token is invalid.");
  const rest = indexes.filter((index) => index >= from);
  return { page: rest.slice(0, limit), next: rest[limit] };
}

function pageFacts(request: EbsRequest, snapshot: AwsSnapshot, next: number | undefined): object {
  return {
    ExpiryTime: request.state.now() / 1000 + 7 * 86_400,
    VolumeSize: snapshot.sizeGiB,
    BlockSize: BLOCK_BYTES,
    ...(next === undefined ? {} : { NextToken: Buffer.from(String(next)).toString("base64") }),
  };
}
