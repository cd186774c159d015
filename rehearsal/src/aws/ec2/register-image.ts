import { authorize } from "../accounts.ts";
import { AwsFault } from "../fault.ts";
import { invalidValue, type Query } from "../query.ts";
import { type AwsImage, type BlockMapping, newId } from "../state.ts";
import { checkTags } from "../tags.ts";
import { type Ec2Call, type Ec2Operation, findSnapshot } from "./call.ts";

export const registerImage: Ec2Operation = (call) => {
  const { state, caller, query, now } = call;
  const name = imageName(query);
  const architecture = oneOf(query, "Architecture", ["i386", "x86_64", "arm64", "x86_64_mac", "arm64_mac"]) ?? "i386";
  const virtualizationType = oneOf(query, "VirtualizationType", ["hvm", "paravirtual"]) ?? "paravirtual";
  const bootMode = oneOf(query, "BootMode", ["legacy-bios", "uefi", "uefi-preferred"]);
  const tpmSupport = oneOf(query, "TpmSupport", ["v2.0"]);
  const imdsSupport = oneOf(query, "ImdsSupport", ["v2.0"]);
  const sriovNetSupport = oneOf(query, "SriovNetSupport", ["simple"]);
  const enaSupport = query.flag("EnaSupport") ?? false;
  if (
    virtualizationType === "paravirtual" &&
    (enaSupport || sriovNetSupport !== undefined || bootMode?.startsWith("uefi"))
  ) {
    throw new AwsFault("InvalidParameterCombination", "The request needs the virtualization type hvm.");
  }
  if (architecture === "arm64" && (virtualizationType !== "hvm" || (bootMode !== undefined && bootMode !== "uefi"))) {
    throw new AwsFault(
      "InvalidParameterCombination",
      "The arm64 architecture needs virtualization type hvm and boot mode uefi.",
    );
  }
  if (tpmSupport !== undefined && bootMode !== "uefi") {
    throw new AwsFault("InvalidParameterCombination", "TPM support needs the boot mode uefi.");
  }
  const uefiData = query.text("UefiData");
  if (uefiData !== undefined) checkUefiData(uefiData, bootMode);
  const rootDeviceName = query.required("RootDeviceName");
  const mappings = query.structures("BlockDeviceMapping").map((mapping) => readMapping(call, mapping));
  if (!mappings.some((mapping) => mapping.deviceName === rootDeviceName)) {
    throw new AwsFault("InvalidBlockDeviceMapping", "Root device is not found in the block device mapping.");
  }
  const tags = specifiedTags(call, ["image"]).image ?? new Map();
  const holder = state.images(caller.region).find((other) => other.owner === caller.account && other.name === name);
  if (holder !== undefined) {
    throw new AwsFault("InvalidAMIName.Duplicate", `AMI name ${name} is already in use by AMI ${holder.id}`);
  }
  const image: AwsImage = {
    kind: "image",
    id: newId("ami"),
    region: caller.region,
    owner: caller.account,
    name,
    description: query.text("Description"),
    architecture,
    state: "available",
    createdAt: now,
    visibleAt: now + state.behaviour.visibleAfterMs,
    rootDeviceName,
    mappings,
    virtualizationType,
    enaSupport,
    sriovNetSupport,
    bootMode: bootMode ?? (architecture === "arm64" ? "uefi" : undefined),
    tpmSupport,
    imdsSupport,
    uefiData,
    deprecateAt: undefined,
    permissions: new Set(),
    tags,
  };
  state.add(image);
  return { imageId: image.id };
};

