/**
 * The EBS direct APIs: a snapshot written and read block by block.
 *
 * Strict where AWS is strict: only 512 KiB blocks, a checksum with each, a count at the end that has to be right, and
 * reading only what is completed and not public.
 * @see https://docs.aws.amazon.com/ebs/latest/APIReference/Welcome.html
 */
import type http from "node:http";
import { authorize } from "../accounts.ts";
import { unknownOperation } from "../fault.ts";
import type { EbsOperation, EbsRequest } from "./call.ts";
import { getSnapshotBlock, listChangedBlocks, listSnapshotBlocks } from "./read.ts";
import { completeSnapshot, putSnapshotBlock, startSnapshot } from "./write.ts";

const ROUTES: readonly [string, RegExp, string, EbsOperation][] = [
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
