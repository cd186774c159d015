import { createHash } from "node:crypto";
import type http from "node:http";
import { authorize } from "../accounts.ts";
import { BLOCK_BYTES } from "../blocks.ts";
import { AwsFault, answer } from "../fault.ts";
import { type AwsSnapshot, newId } from "../state.ts";
import { checkTags } from "../tags.ts";
import { answerJson, blockIndex, type EbsRequest, invalid, known, notFound, readable } from "./call.ts";

interface StartInput {
  VolumeSize?: unknown;
  ParentSnapshotId?: unknown;
  Tags?: unknown;
  Description?: unknown;
  ClientToken?: unknown;
  Encrypted?: unknown;
  Timeout?: unknown;
}

export function startSnapshot(request: EbsRequest, response: http.ServerResponse): void {
  const { state, caller } = request;
  const input = parseJson(request.body);
  const size = input.VolumeSize;
  if (typeof size !== "number" || !Number.isInteger(size) || size < 1 || size > 65_536) {
    throw invalid("INVALID_VOLUME_SIZE", "The volume size must be between 1 and 65536 GiB.");
  }
  const timeout = input.Timeout ?? 60;
  if (typeof timeout !== "number" || timeout < 10 || timeout > 4320) {
    throw invalid("INVALID_PARAMETER_VALUE", "Timeout must be between 10 and 4320 minutes.");
  }
  if (input.Encrypted !== undefined && input.ParentSnapshotId !== undefined) {
    throw invalid("INVALID_PARAMETER_VALUE", "Encrypted and ParentSnapshotId cannot be used in the same request.");
  }
  const tags = readTags(input.Tags);
  if (tags.size > 0) authorize(caller, "ec2", "CreateTags");

  const asked = JSON.stringify({ ...input, ClientToken: undefined });
  const token =
    typeof input.ClientToken === "string" ? `ebs/${caller.account}/${caller.region}/${input.ClientToken}` : undefined;
  const known = token === undefined ? undefined : state.tokens.get(token);
  if (known !== undefined) {
    if (known.asked !== asked) {
      throw new AwsFault(
        "ConflictException",
        "The request uses the same client token as a previous, but non-identical request.",
        409,
      );
    }
    const earlier = state.snapshot(caller.region, known.id);
    if (earlier === undefined) throw notFound(known.id);
    answerJson(response, 201, started(earlier), request.requestId);
    return;
  }

  const parent = input.ParentSnapshotId === undefined ? undefined : readable(request, String(input.ParentSnapshotId));
  if (parent !== undefined && parent.sizeGiB > size) {
    throw invalid("INVALID_VOLUME_SIZE", "The volume size must not be smaller than the parent snapshot's.");
  }
  const pending = state
    .snapshots(caller.region)
    .filter((other) => other.owner === caller.account && other.madeBy === "direct" && other.state === "pending");
  if (pending.length >= state.behaviour.pendingSnapshots) {
    throw new AwsFault(
      "ServiceQuotaExceededException",
      `You have reached the quota of ${state.behaviour.pendingSnapshots} pending snapshots.`,
      402,
    );
  }

  const now = state.now();
  const settings = state.settings(caller.account, caller.region);
  const snapshot: AwsSnapshot = {
    kind: "snapshot",
    id: newId("snap"),
    region: caller.region,
    owner: caller.account,
    description: typeof input.Description === "string" ? input.Description : "",
    sizeGiB: size,
    state: "pending",
    startedAt: now,
    visibleAt: now + state.behaviour.visibleAfterMs,
    timeoutMs: timeout * 60_000,
    givenUpAt: now + timeout * 60_000,
    encrypted: input.Encrypted === true || settings.ebsEncryptionByDefault || parent?.encrypted === true,
    ...(parent === undefined ? {} : { parentId: parent.id }),
    blocks: new Map(parent?.blocks),
    puts: new Map(),
    tags,
    permissions: new Set(),
    madeBy: "direct",
  };
  state.add(snapshot);
  if (token !== undefined) state.tokens.set(token, { asked, id: snapshot.id });
  answerJson(response, 201, started(snapshot), request.requestId);
}

function started(snapshot: AwsSnapshot): object {
  return {
    ...(snapshot.description === "" ? {} : { Description: snapshot.description }),
    SnapshotId: snapshot.id,
    OwnerId: snapshot.owner,
    Status: snapshot.state,
    StartTime: snapshot.startedAt / 1000,
    VolumeSize: snapshot.sizeGiB,
    BlockSize: BLOCK_BYTES,
    Tags: [...snapshot.tags].map(([Key, Value]) => ({ Key, Value })),
    ...(snapshot.parentId === undefined ? {} : { ParentSnapshotId: snapshot.parentId }),
    ...(snapshot.encrypted ? { SseType: "sse-kms" } : { SseType: "none" }),
  };
}

