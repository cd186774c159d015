/**
 * The import of a disk in a bucket: begun under a token that every repeat derives again, found again by its tag, waited
 * for until there is a snapshot. The snapshot comes without tags and gets them from us.
 * @see https://docs.aws.amazon.com/vm-import/latest/userguide/vmimport-import-snapshot.html
 */
import type { ImportSnapshotTask } from "@aws-sdk/client-ec2";
import type { CallContext } from "../../../lib/call.ts";
import { codeOf } from "../../../lib/errors.ts";
import type { ImageKey, ImageSpec } from "../../../model.ts";
import { CloudError } from "../../errors.ts";
import type { Account } from "../account.ts";
import { DISK_KEY, fromAws, tagsFor, toAws } from "../tags.ts";
import { tokenFrom } from "../upload.ts";
import { until } from "../waiting.ts";
import type { ImportBucket } from "./bucket.ts";

/** A task that AWS gave up is begun anew this often in one call. */
const GENERATIONS = 3;

/** Whether an import of the disk is under way, or has ended in a snapshot that is there. */
export async function isImported(
  account: Account,
  bucket: ImportBucket,
  disk: ImageKey,
  call: CallContext,
): Promise<boolean> {
  return (await sorted(account, bucket, disk, call)).live !== undefined;
}

/**
 * Has the disk in the bucket made a snapshot, and removes it from there. The tags come last: what carries them is done,
 * and until then the task, which carries them from its beginning, leads to both.
 * @returns the snapshot's id; tagged and completed @throws CloudError
 */
export async function importDisk(
  account: Account,
  bucket: ImportBucket,
  role: string,
  spec: ImageSpec,
  diskBytes: number,
  call: CallContext,
): Promise<string> {
  for (let generation = 1; ; generation++) {
    const { live, ended } = await sorted(account, bucket, spec.diskKey, call);
    const id = live?.ImportTaskId ?? (await begin(account, bucket, role, spec, diskBytes, ended, call));
    if (live) call.log.info("import is under way already, waiting for it", { id, region: bucket.region });
    const task = await end(account, bucket, id, call);
    if (!hasFailed(task)) {
      await bucket.remove(spec.diskKey, call);
      return adopt(account, bucket, task, spec, diskBytes, call);
    }
    const failure = whyFailed(task, bucket);
    if (failure.code !== "unavailable" || generation === GENERATIONS) throw failure;
    call.log.warn("AWS gave up an import, beginning it again", { id, region: bucket.region, error: failure });
  }
}

/**
 * The import that leads to a snapshot, if there is one; and the ids of those that came to nothing, or to a snapshot that
 * has been removed since: they have used up their tokens.
 */
async function sorted(account: Account, bucket: ImportBucket, disk: ImageKey, call: CallContext) {
  let live: ImportSnapshotTask | undefined;
  const ended: string[] = [];
  for await (const task of importTasks(account, bucket, call)) {
    if (fromAws(task.Tags)[DISK_KEY] !== disk) continue;
    const { Status, SnapshotId } = task.SnapshotTaskDetail ?? {};
    const isGone = async () => !SnapshotId || !(await account.snapshotById(SnapshotId, bucket.region, call));
    if (hasFailed(task) || (Status === "completed" && (await isGone()))) ended.push(task.ImportTaskId ?? "");
    else live ??= task;
  }
  return { live, ended };
}

/** Everything that AWS remembers of imports, ours or not: those under way and those that ended. */
export async function* importTasks(
  account: Account,
  { region }: ImportBucket,
  call: CallContext,
): AsyncGenerator<ImportSnapshotTask> {
  let NextToken: string | undefined;
  do {
    const page = await account.connection.ec2(region, "DescribeImportSnapshotTasks", undefined, call, (ec2, send) =>
      // AWS documents no filter by tag for this call.
      ec2.describeImportSnapshotTasks({ MaxResults: 1000, NextToken }, send),
    );
    yield* page.ImportSnapshotTasks ?? [];
    NextToken = page.NextToken || undefined;
  } while (NextToken);
}

/** Stops what is under way of a disk's import. */
export async function stopImport(
  account: Account,
  bucket: ImportBucket,
  disk: ImageKey,
  call: CallContext,
): Promise<void> {
  for await (const { ImportTaskId, SnapshotTaskDetail: detail, Tags } of importTasks(account, bucket, call)) {
    if (detail?.Status === "active" && fromAws(Tags)[DISK_KEY] === disk) {
      await account.connection.ec2(bucket.region, "CancelImportTask", ImportTaskId, call, (ec2, send) =>
        ec2.cancelImportTask({ ImportTaskId, CancelReason: "The disk is removed." }, send),
      );
    }
  }
}

