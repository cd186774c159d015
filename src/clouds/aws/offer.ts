/**
 * Who may start an image: launch permissions of the AMI and, with them, of its snapshot, so that users can copy it.
 * Both are read back after every change.
 */
import type { LaunchPermission, LaunchPermissionModifications } from "@aws-sdk/client-ec2";
import type { CallContext } from "../../lib/call.ts";
import type { Audience, CloudImage, ImageSpec, Region } from "../../model.ts";
import type { Strangers } from "../cloud.ts";
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
  return audience.to === "accounts" ? [...audience.accounts, ...(audience.organizations ?? [])] : [];
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

/**
 * Lets in exactly these: account ids, ARNs of organizations, and `all`. The snapshot first, so that no image is seen before
 * its snapshot; without organizations, which AWS lets start images and gives no snapshots. Where snapshots stay private they
 * are left alone, and closed with the image.
 */
export async function setAudience(
  account: Account,
  image: CloudImage,
  wanted: readonly string[],
  call: CallContext,
): Promise<void> {
  const { id, region } = image;
  const makers = wanted.filter((who) => !isArn(who));
  const concernsSnapshot = account.sharesSnapshots || wanted.length === 0;
  const snapshot = concernsSnapshot ? (image.diskId ?? (await snapshotOf(account, image, call))) : undefined;
  if (snapshot) {
    const difference = volumeChange(await volumeMakers(account, snapshot, region, call), makers);
    if (difference) {
      // The form with OperationType: the one that older endpoints and emulators know too. It does one thing at a time.
      for (const [OperationType, who] of [
        ["add", difference.Add],
        ["remove", difference.Remove],
      ] as const) {
        if (!who) continue;
        const GroupNames = who.filter((one) => one === "all");
        const UserIds = who.filter((one) => one !== "all");
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
      await settled(account, snapshot, region, makers, call, () => volumeMakers(account, snapshot, region, call));
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

function isArn(who: string): boolean {
  return who.startsWith("arn:");
}

/** What is to be added and removed; undefined if nothing is. */
function volumeChange(
  now: readonly string[],
  wanted: readonly string[],
): { readonly Add?: readonly string[]; readonly Remove?: readonly string[] } | undefined {
  const Add = wanted.filter((who) => !now.includes(who));
  const Remove = now.filter((who) => !wanted.includes(who));
  if (Add.length + Remove.length === 0) return undefined;
  return { ...(Add.length > 0 ? { Add } : {}), ...(Remove.length > 0 ? { Remove } : {}) };
}

function change(now: readonly string[], wanted: readonly string[]): LaunchPermissionModifications | undefined {
  const difference = volumeChange(now, wanted);
  if (!difference) return undefined;
  const { Add, Remove } = difference;
  return { ...(Add ? { Add: Add.map(permission) } : {}), ...(Remove ? { Remove: Remove.map(permission) } : {}) };
}

function permission(who: string): LaunchPermission {
  if (who === "all") return { Group: who };
  if (!isArn(who)) return { UserId: who };
  return who.includes(":ou/") ? { OrganizationalUnitArn: who } : { OrganizationArn: who };
}

/** Who may start it, or copy its snapshot, and is not of the audience; and who is and may not. */
export async function strangers(
  account: Account,
  image: CloudImage,
  audience: Audience,
  call: CallContext,
): Promise<Strangers> {
  const { id, region } = image;
  const wanted = audienceIds(audience);
  const launchers = await account.launchers(id, region, call);
  const snapshot = account.sharesSnapshots ? (image.diskId ?? (await snapshotOf(account, image, call))) : undefined;
  const makers = snapshot ? await volumeMakers(account, snapshot, region, call) : [];
  const lacking = launchers.length === 0 ? [] : wanted.filter((who) => !launchers.includes(who));
  const lackingDisk = snapshot ? wanted.filter((who) => !isArn(who) && !makers.includes(who)) : [];
  return {
    uninvited: [...new Set([...launchers, ...makers])].filter((who) => !wanted.includes(who)),
    shutOut: [...new Set([...lacking, ...lackingDisk])],
  };
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