export async function putSnapshotBlock(
  request: EbsRequest,
  response: http.ServerResponse,
  parts: readonly string[],
): Promise<void> {
  const { state, headers, body } = request;
  const snapshot = writable(request, parts[0] ?? "");
  const index = blockIndex(parts[1] ?? "", snapshot);
  if (headers["x-amz-data-length"] !== String(BLOCK_BYTES)) {
    throw invalid("INVALID_PARAMETER_VALUE", `x-amz-Data-Length must be ${BLOCK_BYTES}.`);
  }
  if (headers["x-amz-checksum-algorithm"] !== "SHA256") {
    throw invalid("INVALID_PARAMETER_VALUE", "x-amz-Checksum-Algorithm must be SHA256.");
  }
  if (body.length !== BLOCK_BYTES) throw invalid("INVALID_PARAMETER_VALUE", "Failed to read block data");
  const progress = Number(headers["x-amz-progress"] ?? 0);
  if (!(progress >= 0 && progress <= 100))
    throw invalid("INVALID_PARAMETER_VALUE", "x-amz-Progress must be a percentage.");
  const checksum = request.bodySha256.toString("base64");
  if (headers["x-amz-checksum"] !== checksum) {
    throw invalid("INVALID_BLOCK", "The checksum in the request does not match the checksum of the block data.");
  }
  snapshot.blocks.set(index, checksum);
  await state.blocks.put(checksum, body);
  snapshot.puts.set(index, (snapshot.puts.get(index) ?? 0) + 1);
  snapshot.givenUpAt = state.now() + (snapshot.timeoutMs ?? 0);
  answer(response, 201, "application/json", "{}", {
    "x-amz-checksum": checksum,
    "x-amz-checksum-algorithm": "SHA256",
    "x-amzn-requestid": request.requestId,
  });
}

export function completeSnapshot(request: EbsRequest, response: http.ServerResponse, parts: readonly string[]): void {
  const { state, headers } = request;
  const snapshot = writable(request, parts[0] ?? "");
  const count = headers["x-amz-changedblockscount"];
  if (count !== String(snapshot.puts.size)) {
    throw invalid(
      "INVALID_PARAMETER_VALUE",
      `ChangedBlocksCount is ${count}, but ${snapshot.puts.size} blocks were written.`,
    );
  }
  const checksum = headers["x-amz-checksum"];
  if (checksum !== undefined) {
    if (headers["x-amz-checksum-algorithm"] !== "SHA256" || headers["x-amz-checksum-aggregation-method"] !== "LINEAR") {
      throw invalid("INVALID_PARAMETER_VALUE", "The checksum must be SHA256, aggregated LINEAR.");
    }
    if (checksum !== linearChecksum(snapshot)) {
      throw invalid("INVALID_PARAMETER_VALUE", "The aggregated checksum does not match the blocks that were written.");
    }
  }
  snapshot.completesAt = state.now() + state.behaviour.completeMs;
  state.settle();
  answerJson(response, 202, { Status: snapshot.state }, request.requestId);
}

/** SHA-256 over the binary digests of the written blocks, in ascending order of their index. */
function linearChecksum(snapshot: AwsSnapshot): string {
  const hash = createHash("sha256");
  for (const index of [...snapshot.puts.keys()].sort((a, b) => a - b)) {
    hash.update(Buffer.from(snapshot.blocks.get(index) ?? "", "base64"));
  }
  return hash.digest("base64");
}

/** A pending snapshot of the caller's own that has become known to the writing side. */
function writable(request: EbsRequest, id: string): AwsSnapshot {
  const { state, caller } = request;
  const snapshot = known(request, id);
  if (snapshot.owner !== caller.account || state.now() < snapshot.startedAt + state.behaviour.blocksWritableAfterMs) {
    throw notFound(id);
  }
  if (snapshot.state !== "pending" || snapshot.completesAt !== undefined) {
    throw invalid("INVALID_SNAPSHOT_ID", `The snapshot ${id} is not in the pending state.`);
  }
  return snapshot;
}

function readTags(value: unknown): Map<string, string> {
  const tags = new Map<string, string>();
  if (value === undefined) return tags;
  if (!Array.isArray(value)) throw invalid("INVALID_TAG", "Tags must be a list.");
  for (const tag of value as { Key?: unknown; Value?: unknown }[]) tags.set(String(tag?.Key), String(tag?.Value ?? ""));
  const wrong = checkTags(tags);
  if (wrong !== undefined) throw invalid("INVALID_TAG", wrong.message);
  return tags;
}

function parseJson(body: Buffer): StartInput {
  try {
    const input: unknown = JSON.parse(body.toString("utf8"));
    if (typeof input === "object" && input !== null) return input;
  } catch {
    // Said below, in AWS's words.
  }
  throw invalid("INVALID_PARAMETER_VALUE", "The request body is not a JSON object.");
}
