import type { ArchitectureValues, EbsBlockDevice, Image, RegisterImageRequest, Tag } from "@aws-sdk/client-ec2";
import type { CallContext } from "../../lib/call.ts";
import { codeOf } from "../../lib/errors.ts";
import { GiB } from "../../lib/units.ts";
import type { Arch, CloudImage, ImageSpec, Region, StagedDisk } from "../../model.ts";
import { CloudError } from "../errors.ts";
import { type Account, isReady, rootSnapshot } from "./account.ts";
import { fromAws, KEY, tagsFor, toAws } from "./tags.ts";
import { until } from "./waiting.ts";

/** AWS's words for the architectures it has. */
const ARCHITECTURES: Readonly<Record<string, ArchitectureValues>> = { x86_64: "x86_64", aarch64: "arm64" };

/** Makes the AMI in the staged disk's region and returns when DescribeImages shows it available, with its tags. */
export async function register(
  account: Account,
  staged: StagedDisk,
  spec: ImageSpec,
  call: CallContext,
): Promise<CloudImage> {
  const { region } = staged;
  const request = registration(staged, spec);
  let made: string | undefined;
  try {
    const answer = await account.connection.ec2(region, "RegisterImage", spec.name, call, (ec2, send) =>
      ec2.registerImage(request, send),
    );
    made = answer.ImageId;
  } catch (error) {
    // Ours, if an answer was lost or another process was quicker; else it is found to be foreign below.
    if (codeOf(error) !== "already-exists") throw error;
  }
  const image = await until(
    async () => {
      const named = await account.imagesNamed(spec.name, region, call);
      const found = named.find((image) => image.ImageId === made) ?? pickMine(named, spec, region, [staged.id]);
      if (found?.State === "failed") throw gaveUp(found, region);
      return found && isReady(found) ? found : undefined;
    },
    {
      what: `The image ${spec.name}`,
      operation: "RegisterImage",
      region,
      deadlineMs: account.pace.registerMs,
      pace: account.pace,
      signal: call.signal,
    },
  );
  await ensureTags(account, [{ id: image.ImageId ?? "", tags: image.Tags }], spec, staged.diskBytes, region, call);
  return account.toCloudImage(image, spec, region, call);
}

/** Tags come with the creation; where they did not, or were changed, they are written. Safe to repeat. */
export async function ensureTags(
  account: Account,
  resources: readonly { readonly id: string; readonly tags: readonly Tag[] | undefined }[],
  spec: ImageSpec,
  diskBytes: number,
  region: Region,
  call: CallContext,
): Promise<void> {
  const wanted = tagsFor(spec, diskBytes);
  const lacking = resources.filter(({ tags }) => {
    const has = fromAws(tags);
    return Object.entries(wanted).some(([key, value]) => has[key] !== value);
  });
  if (lacking.length === 0) return;
  const Resources = lacking.map(({ id }) => id);
  await account.connection.ec2(region, "CreateTags", spec.name, call, (ec2, send) =>
    ec2.createTags({ Resources, Tags: toAws(wanted) }, send),
  );
}

/**
 * Whether an image of the spec's name is the spec's: it carries the key; or it carries none, because its tags have not
 * arrived, and boots from a snapshot of ours.
 */
export function isMine(image: Image, spec: ImageSpec, snapshots: readonly (string | undefined)[]): boolean {
  const key = fromAws(image.Tags)[KEY];
  return key === undefined ? snapshots.includes(rootSnapshot(image) ?? "none") : key === spec.key;
}

/**
 * The image among those of one name that is the spec's.
 * @throws CloudError `already-exists` if the name is taken by another
 */
