import { createHash } from "node:crypto";
import { SlipwayError } from "../../lib/errors.ts";
import type { Arch } from "../../model.ts";
import type { BlobRef, Digest, Platform } from "../container.ts";
import { fieldsOf, parseBounded } from "./bounded-json.ts";
import type { StoredFile } from "./inventory.ts";

/** An image found in an archive: what will be pushed, and which file each blob comes from. */
export interface FoundImage {
  readonly manifest: Uint8Array;
  readonly mediaType: string;
  readonly platform: Platform;
  readonly blobs: readonly BlobRef[];
  readonly sources: ReadonlyMap<Digest, BlobSource>;
}

export interface BlobSource {
  readonly file: StoredFile;
  /** The file goes through gzip on its way. */
  readonly gzip: boolean;
}

export const OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json";
export const OCI_INDEX = "application/vnd.oci.image.index.v1+json";
export const DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json";
export const DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json";

/** Go's words for what a compose calls otherwise; the rest are the same in both. */
const GO_ARCH: Readonly<Record<string, string>> = {
  x86_64: "amd64",
  aarch64: "arm64",
  i386: "386",
  i686: "386",
  armhfp: "arm",
  armv7hl: "arm",
};

export function goArch(arch: Arch): string {
  return GO_ARCH[arch] ?? arch;
}

/** The platform an image's configuration names. @throws SlipwayError `invalid` unless it is the artifact's */
export function platformIn(config: Uint8Array, arch: Arch, subject: string): Platform {
  const { architecture, os, variant } = fieldsOf(parseBounded(config, `${subject}: the image's configuration`));
  if (architecture !== goArch(arch)) {
    throw new SlipwayError(
      "invalid",
      `The image says it is for ${JSON.stringify(architecture)}, its compose says ${arch}`,
      {
        subject,
        next: "nothing was pushed; the compose's metadata or the image is wrong",
      },
    );
  }
  if (typeof os !== "string" || !/^[a-z0-9]{1,20}$/.test(os)) {
    throw new SlipwayError("invalid", "The image's configuration names no operating system", { subject });
  }
  const known = typeof variant === "string" && /^[\w.-]{1,20}$/.test(variant);
  return { architecture: goArch(arch), os, ...(known ? { variant } : {}) };
}

export function digestOf(bytes: Uint8Array): Digest {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

/** The blobs in order, each once. */
export function uniqueBlobs(blobs: readonly BlobRef[]): BlobRef[] {
  return [...new Map(blobs.map((blob) => [blob.digest, blob])).values()];
}