export function imageName(query: Query): string {
  const name = query.required("Name");
  if (!/^[A-Za-z0-9()[\] ./\-'@_]{3,128}$/.test(name)) {
    throw new AwsFault(
      "InvalidAMIName.Malformed",
      "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, '(', ')', '.', '-', '/' and '_'",
    );
  }
  return name;
}

function readMapping(call: Ec2Call, mapping: Query): BlockMapping {
  const deviceName = mapping.required("DeviceName");
  const ebs = mapping.under("Ebs");
  const snapshot = findSnapshot(call, ebs.required("SnapshotId"));
  if (snapshot.state !== "completed") {
    throw new AwsFault("InvalidParameterValue", `Snapshot is in invalid state - ${snapshot.state}`);
  }
  if (ebs.text("Encrypted") !== undefined) {
    throw new AwsFault(
      "InvalidBlockDeviceMapping",
      `the encrypted flag cannot be specified since device ${deviceName} has a snapshot specified.`,
    );
  }
  const volumeSize = ebs.integer("VolumeSize") ?? snapshot.sizeGiB;
  if (volumeSize < snapshot.sizeGiB) {
    throw new AwsFault(
      "InvalidBlockDeviceMapping",
      `Volume of size ${volumeSize}GB is smaller than snapshot '${snapshot.id}', expect size >= ${snapshot.sizeGiB}GB`,
    );
  }
  const iops = ebs.integer("Iops");
  const throughput = ebs.integer("Throughput");
  checkPerformance(ebs.text("VolumeType") ?? "standard", iops, throughput);
  return {
    deviceName,
    snapshotId: snapshot.id,
    volumeSize,
    volumeType: oneOf(ebs, "VolumeType", ["standard", "io1", "io2", "gp2", "gp3", "sc1", "st1"]) ?? "standard",
    deleteOnTermination: ebs.flag("DeleteOnTermination") ?? true,
    ...(iops === undefined ? {} : { iops }),
    ...(throughput === undefined ? {} : { throughput }),
  };
}

/** @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_EbsBlockDevice.html */
function checkPerformance(type: string, iops: number | undefined, throughput: number | undefined): void {
  if (iops === undefined && (type === "io1" || type === "io2")) {
    throw new AwsFault("MissingParameter", `The parameter iops must be specified for ${type} volumes.`);
  }
  if (iops !== undefined && !["gp3", "io1", "io2"].includes(type)) {
    throw new AwsFault("InvalidParameterCombination", `The parameter iops is not supported for ${type} volumes.`);
  }
  const [least, most] = type === "gp3" ? [3000, 80_000] : type === "io1" ? [100, 64_000] : [100, 256_000];
  if (iops !== undefined && (iops < least || iops > most)) {
    throw new AwsFault("InvalidParameterValue", `Volume iops of ${iops} is not between ${least} and ${most}.`);
  }
  if (throughput === undefined) return;
  if (type !== "gp3") {
    throw new AwsFault("InvalidParameterCombination", `The parameter throughput is not supported for ${type} volumes.`);
  }
  if (throughput < 125 || throughput > 2000 || throughput > (iops ?? 3000) / 4) {
    throw new AwsFault("InvalidParameterValue", "Throughput (MiBps) to iops ratio is too high or out of range.");
  }
}

function checkUefiData(data: string, bootMode: string | undefined): void {
  const wellFormed = data.length <= 64 * 1024 && Buffer.from(data, "base64").toString("base64") === data;
  if (!wellFormed) throw new AwsFault("InvalidParameterValue", "The value for parameter uefiData is invalid.");
  if (bootMode === undefined || bootMode === "legacy-bios") {
    throw new AwsFault("InvalidParameterCombination", "UEFI data needs the boot mode uefi or uefi-preferred.");
  }
}

/** Tags of `TagSpecification.N`, by resource type. Tagging on creation needs the permission to tag. */
export function specifiedTags(call: Ec2Call, allowed: readonly string[]): Partial<Record<string, Map<string, string>>> {
  const byType: Partial<Record<string, Map<string, string>>> = {};
  for (const specification of call.query.structures("TagSpecification")) {
    const type = specification.required("ResourceType");
    if (!allowed.includes(type)) {
      throw new AwsFault(
        "InvalidParameterValue",
        `'${type}' is not a valid taggable resource type for this operation.`,
      );
    }
    if (byType[type] !== undefined) {
      throw new AwsFault(
        "InvalidParameterValue",
        "Same resource type may not be specified more than once in tag specifications",
      );
    }
    byType[type] = readTags(specification);
    authorize(call.caller, "ec2", "CreateTags");
  }
  return byType;
}

export function readTags(query: Query): Map<string, string> {
  const tags = new Map<string, string>();
  for (const tag of query.structures("Tag")) tags.set(tag.text("Key") ?? "", tag.text("Value") ?? "");
  const wrong = checkTags(tags);
  if (wrong !== undefined) throw wrong;
  return tags;
}

function oneOf(query: Query, name: string, values: readonly string[]): string | undefined {
  const value = query.text(name);
  if (value !== undefined && !values.includes(value))
    throw invalidValue(value, name, `Expected one of ${values.join(", ")}.`);
  return value;
}
