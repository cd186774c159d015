/**
 * What is on its way: uploads that were begun, whole disks in the bucket, and snapshots that an import has made and nobody
 * has taken over.
 */
import type { CallContext } from "../../../lib/call.ts";
import type { CloudResource } from "../../cloud.ts";
import type { Account } from "../account.ts";
import { DISK_KEY, fromAws, OWNER, OWNER_VALUE } from "../tags.ts";
import type { ImportBucket } from "./bucket.ts";
import { importTasks, stopImport } from "./task.ts";

/** None of them is complete: what they are to become is a snapshot. Ids are URLs, an upload's with its id behind `#`. */
export async function* listWaiting(
  account: Account,
  bucket: ImportBucket,
  call: CallContext,
): AsyncGenerator<CloudResource> {
  for await (const { disk, modified } of bucket.objects(call)) {
    yield waiting(bucket, disk, urlOf(bucket, disk), modified);
  }
  for (const { disk, upload, begun } of await bucket.uploads(undefined, call)) {
    yield waiting(bucket, disk, `${urlOf(bucket, disk)}#${upload}`, begun);
  }
  for await (const { SnapshotTaskDetail: detail, Tags } of importTasks(account, bucket, call)) {
    const disk = fromAws(Tags)[DISK_KEY];
    if (disk === undefined || !detail?.SnapshotId) continue;
    const snapshot = await account.snapshotById(detail.SnapshotId, bucket.region, call);
    // With tags of its own it is found like every other.
    if (snapshot && fromAws(snapshot.Tags)[OWNER] === undefined) {
      yield waiting(bucket, disk, detail.SnapshotId, snapshot.StartTime);
    }
  }
}

/**
 * Removes what waits in the bucket, and stops its import.
 * @returns false for a resource that is not in the bucket
 */
export async function removeWaiting(
  account: Account,
  bucket: ImportBucket,
  resource: CloudResource,
  call: CallContext,
): Promise<boolean> {
  const { key, id } = resource;
  if (key === undefined || !id.startsWith(urlOf(bucket, key))) return false;
  const [, upload] = id.split("#");
  if (upload !== undefined) await bucket.abort(key, upload, call);
  else {
    await stopImport(account, bucket, key, call);
    await bucket.remove(key, call);
  }
  return true;
}

function urlOf(bucket: ImportBucket, disk: string): string {
  return `s3://${bucket.name}/${bucket.keyOf(disk)}`;
}

function waiting({ region }: ImportBucket, disk: string, id: string, createdAt: Date | undefined): CloudResource {
  return {
    kind: "staged-disk",
    key: disk,
    region,
    id,
    name: "",
    complete: false,
    tags: { [OWNER]: OWNER_VALUE, [DISK_KEY]: disk },
    ...(createdAt ? { createdAt: createdAt.toISOString() } : {}),
  };
}
