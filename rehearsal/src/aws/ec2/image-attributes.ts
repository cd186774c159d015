import { AwsFault } from "../fault.ts";
import { invalidValue, type Query } from "../query.ts";
import type { AwsImage } from "../state.ts";
import { DONE, type Ec2Call, type Ec2Operation, ownImage } from "./call.ts";
import { describeMapping, protectionOf } from "./describe-images.ts";

const YEAR = 365 * 86_400_000;
const MINUTE = 60_000;

export const modifyImageAttribute: Ec2Operation = (call) => {
  const { query } = call;
  const image = ownImage(call, query.required("ImageId"));
  const launch = query.under("LaunchPermission");
  const description = query.under("Description").text("Value");
  const imds = query.under("ImdsSupport").text("Value");
  const attribute = query.text("Attribute");
  if (!launch.empty || attribute === "launchPermission") {
    changeLaunchPermissions(call, image, permissionChange(query, launch));
  } else if (description !== undefined || attribute === "description") {
    image.description = description ?? query.text("Value") ?? "";
  } else if (imds !== undefined) {
    if (imds !== "v2.0") throw invalidValue(imds, "imdsSupport");
    image.imdsSupport = imds;
  } else {
    throw new AwsFault("InvalidParameterCombination", "No attributes specified.");
  }
  return DONE;
};

export interface PermissionChange {
  readonly add: readonly string[];
  readonly remove: readonly string[];
}

/** Reads both forms: `LaunchPermission.Add.1.Group` and the older `OperationType` with `UserGroup.1` and `UserId.1`. */
export function permissionChange(query: Query, permissions: Query): PermissionChange {
  const grantees = (list: string) =>
    permissions
      .structures(list)
      .map((entry) => organization(entry) ?? grantee(entry.text("Group"), entry.text("UserId")));
  const old = [
    ...[...query.list("OrganizationArn"), ...query.list("OrganizationalUnitArn")].map(organizationArn),
    ...query.list("UserGroup").map((group) => grantee(group, undefined)),
    ...query.list("UserId").map((user) => grantee(undefined, user)),
  ];
  const operation = query.text("OperationType");
  return {
    add: [...grantees("Add"), ...(operation === "add" ? old : [])],
    remove: [...grantees("Remove"), ...(operation === "remove" ? old : [])],
  };
}

function organization(entry: Query): string | undefined {
  const arn = entry.text("OrganizationArn") ?? entry.text("OrganizationalUnitArn");
  return arn === undefined ? undefined : organizationArn(arn);
}

function organizationArn(arn: string): string {
  if (/^arn:aws[a-z-]*:organizations::\d{12}:(organization\/o-[a-z0-9]+|ou\/o-[a-z0-9]+\/ou-[a-z0-9-]+)$/.test(arn))
    return arn;
  throw new AwsFault(
    "InvalidAMIAttributeItemValue",
    `Invalid attribute item value "${arn}" for organizationArn item type.`,
  );
}

function describeGrantee(who: string) {
  if (who === "all") return { group: who };
  if (!who.startsWith("arn:")) return { userId: who };
  return who.includes(":ou/") ? { organizationalUnitArn: who } : { organizationArn: who };
}

function grantee(group: string | undefined, user: string | undefined): string {
  if (group !== undefined) {
    if (group !== "all") throw invalidValue(group, "group");
    return group;
  }
  if (!/^\d{12}$/.test(user ?? ""))
    throw new AwsFault("InvalidAMIAttributeItemValue", `Invalid attribute item value "${user}" for userId item type.`);
  return user ?? "";
}

function changeLaunchPermissions(call: Ec2Call, image: AwsImage, change: PermissionChange): void {
  const { state, caller, now } = call;
  if (image.state === "disabled") {
    throw new AwsFault("InvalidAMIID.Unavailable", `The image ID '${image.id}' is disabled and cannot be shared`);
  }
  if (change.add.includes("all") && !image.permissions.has("all")) {
    const settings = state.settings(caller.account, caller.region);
    if (settings.imageBlockPublicAccess === "block-new-sharing") {
      throw new AwsFault(
        "OperationNotPermitted",
        "You can't publicly share this image because block public access for AMIs is enabled for this account and Region.",
      );
    }
    if (image.mappings.some((mapping) => state.snapshot(image.region, mapping.snapshotId)?.encrypted)) {
      throw new AwsFault(
        "InvalidParameter",
        "Snapshots encrypted with the AWS Managed CMK can't be shared. Specify another snapshot.",
      );
    }
    const shared = state
      .images(caller.region)
      .filter((other) => other.owner === caller.account && other.permissions.has("all"));
    if (shared.length >= settings.publicImages) {
      throw new AwsFault(
        "ResourceLimitExceeded",
        `You have reached your quota of ${settings.publicImages} for the number of public images allowed in this Region. Deregister unused public images or make them private, or request an increase in your public AMIs quota.`,
      );
    }
    // A public image is deprecated two years after it was made at the latest.
    const latest = image.createdAt + 2 * YEAR;
    image.deprecateAt = Math.min(image.deprecateAt ?? latest, Math.max(latest, now));
  }
  for (const who of change.add) image.permissions.add(who);
  for (const who of change.remove) image.permissions.delete(who);
}