export function pickMine(
  images: readonly Image[],
  spec: ImageSpec,
  region: Region,
  snapshots: readonly string[] = [],
): Image | undefined {
  const mine = images.filter((image) => isMine(image, spec, snapshots));
  const [foreign] = images.filter((image) => !mine.includes(image));
  if (mine.length === 0 && foreign) {
    throw new CloudError("already-exists", `The name ${spec.name} is taken in ${region}: ${foreignReason(foreign)}.`, {
      cloud: "aws",
      operation: "DescribeImages",
      region,
      subject: foreign.ImageId,
      next: "Find out whose it is. Remove or rename it there, or change the name pattern of the system.",
    });
  }
  return mine.find(isReady) ?? mine[0];
}

export function foreignReason(image: Image): string {
  const key = fromAws(image.Tags)[KEY];
  return key ? `${image.ImageId} has the key ${key}` : `${image.ImageId} carries no key`;
}

/**
 * Flags as Fedora's images have them, unless the spec says otherwise: ENA and SR-IOV for instances with enhanced
 * networking, metadata only with a token, UEFI where there is nothing else and where the instance type prefers it.
 */
function registration(staged: StagedDisk, spec: ImageSpec): RegisterImageRequest {
  const Architecture = architectureOf(spec.arch);
  const { bootMode, imds = "v2.0", tpm, ena = true, sriov = true, uefiData } = spec.aws ?? {};
  return {
    Name: spec.name,
    // AMI descriptions take 255 printable ASCII characters.
    Description: spec.description.replace(/[^\x20-\x7e]/g, "?").slice(0, 255),
    Architecture,
    VirtualizationType: "hvm",
    RootDeviceName: "/dev/sda1",
    BlockDeviceMappings: [{ DeviceName: "/dev/sda1", Ebs: rootVolume(staged, spec) }],
    EnaSupport: ena,
    ...(sriov ? { SriovNetSupport: "simple" } : {}),
    BootMode: bootMode ?? (Architecture === "arm64" ? "uefi" : "uefi-preferred"),
    ...(imds === "v2.0" ? { ImdsSupport: imds } : {}),
    ...(tpm ? { TpmSupport: tpm } : {}),
    ...(uefiData ? { UefiData: uefiData } : {}),
    TagSpecifications: [{ ResourceType: "image", Tags: toAws(tagsFor(spec, staged.diskBytes)) }],
  };
}

/** The disk's size is known only now; a smaller volume would be refused in words that name neither. */
function rootVolume(staged: StagedDisk, spec: ImageSpec): EbsBlockDevice {
  const { type = "gp3", sizeGiB, iops, throughput } = spec.aws?.volume ?? {};
  const least = Math.ceil(staged.diskBytes / GiB);
  if (sizeGiB !== undefined && sizeGiB < least) {
    throw new CloudError("invalid", `A root volume of ${sizeGiB} GiB is too small for a disk of ${least} GiB.`, {
      cloud: "aws",
      operation: "RegisterImage",
      region: staged.region,
      subject: spec.name,
      next: "Raise aws.volume.size_gib in the system's rule, or leave it out.",
    });
  }
  return {
    SnapshotId: staged.id,
    VolumeType: type,
    DeleteOnTermination: true,
    ...(sizeGiB === undefined ? {} : { VolumeSize: sizeGiB }),
    ...(iops === undefined ? {} : { Iops: iops }),
    ...(throughput === undefined ? {} : { Throughput: throughput }),
  };
}

export function architectureOf(arch: Arch): ArchitectureValues {
  const known = ARCHITECTURES[arch];
  if (known) return known;
  throw new CloudError("unsupported", `AWS has no machines of the architecture ${arch}.`, {
    cloud: "aws",
    operation: "RegisterImage",
    next: `Select only ${Object.keys(ARCHITECTURES).join(" and ")} images for this target.`,
  });
}

export function gaveUp(image: Image, region: Region): CloudError {
  const reason = image.StateReason?.Message ?? "it does not say why";
  return new CloudError("unavailable", `AWS gave up making ${image.ImageId} in ${region}: ${reason}.`, {
    cloud: "aws",
    operation: "CopyImage",
    region,
    subject: image.ImageId,
    next: "The next attempt makes it anew.",
  });
}
