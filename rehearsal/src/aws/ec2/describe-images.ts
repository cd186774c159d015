import { AwsFault } from "../fault.ts";
import type { AwsImage } from "../state.ts";
import type { XmlValue } from "../xml.ts";
import { type Ec2Call, type Ec2Operation, findImage, imageNotFound, maySee } from "./call.ts";
import { applyFilters, type FilterFields, moment, paginate, tagSet } from "./list.ts";

const FIELDS: FilterFields<AwsImage> = {
  architecture: (image) => [image.architecture],
  "block-device-mapping.snapshot-id": (image) => image.mappings.map((mapping) => mapping.snapshotId),
  "boot-mode": (image) => [image.bootMode],
  "creation-date": (image) => [moment(image.createdAt)],
  description: (image) => [image.description],
  "image-id": (image) => [image.id],
  "image-type": () => ["machine"],
  "is-public": (image) => [String(image.permissions.has("all"))],
  name: (image) => [image.name],
  "owner-id": (image) => [image.owner],
  "root-device-name": (image) => [image.rootDeviceName],
  "root-device-type": () => ["ebs"],
  "source-image-id": (image) => [image.source?.imageId],
  "source-image-region": (image) => [image.source?.region],
  state: (image) => [image.state],
  "virtualization-type": (image) => [image.virtualizationType],
};

export const describeImages: Ec2Operation = (call) => {
  const { query, caller } = call;
  const ids = query.list("ImageId");
  if (ids.length > 0 && query.text("MaxResults") !== undefined) {
    throw new AwsFault(
      "InvalidParameterCombination",
      "The parameter imageIdSet cannot be used with the parameter maxResults",
    );
  }
  const images = ids.length > 0 ? ids.map((id) => byId(call, id)) : visible(call);
  const owners = query.list("Owner").map((owner) => (owner === "self" ? caller.account : owner));
  const executable = query.list("ExecutableBy");
  const listed = images.filter(
    (image) =>
      (image.state !== "disabled" || query.flag("IncludeDisabled") === true) &&
      (owners.length === 0 || owners.includes(image.owner)) &&
      (executable.length === 0 ||
        executable.some((who) => image.permissions.has(who === "self" ? caller.account : who))),
  );
  const { page, nextToken } = paginate(query, applyFilters(query, listed, FIELDS, caller.account), {
    min: 1,
    max: 1000,
  });
  return { imagesSet: page.map((image) => describe(call, image)), nextToken };
};

function byId(call: Ec2Call, id: string): AwsImage {
  const image = findImage(call, id);
  if (image.state === "deregistered") throw imageNotFound(id);
  return image;
}

/** Deprecated images of others are left out of lists unless asked for. */
function visible(call: Ec2Call): AwsImage[] {
  const { caller, now, query } = call;
  return call.state.images(caller.region).filter((image) => {
    const deprecated = image.deprecateAt !== undefined && image.deprecateAt <= now;
    const hidden = deprecated && image.owner !== caller.account && query.flag("IncludeDeprecated") !== true;
    return image.visibleAt <= now && maySee(call, image) && !hidden;
  });
}

function describe(call: Ec2Call, image: AwsImage): XmlValue {
  return {
    imageId: image.id,
    imageLocation: `${image.owner}/${image.name}`,
    imageState: image.state,
    imageOwnerId: image.owner,
    creationDate: moment(image.createdAt),
    isPublic: image.permissions.has("all"),
    architecture: image.architecture,
    imageType: "machine",
    platformDetails: "Linux/UNIX",
    usageOperation: "RunInstances",
    name: image.name,
    description: image.description,
    rootDeviceType: "ebs",
    rootDeviceName: image.rootDeviceName,
    blockDeviceMapping: image.mappings.map((mapping) => describeMapping(call, image, mapping)),
    virtualizationType: image.virtualizationType,
    hypervisor: "xen",
    enaSupport: image.enaSupport ? true : undefined,
    sriovNetSupport: image.sriovNetSupport,
    bootMode: image.bootMode,
    tpmSupport: image.tpmSupport,
    imdsSupport: image.imdsSupport,
    deprecationTime: image.deprecateAt === undefined ? undefined : moment(image.deprecateAt),
    sourceImageId: image.source?.imageId,
    sourceImageRegion: image.source?.region,
    deregistrationProtection: protectionOf(image),
    stateReason:
      image.stateMessage === undefined ? undefined : { code: "Client.InternalError", message: image.stateMessage },
    tagSet: image.owner === call.caller.account ? tagSet(image.tags) : undefined,
  };
}

export function protectionOf({ protection }: AwsImage): string {
  if (protection?.on !== true) return "disabled";
  return protection.cooldown ? "enabled-with-cooldown" : "enabled-without-cooldown";
}

export function describeMapping(call: Ec2Call, image: AwsImage, mapping: AwsImage["mappings"][number]): XmlValue {
  const snapshot = call.state.snapshot(image.region, mapping.snapshotId);
  return {
    deviceName: mapping.deviceName,
    ebs: {
      deleteOnTermination: mapping.deleteOnTermination,
      // A copy names its snapshot only when it is there.
      snapshotId: image.state === "pending" ? undefined : mapping.snapshotId,
      volumeSize: mapping.volumeSize,
      volumeType: mapping.volumeType,
      iops: mapping.iops,
      throughput: mapping.throughput,
      encrypted: snapshot?.encrypted ?? false,
    },
  };
}
