import type { CallContext } from "../../lib/call.ts";
import { codeOf } from "../../lib/errors.ts";
import type { Region } from "../../model.ts";
import type { CloudResource } from "../cloud.ts";
import { type Account, snapshotsIn } from "./account.ts";
import { putBack } from "./parameters.ts";
import { explained, isProtected, whyNotRemoved } from "./protection.ts";
import { DISK_KEY } from "./tags.ts";

/**
 * Removes an image with its snapshots, or a snapshot alone.
 *
 * The snapshots of an image that is gone already are found by the disk key in its tags, so that a repeat after a lost
 * answer leaves none. One that another image boots from stays.
 * @throws CloudError `conflict` for an image that is protected: nothing of it is touched
 */
export async function remove(account: Account, resource: CloudResource, call: CallContext): Promise<void> {
  const { region, id } = resource;
  if (resource.kind === "staged-disk") return deleteSnapshot(account, id, region, call);
  const image = await account.imageById(id, region, call);
  const snapshots = new Set(image ? snapshotsIn(image) : []);
  if (image && isProtected(image)) throw whyNotRemoved(image, region);
  if (image) {
    await putBack(account, image, region, { keep: false }, call);
    await absentIsFine(
      account.connection.ec2(region, "DeregisterImage", id, call, (ec2, send) =>
        ec2.deregisterImage({ ImageId: id }, send),
      ),
    ).catch((error: unknown) => {
      throw explained(error, image, region);
    });
  }
  const diskKey = resource.tags[DISK_KEY];
  if (diskKey) {
    for (const { SnapshotId, State } of await account.snapshotsOf(diskKey, region, call)) {
      // A pending one may be an upload or a copy that has only begun.
      if (SnapshotId && State === "completed") snapshots.add(SnapshotId);
    }
  }
  for (const snapshot of snapshots) {
    try {
      await deleteSnapshot(account, snapshot, region, call);
    } catch (error) {
      if (codeOf(error) !== "conflict") throw error;
      call.log.info("snapshot stays, another image boots from it", { id: snapshot, region });
    }
  }
}

/** Gone already is a success. @throws CloudError `conflict` if an image boots from it */
export async function deleteSnapshot(account: Account, id: string, region: Region, call: CallContext): Promise<void> {
  await absentIsFine(
    account.connection.ec2(region, "DeleteSnapshot", id, call, (ec2, send) =>
      ec2.deleteSnapshot({ SnapshotId: id }, send),
    ),
  );
}

async function absentIsFine(done: Promise<unknown>): Promise<void> {
  try {
    await done;
  } catch (error) {
    if (codeOf(error) !== "not-found") throw error;
  }
}
