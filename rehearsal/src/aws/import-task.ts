/** A disk in a bucket that becomes a snapshot, as VM Import/Export does it: with stations on the way that a client sees. */
import { createHash } from "node:crypto";
import { BLOCK_BYTES } from "./blocks.ts";
import type { Content } from "./s3/objects.ts";
import { type AwsState, newId } from "./state.ts";

export interface ImportTask {
  readonly kind: "import-snapshot-task";
  readonly id: string;
  readonly region: string;
  readonly owner: string;
  readonly description: string | undefined;
  readonly bucket: string;
  readonly key: string;
  readonly encrypted: boolean;
  readonly startedAt: number;
  readonly completesAt: number;
  /** A task that failed is `deleted` too; only its message tells. */
  status: "active" | "deleted" | "completed";
  message: string;
  /** Percent. */
  progress: string;
  snapshotId?: string;
  readonly tags: Map<string, string>;
  /** The disk's blocks, once they were read. */
  blocks?: Map<number, string>;
  readonly bytes: number;
  /** The source as it was when the task began; it has to be there until the end. */
  readonly content: Content;
}

/** What the service says it is doing, one after the other. */
const STATIONS = ["pending", "validating", "validated", "converting", "updating"] as const;

/** Moves a task on: to its next station, to its end, or to its failure. */
export function settleImport(state: AwsState, task: ImportTask, now: number): void {
  if (task.status !== "active") return;
  if (state.objects.bucket(task.bucket)?.objects.get(task.key)?.content !== task.content) {
    fail(task, `ClientError: No valid S3 object found: s3://${task.bucket}/${task.key}`);
    return;
  }
  if (task.bytes === 0 || task.bytes % 512 !== 0) {
    fail(task, "ClientError: Disk validation failed [Invalid disk size]");
    return;
  }
  const share = (now - task.startedAt) / Math.max(1, task.completesAt - task.startedAt);
  task.message = STATIONS[Math.min(STATIONS.length - 1, Math.floor(Math.max(0, share) * STATIONS.length))]!;
  task.progress = String(Math.min(99, Math.floor(100 * Math.max(0, share))));
  if (now < task.completesAt || task.blocks === undefined) return;
  const id = newId("snap");
  state.add({
    kind: "snapshot",
    id,
    region: task.region,
    owner: task.owner,
    description: `Created by AWS-VMImport service for ${task.id}`,
    sizeGiB: Math.ceil(task.bytes / 1024 ** 3),
    state: "completed",
    startedAt: task.startedAt,
    completedAt: now,
    visibleAt: now + state.behaviour.visibleAfterMs,
    encrypted: task.encrypted,
    blocks: task.blocks,
    puts: new Map(),
    // The task's tags stay with the task.
    tags: new Map(),
    permissions: new Set(),
    madeBy: "import",
  });
  task.status = "completed";
  task.snapshotId = id;
}

function fail(task: ImportTask, message: string): void {
  task.status = "deleted";
  task.message = message;
}

/** Reads the disk into the store. Blocks of zeros are left out, as a snapshot of a volume leaves them out. */
export async function readDisk(state: AwsState, task: ImportTask): Promise<void> {
  const blocks = new Map<number, string>();
  for (let index = 0; index * BLOCK_BYTES < task.bytes; index++) {
    const data = task.content.slice(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES);
    if (data.equals(ZEROS.subarray(0, data.length))) continue;
    const block = data.length === BLOCK_BYTES ? data : Buffer.concat([data, ZEROS], BLOCK_BYTES);
    const digest = createHash("sha256").update(block).digest("base64");
    await state.blocks.put(digest, Buffer.from(block));
    blocks.set(index, digest);
  }
  task.blocks = blocks;
}

const ZEROS = Buffer.alloc(BLOCK_BYTES);
