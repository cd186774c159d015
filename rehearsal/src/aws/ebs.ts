/**
 * The EBS direct APIs: a snapshot written and read block by block.
 *
 * Strict where AWS is strict: only 512 KiB blocks, a checksum with each, a count at the end that has to be right, and
 * reading only what is completed and not public.
 * @see https://docs.aws.amazon.com/ebs/latest/APIReference/Welcome.html
 */
import { createHash } from "node:crypto";
import type http from "node:http";
import { authorize, type Caller } from "./accounts.ts";
import { BLOCK_BYTES } from "./blocks.ts";
import { AwsFault, answer, unknownOperation } from "./fault.ts";
import { type AwsSnapshot, type AwsState, newId } from "./state.ts";
import { checkTags } from "./tags.ts";

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

type Route = (request: EbsRequest, response: http.ServerResponse, parts: readonly string[]) => Promise<void> | void;

const ROUTES: readonly [string, RegExp, string, Route][] = [
  ["POST", /^\/snapshots$/, "StartSnapshot", startSnapshot],
  ["PUT", /^\/snapshots\/([^/]+)\/blocks\/([^/]+)$/, "PutSnapshotBlock", putSnapshotBlock],
  ["POST", /^\/snapshots\/completion\/([^/]+)$/, "CompleteSnapshot", completeSnapshot],
  ["GET", /^\/snapshots\/([^/]+)\/blocks$/, "ListSnapshotBlocks", listSnapshotBlocks],
  ["GET", /^\/snapshots\/([^/]+)\/blocks\/([^/]+)$/, "GetSnapshotBlock", getSnapshotBlock],
  ["GET", /^\/snapshots\/([^/]+)\/changedblocks$/, "ListChangedBlocks", listChangedBlocks],
];

/** Answers one request whose signature was right. @throws AwsFault */
export async function handleEbs(request: EbsRequest, response: http.ServerResponse): Promise<void> {
  for (const [method, pattern, operation, route] of ROUTES) {
    const match = method === request.method ? pattern.exec(request.path) : null;
    if (match === null) continue;
    authorize(request.caller, "ebs", operation, `arn:aws:ec2:${request.caller.region}::snapshot/*`);
    await route(request, response, match.slice(1));
    request.state.count("ebs", operation, request.caller.region);
    return;
  }
  throw unknownOperation("ebs", `${request.method} ${request.path}`);
}

interface StartInput {
  VolumeSize?: unknown;
  ParentSnapshotId?: unknown;
  Tags?: unknown;
  Description?: unknown;
  ClientToken?: unknown;
  Encrypted?: unknown;
  Timeout?: unknown;
}

function startSnapshot(request: EbsRequest, response: http.ServerResponse): void {
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

async function putSnapshotBlock(
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

function completeSnapshot(request: EbsRequest, response: http.ServerResponse, parts: readonly string[]): void {
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

function listSnapshotBlocks(request: EbsRequest, response: http.ServerResponse, parts: readonly string[]): void {
  const snapshot = readable(request, parts[0] ?? "");
  const { page, next } = pageOf(
    request,
    [...snapshot.blocks.keys()].sort((a, b) => a - b),
  );
  const listed = { Blocks: page.map((index) => ({ BlockIndex: index, BlockToken: tokenOf(snapshot, index) })) };
  answerJson(response, 200, { ...listed, ...pageFacts(request, snapshot, next) }, request.requestId);
}

function listChangedBlocks(request: EbsRequest, response: http.ServerResponse, parts: readonly string[]): void {
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

async function getSnapshotBlock(
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

/** A completed snapshot that the caller may read. Public ones are not read through EBS direct, not even by the owner. */
function readable(request: EbsRequest, id: string): AwsSnapshot {
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

function known(request: EbsRequest, id: string): AwsSnapshot {
  if (!/^snap-[0-9a-f]{1,59}$/.test(id)) throw invalid("INVALID_SNAPSHOT_ID", `The snapshot id ${id} is malformed.`);
  const snapshot = request.state.snapshot(request.caller.region, id);
  if (snapshot === undefined) throw notFound(id);
  return snapshot;
}

function blockIndex(text: string, snapshot: AwsSnapshot): number {
  const index = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (!(index < snapshot.sizeGiB * (1024 ** 3 / BLOCK_BYTES))) {
    throw invalid("INVALID_PARAMETER_VALUE", `Block index ${text} is outside the volume of ${snapshot.sizeGiB} GiB.`);
  }
  return index;
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

function invalid(reason: string, message: string): AwsFault {
  return new AwsFault("ValidationException", message, 400, reason);
}

function notFound(id: string): AwsFault {
  return new AwsFault("ResourceNotFoundException", `The snapshot '${id}' does not exist.`, 404, "SNAPSHOT_NOT_FOUND");
}

function answerJson(response: http.ServerResponse, status: number, body: object, requestId: string): void {
  answer(response, status, "application/json", JSON.stringify(body), { "x-amzn-requestid": requestId });
}
