/**
 * Who may start an image: launch permissions of the AMI and, with them, of its snapshot, so that users can copy it.
 * Both are read back after every change.
 */
import type { CallContext } from "../../lib/call.ts";
import type { Audience, CloudImage, ImageSpec, Region } from "../../model.ts";
import { CloudError } from "../errors.ts";
import { type Account, rootSnapshot } from "./account.ts";
import { deprecationTime } from "./deprecation.ts";
import { point, putBack } from "./parameters.ts";
import { protect } from "./protection.ts";
import { forEachOf, until } from "./waiting.ts";

/** Regions changed at a time: all, so that users see the image everywhere at once. */
const AT_ONCE = 32;

export async function offer(
  account: Account,
  images: readonly CloudImage[],
  spec: ImageSpec,
  audience: Audience,
  call: CallContext,
): Promise<void> {
  await forEachOf(images, AT_ONCE, async (image) => {
    if (audience.to === "nobody") return setAudience(account, image, [], call);
    await letIn(account, image, audienceIds(audience), call);
    if (spec.aws?.parameter) await point(account, image, spec.aws.parameter, call);
    await afterwards(account, image, spec, audience, call);
  });
}

export async function withdraw(account: Account, images: readonly CloudImage[], call: CallContext): Promise<void> {
  await forEachOf(images, AT_ONCE, async (image) => {
    const found = await account.imageById(image.id, image.region, call);
    if (found) await putBack(account, found, image.region, { keep: false }, call);
    await setAudience(account, image, [], call);
  });
}

export function audienceIds(audience: Audience): string[] {
  if (audience.to === "public") return ["all"];
  return audience.to === "accounts" ? [...audience.accounts] : [];
}

/** Adds to who is let in already. */
export async function letIn(
  account: Account,
  image: CloudImage,
  ids: readonly string[],
  call: CallContext,
): Promise<void> {
  const now = await account.launchers(image.id, image.region, call);
  await setAudience(account, image, [...new Set([...now, ...ids])], call);
}

/** Lets in exactly these: account ids, and `all`. The snapshot first, so that no image is seen before its snapshot. */
export async function setAudience(
  account: Account,
  image: CloudImage,
  wanted: readonly string[],
  call: CallContext,
): Promise<void> {
  const { id, region } = image;
  const snapshot = image.diskId ?? (await snapshotOf(account, image, call));
  if (snapshot) {
    const difference = change(await volumeMakers(account, snapshot, region, call), wanted);
    if (difference) {
      // The form with OperationType: the one that older endpoints and emulators know too. It does one thing at a time.
      for (const [OperationType, who] of [
        ["add", difference.Add],
        ["remove", difference.Remove],
      ] as const) {
        if (!who) continue;
        const GroupNames = who.flatMap((one) => ("Group" in one ? [one.Group] : []));
        const UserIds = who.flatMap((one) => ("UserId" in one ? [one.UserId] : []));
        const change = {
          SnapshotId: snapshot,
          Attribute: "createVolumePermission",
          OperationType,
          GroupNames,
          UserIds,
        } as const;
        await account.connection.ec2(region, "ModifySnapshotAttribute", snapshot, call, (ec2, send) =>
          ec2.modifySnapshotAttribute(change, send),
        );
      }
      await settled(account, snapshot, region, wanted, call, () => volumeMakers(account, snapshot, region, call));
    }
  }
  const difference = change(await account.launchers(id, region, call), wanted);
  if (!difference) return;
  await account.connection.ec2(region, "ModifyImageAttribute", id, call, (ec2, send) =>
    ec2.modifyImageAttribute({ ImageId: id, LaunchPermission: difference }, send),
  );
  await settled(account, id, region, wanted, call, () => account.launchers(id, region, call));
}

export async function snapshotOf(
  account: Account,
  { id, region }: CloudImage,
  call: CallContext,
): Promise<string | undefined> {
  const image = await account.imageById(id, region, call);
  if (image) return rootSnapshot(image);
  throw new CloudError("not-found", `There is no image ${id} in ${region}.`, {
    cloud: "aws",
    operation: "DescribeImages",
    region,
    subject: id,
  });
}

/** Who may make volumes of a snapshot: account ids, and `all`. */
export async function volumeMakers(account: Account, id: string, region: Region, call: CallContext): Promise<string[]> {
  const answer = await account.connection.ec2(region, "DescribeSnapshotAttribute", id, call, (ec2, send) =>
    ec2.describeSnapshotAttribute({ SnapshotId: id, Attribute: "createVolumePermission" }, send),
  );
  return (answer.CreateVolumePermissions ?? []).map((one) => one.Group ?? one.UserId ?? "").filter(Boolean);
}

interface Difference {
  readonly Add?: ReturnType<typeof permission>[];
  readonly Remove?: ReturnType<typeof permission>[];
}

function change(now: readonly string[], wanted: readonly string[]): Difference | undefined {
  const add = wanted.filter((who) => !now.includes(who));
  const remove = now.filter((who) => !wanted.includes(who));
  if (add.length + remove.length === 0) return undefined;
  return {
    ...(add.length > 0 ? { Add: add.map(permission) } : {}),
    ...(remove.length > 0 ? { Remove: remove.map(permission) } : {}),
  };
}

function permission(who: string): { Group: "all" } | { UserId: string } {
  return who === "all" ? { Group: "all" } : { UserId: who };
}

/** Permissions are read back: an account setting may take them away without an error. */
async function settled(
  account: Account,
  subject: string,
  region: Region,
  wanted: readonly string[],
  call: CallContext,
  look: () => Promise<readonly string[]>,
): Promise<void> {
  const { pace } = account;
  await until(async () => (change(await look(), wanted) ? undefined : true), {
    what: `The permissions of ${subject}`,
    operation: "ModifyImageAttribute",
    region,
    deadlineMs: pace.visibleMs,
    pace,
    signal: call.signal,
  });
}

/** What an image gets once it is out: an end, and protection from going away before its time. */
async function afterwards(account: Account, image: CloudImage, spec: ImageSpec, audience: Audience, call: CallContext) {
  const { id, region } = image;
  const { endOfLife, aws } = spec;
  if (!endOfLife && !aws?.protect) return;
  const found = await account.imageById(id, region, call);
  if (!found) return;
  const at = endOfLife && deprecationTime(endOfLife, found, audience.to === "public");
  if (at && Date.parse(found.DeprecationTime ?? "") !== at.getTime()) {
    await account.connection.ec2(region, "EnableImageDeprecation", id, call, (ec2, send) =>
      ec2.enableImageDeprecation({ ImageId: id, DeprecateAt: at }, send),
    );
  }
  if (aws?.protect) await protect(account, found, aws.protect, region, call);
}
