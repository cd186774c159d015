import type { ArchitectureValues, Image, RegisterImageRequest } from "@aws-sdk/client-ec2";
import type { CallContext } from "../../lib/call.ts";
import { codeOf } from "../../lib/errors.ts";
import type { Arch, CloudImage, ImageSpec, Region, StagedDisk } from "../../model.ts";
import { CloudError } from "../errors.ts";
import { type Account, isReady } from "./account.ts";
import { fromAws, KEY, tagsFor, toAws } from "./tags.ts";
import { until } from "./waiting.ts";

/** AWS's words for the architectures it has. */
const ARCHITECTURES: Readonly<Record<string, ArchitectureValues>> = { x86_64: "x86_64", aarch64: "arm64" };

/** Makes the AMI in the staged disk's region and returns when DescribeImages shows it available. */
export async function register(
  account: Account,
  staged: StagedDisk,
  spec: ImageSpec,
  call: CallContext,
): Promise<CloudImage> {
  const { region } = staged;
  const request = registration(staged, spec);
  try {
    await account.connection.ec2(region, "RegisterImage", spec.name, call, (ec2, send) =>
      ec2.registerImage(request, send),
    );
  } catch (error) {
    // Ours, if an answer was lost or another process was quicker; else it is found to be foreign below.
    if (codeOf(error) !== "already-exists") throw error;
  }
  const image = await until(
    async () => {
      const found = pickMine(await account.imagesNamed(spec.name, region, call), spec, region);
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
  return account.toCloudImage(image, region, call);
}

/**
 * The image among those of one name that has our key.
 * @throws CloudError `already-exists` if the name is taken by another
 */
export function pickMine(images: readonly Image[], spec: ImageSpec, region: Region): Image | undefined {
  const mine = images.filter((image) => fromAws(image.Tags)[KEY] === spec.key);
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
 * Flags as Fedora's images have them: ENA and SR-IOV for instances with enhanced networking, metadata only with a
 * token, UEFI where there is nothing else and where the instance type prefers it.
 */
function registration(staged: StagedDisk, spec: ImageSpec): RegisterImageRequest {
  const Architecture = architectureOf(spec.arch);
  return {
    Name: spec.name,
    // AMI descriptions take 255 printable ASCII characters.
    Description: spec.description.replace(/[^\x20-\x7e]/g, "?").slice(0, 255),
    Architecture,
    VirtualizationType: "hvm",
    RootDeviceName: "/dev/sda1",
    BlockDeviceMappings: [
      { DeviceName: "/dev/sda1", Ebs: { SnapshotId: staged.id, VolumeType: "gp3", DeleteOnTermination: true } },
    ],
    EnaSupport: true,
    SriovNetSupport: "simple",
    BootMode: Architecture === "arm64" ? "uefi" : "uefi-preferred",
    ImdsSupport: "v2.0",
    TagSpecifications: [{ ResourceType: "image", Tags: toAws(tagsFor(spec, staged.diskBytes)) }],
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