export const describeImageAttribute: Ec2Operation = (call) => {
  const image = ownImage(call, call.query.required("ImageId"));
  const attribute = call.query.required("Attribute");
  return { imageId: image.id, [attribute]: attributeValue(call, image, attribute) };
};

function attributeValue(call: Ec2Call, image: AwsImage, attribute: string) {
  const value = (text: string | undefined) => (text === undefined ? {} : { value: text });
  switch (attribute) {
    case "launchPermission":
      return [...image.permissions].map(describeGrantee);
    case "description":
      return value(image.description ?? "");
    case "bootMode":
      return value(image.bootMode);
    case "imdsSupport":
      return value(image.imdsSupport);
    case "sriovNetSupport":
      return value(image.sriovNetSupport);
    case "tpmSupport":
      return value(image.tpmSupport);
    case "deregistrationProtection":
      return value(protectionOf(image));
    case "uefiData":
      return value(image.uefiData);
    case "blockDeviceMapping":
      return image.mappings.map((mapping) => describeMapping(call, image, mapping));
    default:
      throw invalidValue(attribute, "attribute");
  }
}

export const resetImageAttribute: Ec2Operation = (call) => {
  const image = ownImage(call, call.query.required("ImageId"));
  const attribute = call.query.required("Attribute");
  if (attribute !== "launchPermission") throw invalidValue(attribute, "attribute");
  image.permissions.clear();
  return DONE;
};

export const enableImageDeprecation: Ec2Operation = (call) => {
  const { query, now } = call;
  const image = ownImage(call, query.required("ImageId"));
  const text = query.required("DeprecateAt");
  const at = Date.parse(text);
  if (Number.isNaN(at)) throw invalidValue(text, "DeprecateAt");
  if (at <= now) throw invalidValue(text, "DeprecateAt", "The deprecation date must be in the future.");
  const years = image.permissions.has("all") ? 2 : 10;
  if (at > image.createdAt + years * YEAR + 86_400_000) {
    throw invalidValue(text, "DeprecateAt", `The deprecation date must be within ${years} years of the creation date.`);
  }
  image.deprecateAt = Math.round(at / MINUTE) * MINUTE;
  return DONE;
};

export const disableImageDeprecation: Ec2Operation = (call) => {
  ownImage(call, call.query.required("ImageId")).deprecateAt = undefined;
  return DONE;
};

const COOLDOWN_MS = 24 * 60 * MINUTE;

/** Unlike most, these answer with a word. */
export const enableDeregistrationProtection: Ec2Operation = (call) => {
  const image = ownImage(call, call.query.required("ImageId"));
  image.protection = { on: true, cooldown: call.query.flag("WithCooldown") === true };
  return { return: protectionOf(image) };
};

export const disableDeregistrationProtection: Ec2Operation = (call) => {
  const image = ownImage(call, call.query.required("ImageId"));
  const { on = false, cooldown = false, until } = image.protection ?? {};
  const ends = on && cooldown ? call.now + COOLDOWN_MS : until;
  image.protection = { on: false, cooldown, ...(ends === undefined ? {} : { until: ends }) };
  return { return: protectionOf(image) };
};

export const disableImage: Ec2Operation = (call) => {
  const image = ownImage(call, call.query.required("ImageId"));
  if (image.state !== "available" && image.state !== "disabled") throw notReady(image);
  image.state = "disabled";
  image.permissions.clear();
  return DONE;
};

export const enableImage: Ec2Operation = (call) => {
  const image = ownImage(call, call.query.required("ImageId"));
  if (image.state !== "available" && image.state !== "disabled") throw notReady(image);
  image.state = "available";
  return DONE;
};

function notReady(image: AwsImage): AwsFault {
  return new AwsFault("InvalidAMIID.Unavailable", `The image ID '${image.id}' is ${image.state}`);
}

export const deregisterImage: Ec2Operation = (call) => {
  const { state, query } = call;
  const image = ownImage(call, query.required("ImageId"));
  if (image.protection?.on === true || (image.protection?.until ?? 0) > call.now) {
    throw new AwsFault("OperationNotPermitted", `The image ${image.id} is protected from deregistration.`, 400);
  }
  image.state = "deregistered";
  image.permissions.clear();
  if (query.flag("DeleteAssociatedSnapshots") !== true) return DONE;
  const results = image.mappings.map((mapping) => {
    const snapshot = state.snapshot(image.region, mapping.snapshotId);
    const shared = state
      .images(image.region)
      .some((other) => other.mappings.some((m) => m.snapshotId === mapping.snapshotId));
    if (snapshot !== undefined && !shared) state.removeSnapshot(snapshot);
    const returnCode = snapshot === undefined ? "client-error" : shared ? "skipped" : "success";
    return { snapshotId: mapping.snapshotId, returnCode };
  });
  return { ...DONE, deleteSnapshotResultSet: results };
};