async function begin(
  account: Account,
  bucket: ImportBucket,
  RoleName: string,
  spec: ImageSpec,
  diskBytes: number,
  ended: readonly string[],
  call: CallContext,
): Promise<string> {
  const ClientToken = tokenFrom("import", spec.diskKey, bucket.region, ...[...ended].sort());
  const request = {
    ClientToken,
    RoleName,
    Description: `${spec.name} (${spec.diskKey})`.slice(0, 255),
    DiskContainer: {
      Format: "RAW",
      UserBucket: { S3Bucket: bucket.name, S3Key: bucket.keyOf(spec.diskKey) },
    },
    TagSpecifications: [{ ResourceType: "import-snapshot-task" as const, Tags: toAws(tagsFor(spec, diskBytes)) }],
  };
  const { ImportTaskId = "" } = await account.connection
    .ec2(bucket.region, "ImportSnapshot", spec.name, call, (ec2, send) => ec2.importSnapshot(request, send))
    .catch((error: unknown) => {
      throw explained(error, RoleName, bucket);
    });
  call.log.info("import begun", { id: ImportTaskId, region: bucket.region });
  return ImportTaskId;
}

async function end(account: Account, bucket: ImportBucket, id: string, call: CallContext): Promise<ImportSnapshotTask> {
  const { region } = bucket;
  return until(
    async () => {
      const [task] = await account.connection
        .ec2(region, "DescribeImportSnapshotTasks", id, call, (ec2, send) =>
          ec2.describeImportSnapshotTasks({ ImportTaskIds: [id] }, send),
        )
        .then(({ ImportSnapshotTasks }) => ImportSnapshotTasks ?? []);
      const { Status, StatusMessage, Progress } = task?.SnapshotTaskDetail ?? {};
      call.log.debug("import", { id, region, status: Status, saying: StatusMessage, percent: Progress });
      return task && (hasFailed(task) || Status === "completed") ? task : undefined;
    },
    {
      what: `The import ${id}`,
      operation: "ImportSnapshot",
      region,
      deadlineMs: account.pace.importMs,
      pace: account.pace,
      signal: call.signal,
    },
  );
}

async function adopt(
  account: Account,
  { region }: ImportBucket,
  task: ImportSnapshotTask,
  spec: ImageSpec,
  diskBytes: number,
  call: CallContext,
): Promise<string> {
  const id = task.SnapshotTaskDetail?.SnapshotId ?? "";
  const { pace } = account;
  const looking = { region, operation: "ImportSnapshot", pace, signal: call.signal };
  // New snapshots are found late, and only what is found takes tags.
  await until(async () => (await account.snapshotById(id, region, call)) !== undefined || undefined, {
    ...looking,
    what: `The snapshot ${id}`,
    deadlineMs: pace.visibleMs,
  });
  await account.connection.ec2(region, "CreateTags", id, call, (ec2, send) =>
    ec2.createTags({ Resources: [id], Tags: toAws(tagsFor(spec, diskBytes)) }, send),
  );
  await until(
    async () => {
      const snapshots = await account.snapshotsOf(spec.diskKey, region, call);
      return snapshots.some(({ SnapshotId, State }) => SnapshotId === id && State === "completed") || undefined;
    },
    { ...looking, what: `Completion of ${id}`, deadlineMs: pace.completeMs },
  );
  return id;
}

/** A task that failed says `deleted`, the same as one that was cancelled. */
function hasFailed(task: ImportSnapshotTask): boolean {
  const status = task.SnapshotTaskDetail?.Status;
  return status === "deleted" || status === "deleting";
}

/** Messages that begin with ClientError are about the disk and come again with the next attempt. */
function whyFailed(task: ImportSnapshotTask, { region }: ImportBucket): CloudError {
  const { StatusMessage = "it does not say why" } = task.SnapshotTaskDetail ?? {};
  const ours = StatusMessage.startsWith("ClientError");
  return new CloudError(
    ours ? "invalid" : "unavailable",
    `AWS gave up the import ${task.ImportTaskId}: ${StatusMessage.slice(0, 300)}.`,
    {
      cloud: "aws",
      operation: "ImportSnapshot",
      region,
      subject: task.ImportTaskId,
      next: ours
        ? "See what is wrong with the disk, or whether a rule of the bucket removed it; or leave out the target's import section: EBS direct asks for neither bucket nor import."
        : "The next attempt begins a new one.",
    },
  );
}

/** AWS says the same of a role that is missing, one that trusts nobody and one that may not read the bucket. */
function explained(error: unknown, role: string, { name, region }: ImportBucket): unknown {
  if (!(error instanceof CloudError) || codeOf(error) !== "invalid" || !/service role/.test(error.message))
    return error;
  return new CloudError("forbidden", `The role ${role} cannot be used for imports, or does not exist.`, {
    cloud: "aws",
    operation: "ImportSnapshot",
    region,
    requestId: error.requestId,
    subject: role,
    next: `Let the role trust vmie.amazonaws.com with the external id vmimport, and read the bucket ${name} (s3:GetBucketLocation, s3:GetObject, s3:ListBucket); see docs/aws.md.`,
    cause: error,
  });
}
