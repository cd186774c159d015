import type { Tag } from "@aws-sdk/client-ec2";
import type { ImageSpec } from "../../model.ts";
import { CloudError } from "../errors.ts";

/**
 * Tags of ours on snapshots and images. What is found again after a crash is found by these.
 * People's own tools look for `Name`, and for Channel, Version, ComposeID, Date and Arch, which come from the spec.
 */
export const KEY = "slipway:key";
export const DISK_KEY = "slipway:disk-key";
export const DISK_BYTES = "slipway:disk-bytes";
/** On everything we made: what `list` asks for. */
export const OWNER = "slipway:owner";
export const OWNER_VALUE = "slipway";
/** On images that were deprecated by hand; the date alone would count only a minute later. */
export const STATE = "slipway:state";
/** On images that have an end-of-life date. */
export const END_OF_LIFE = "slipway:end-of-life";
/** On images that a parameter may name: which. */
export const PARAMETER = "slipway:parameter";
/** On disabled images: who was let in before. `-2`, `-3` … when one tag is too short. */
export const OFFERED = "slipway:offered";

/** A snapshot and its image carry the same, so that either leads to the other. */
export function tagsFor(spec: ImageSpec, diskBytes: number): Record<string, string> {
  const tags: Record<string, string> = {
    ...spec.tags,
    Name: spec.name,
    [OWNER]: OWNER_VALUE,
    [KEY]: spec.key,
    [DISK_KEY]: spec.diskKey,
    [DISK_BYTES]: String(diskBytes),
    ...(spec.aws?.parameter ? { [PARAMETER]: spec.aws.parameter } : {}),
    ...(spec.endOfLife ? { [END_OF_LIFE]: spec.endOfLife } : {}),
  };
  const wrong = problemWith(tags);
  if (wrong) {
    throw new CloudError("invalid", `AWS does not take the tags of ${spec.name}: ${wrong}.`, {
      cloud: "aws",
      operation: "CreateTags",
      subject: spec.name,
      next: "Shorten or leave out tags in the system's configuration.",
    });
  }
  return tags;
}

/** @see https://docs.aws.amazon.com/ebs/latest/APIReference/API_Tag.html; EBS takes one character less than EC2 */
function problemWith(tags: Readonly<Record<string, string>>): string | undefined {
  const entries = Object.entries(tags);
  if (entries.length > 50) return `there are ${entries.length}, the most is 50`;
  for (const [key, value] of entries) {
    if (key.length === 0 || key.length > 127 || /^aws:/i.test(key)) return `"${key.slice(0, 40)}" is no key`;
    if (value.length > 255) return `the value of "${key}" is longer than 255 characters`;
  }
  return undefined;
}

export function toAws(tags: Readonly<Record<string, string>>): Tag[] {
  return Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
}

export function fromAws(tags: readonly Tag[] | undefined): Record<string, string> {
  return Object.fromEntries((tags ?? []).map(({ Key = "", Value = "" }) => [Key, Value]));
}
