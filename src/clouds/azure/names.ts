/** What things of ours are called in Azure, and how they are recognised again. */
import type { Arch, CloudImage, ImageKey, ImageSpec, LifecycleState, Region } from "../../model.ts";
import { CloudError } from "../errors.ts";
import { AZURE_LIMITS, type AzureOptions } from "./options.ts";

/** One version of one definition in the target's gallery. */
export interface VersionRef {
  readonly definition: string;
  readonly version: string;
}

export type AzureArch = "x64" | "Arm64";

/** @throws CloudError `unsupported` for an architecture Azure has no machines of */
export function azureArch(arch: Arch): AzureArch {
  if (arch === "x86_64") return "x64";
  if (arch === "aarch64") return "Arm64";
  throw new CloudError("unsupported", `Azure has no ${arch} machines.`, {
    cloud: "azure",
    operation: "register",
    subject: arch,
    next: "Select x86_64 and aarch64 only for this target.",
  });
}

/** `East US` (a publishing profile's word) and `eastus` (everybody else's) are one region. */
export function regionName(text: string): Region {
  return text.replaceAll(" ", "").toLowerCase();
}

// A gallery's rules: @see https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules
const DEFINITION = /^[A-Za-z0-9][\w.-]{0,78}[A-Za-z0-9]$|^[A-Za-z0-9]$/;
const VERSION = /^(\d{1,10})\.(\d{1,10})\.(\d{1,10})$/;
const UINT32 = 4_294_967_295;

/** @throws CloudError `invalid` when the spec names no definition and version, or ones Azure does not take */
export function refOf(spec: ImageSpec): VersionRef {
  const { definition = "", version = "" } = spec;
  const parts = VERSION.exec(version)?.slice(1).map(Number);
  if (DEFINITION.test(definition) && parts?.every((part) => part <= UINT32)) return { definition, version };
  throw new CloudError("invalid", `"${definition}" version "${version}" cannot be named in a gallery.`, {
    cloud: "azure",
    operation: "register",
    subject: spec.name,
    next: "A definition has letters, digits, dots, dashes and underscores; a version is three whole numbers, each below 2^32.",
  });
}

/** Reads what `imageId` wrote, and a resource id as the portal shows it. */
export function refOfId(id: string): VersionRef | undefined {
  const found = /\/images\/([^/]+)\/versions\/([^/]+)$/i.exec(id);
  return found ? { definition: found[1]!, version: found[2]! } : undefined;
}

/** The id a user types: the community gallery's where there is one, else the resource's. */
export function imageId(options: AzureOptions, ref: VersionRef): string {
  if (!options.publicGalleryName) return resourceId(options, ref);
  return `/CommunityGalleries/${options.publicGalleryName}/Images/${ref.definition}/Versions/${ref.version}`;
}

/** The id Resource Manager knows, whatever users are shown. */
export function resourceId(options: AzureOptions, ref: VersionRef): string {
  return `${galleryId(options)}/images/${ref.definition}/versions/${ref.version}`;
}

export function galleryId(options: AzureOptions): string {
  return `${groupId(options)}/providers/Microsoft.Compute/galleries/${options.gallery}`;
}

export function storageAccountId(options: AzureOptions): string {
  return `${groupId(options)}/providers/Microsoft.Storage/storageAccounts/${options.storageAccount}`;
}

export function groupId(options: AzureOptions): string {
  return `/subscriptions/${options.subscriptionId}/resourceGroups/${options.resourceGroup}`;
}

/** Tags of a version. The compose's facts keep their own names beside ours. */
export const TAG = {
  key: "slipway-key",
  disk: "slipway-disk",
  owner: "slipway-owner",
  name: "slipway-name",
  arch: "slipway-arch",
  /** `deprecated`; absent otherwise, because Azure itself says whether a version is in latest. */
  state: "slipway-state",
} as const;

/** @throws CloudError `invalid` for tags Resource Manager would refuse */
export function tagsOf(spec: ImageSpec, owner: string): Record<string, string> {
  const tags: Record<string, string> = {
    ...spec.tags,
    [TAG.key]: spec.key,
    [TAG.disk]: spec.diskKey,
    [TAG.owner]: owner,
    [TAG.name]: spec.name,
    [TAG.arch]: spec.arch,
  };
  const wrong = Object.entries(tags).find(
    ([name, value]) => name.length > 512 || /[<>%&\\?/]/.test(name) || value.length > 256,
  );
  if (wrong || Object.keys(tags).length > AZURE_LIMITS.tagsPerResource) {
    throw new CloudError("invalid", "Azure does not take the image's tags.", {
      cloud: "azure",
      operation: "register",
      subject: wrong?.[0] ?? spec.name,
      next: "At most 50 tags; names without < > % & \\ ? / and up to 512 characters, values up to 256.",
    });
  }
  return tags;
}

/** Resource Manager keeps the capitals of a tag's name and compares without them. */
export function tag(tags: Readonly<Record<string, string>> | undefined, name: string): string | undefined {
  const found = Object.keys(tags ?? {}).find((one) => one.toLowerCase() === name.toLowerCase());
  return found === undefined ? undefined : tags?.[found];
}

export function cloudImage(
  options: AzureOptions,
  ref: VersionRef,
  tags: Readonly<Record<string, string>> | undefined,
  state: LifecycleState,
  region: Region,
): CloudImage {
  return {
    key: (tag(tags, TAG.key) ?? "") as ImageKey,
    region,
    id: imageId(options, ref),
    name: tag(tags, TAG.name) ?? `${ref.definition}/${ref.version}`,
    state,
  };
}

export function blobName(diskKey: ImageKey): string {
  return `${diskKey}.vhd`;
}

/**
 * Metadata of a staged blob. Names are C# identifiers, which have no dash.
 * @see https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata
 */
export const META = {
  key: "slipway_key",
  owner: "slipway_owner",
  /** Which upload fills the blob; also its sequence number, which every page write names. */
  upload: "slipway_upload",
  /** Set last: SHA-256 over the digests of all blocks sent. A blob without it is half-made. */
  complete: "slipway_complete",
} as const;
