import { AwsFault } from "../fault.ts";
import { type ImportTask, readDisk } from "../import-task.ts";
import { newId } from "../state.ts";
import type { XmlValue } from "../xml.ts";
import type { Ec2Call, Ec2Operation } from "./call.ts";
import { repeated } from "./copy.ts";
import { applyFilters, type FilterFields, paginate, tagSet } from "./list.ts";
import { specifiedTags } from "./register-image.ts";

/**
 * Starts the import of a raw disk from a bucket of the account. What is wrong with the disk itself shows only in the
 * task, later; the snapshot comes without tags.
 * @see https://docs.aws.amazon.com/vm-import/latest/userguide/vmimport-import-snapshot.html
 */
export const importSnapshot: Ec2Operation = (call) => {
  const { state, caller, query, now } = call;
  const disk = query.under("DiskContainer");
  const format = disk.text("Format");
  if (format?.toUpperCase() !== "RAW") {
    throw new AwsFault("InvalidParameter", `The rehearsal imports the format RAW only, not ${format}.`);
  }
  const place = disk.under("UserBucket");
  const [bucketName, key] = [place.required("S3Bucket"), place.required("S3Key")];
  const tags = specifiedTags(call, ["import-snapshot-task"])["import-snapshot-task"] ?? new Map<string, string>();
  const earlier = repeated(call, "ImportSnapshot");
  const known = earlier.id === undefined ? undefined : state.imports.get(earlier.id);
  if (known !== undefined) return described(known);

  const role = query.text("RoleName") ?? "vmimport";
  if (!state.importRoles.has(role)) {
    throw new AwsFault(
      "InvalidParameter",
      `The service role ${role} provided does not exist or does not have sufficient permissions`,
    );
  }
  const bucket = state.objects.bucket(bucketName);
  const object = bucket?.owner === caller.account ? bucket.objects.get(key) : undefined;
  if (bucket === undefined || object === undefined) {
    throw new AwsFault("InvalidParameter", "Invalid S3 source location.");
  }
  if (bucket.region !== caller.region) {
    throw new AwsFault("InvalidParameter", "The given S3 object is not local to the region.");
  }
  const limit = state.behaviour.importsPerRegion;
  if (ownImports(call).filter((task) => task.status === "active").length >= limit) {
    throw new AwsFault("ResourceCountLimitExceeded", `The limit of ${limit} concurrent import tasks is reached.`);
  }
  const encrypted =
    query.flag("Encrypted") === true || state.settings(caller.account, caller.region).ebsEncryptionByDefault;
  const task: ImportTask = {
    kind: "import-snapshot-task",
    id: newId("import-snap"),
    region: caller.region,
    owner: caller.account,
    description: query.text("Description"),
    bucket: bucketName,
    key,
    encrypted,
    startedAt: now,
    completesAt: now + state.behaviour.importMs,
    status: "active",
    message: "pending",
    progress: "0",
    tags,
    bytes: object.content.bytes,
    content: object.content,
  };
  state.imports.set(task.id, task);
  earlier.remember(task.id);
  void readDisk(state, task);
  return described(task);
};

const FIELDS: FilterFields<ImportTask> = { "task-state": (task) => [task.status] };

export const describeImportSnapshotTasks: Ec2Operation = (call) => {
  const { query, caller } = call;
  const ids = query.list("ImportTaskId");
  const tasks = ids.length > 0 ? ids.map((id) => ownImport(call, id)) : ownImports(call);
  // This call's filters stand in the plural, unlike every other one's.
  const found = applyFilters(query, tasks, FIELDS, caller.account, "Filters");
  const { page, nextToken } = paginate(query, found, { min: 1, max: 1000 });
  return { importSnapshotTaskSet: page.map(described), nextToken };
};

export const cancelImportTask: Ec2Operation = (call) => {
  const task = ownImport(call, call.query.required("ImportTaskId"));
  const previousState = task.status;
  if (task.status === "active") {
    task.status = "deleted";
    task.message = "cancelled";
  }
  return { importTaskId: task.id, previousState, state: task.status };
};

/** @throws AwsFault */
export function ownImport(call: Ec2Call, id: string): ImportTask {
  const task = ownImports(call).find((one) => one.id === id);
  if (task !== undefined) return task;
  throw new AwsFault("InvalidConversionTaskId.Malformed", `The import task ID ${id} does not exist`);
}

function ownImports({ state, caller }: Ec2Call): ImportTask[] {
  state.settle();
  return [...state.imports.values()].filter((task) => task.owner === caller.account && task.region === caller.region);
}

function described(task: ImportTask): { [name: string]: XmlValue } {
  const { status } = task;
  return {
    description: task.description,
    importTaskId: task.id,
    snapshotTaskDetail: {
      description: task.description,
      diskImageSize: task.bytes,
      encrypted: task.encrypted,
      format: "RAW",
      progress: status === "active" ? task.progress : undefined,
      snapshotId: task.snapshotId,
      status,
      statusMessage: status === "completed" ? undefined : task.message,
      userBucket: { s3Bucket: task.bucket, s3Key: task.key },
    },
    tagSet: tagSet(task.tags),
  };
}
