/**
 * Manifests and indexes as data: what they point at, and how an index of ours is written.
 * Everything read comes from outside: bounded, checked, never trusted to be what its media type says.
 */
import { createHash } from "node:crypto";
import type { BlobRef, Digest, Platform } from "../images/container.ts";
import { SlipwayError } from "../lib/errors.ts";
import { MiB } from "../lib/units.ts";
import { isDigest } from "./names.ts";
import type { IndexEntry } from "./registry.ts";

export const OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json";
export const OCI_INDEX = "application/vnd.oci.image.index.v1+json";
export const DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json";
export const DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json";

/** All four, always: docker-registry says 404 to an OCI manifest when its type is not in the Accept header. */
export const ACCEPT_MANIFESTS = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST].join(", ");

/** What the distribution specification asks registries to take, and what they do take. */
export const MAX_MANIFEST_BYTES = 4 * MiB;
const MAX_CHILDREN = 1000;

/** A descriptor as it stands in an index, unknown fields kept. */
export type RawDescriptor = Readonly<Record<string, unknown>> & BlobRef & { readonly size: number };

export type ParsedManifest =
  | { readonly kind: "image"; readonly mediaType: string; readonly blobs: readonly BlobRef[]; readonly config: BlobRef }
  | { readonly kind: "index"; readonly mediaType: string; readonly children: readonly RawDescriptor[] };

/** Reads a manifest or an index. @throws SlipwayError `invalid`, `unsupported` */
export function parseManifest(bytes: Uint8Array, mediaType: string, subject: string): ParsedManifest {
  const refuse = (why: string) => new SlipwayError("invalid", `The manifest of ${subject} ${why}`, { subject });
  if (bytes.length > MAX_MANIFEST_BYTES) throw refuse(`is larger than ${MAX_MANIFEST_BYTES} bytes`);
  let parsed: Record<string, unknown>;
  try {
    parsed = JSON.parse(Buffer.from(bytes).toString()) as Record<string, unknown>;
  } catch {
    throw refuse("is not JSON");
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) throw refuse("is not a JSON object");
  if (parsed.mediaType !== undefined && parsed.mediaType !== mediaType) {
    throw refuse(`calls itself ${JSON.stringify(parsed.mediaType)} and is served as ${mediaType}`);
  }
  const list = (value: unknown, field: string): RawDescriptor[] => {
    if (!Array.isArray(value) || value.length > MAX_CHILDREN) throw refuse(`has no usable "${field}"`);
    return value.map((each: unknown, index) => descriptor(each, `${field}[${index}]`, refuse));
  };
  switch (mediaType) {
    case OCI_INDEX:
    case DOCKER_LIST:
      return { kind: "index", mediaType, children: list(parsed.manifests, "manifests") };
    case OCI_MANIFEST:
    case DOCKER_MANIFEST: {
      const config = descriptor(parsed.config, "config", refuse);
      // Foreign layers are kept elsewhere, by licence: a registry need not hold them.
      const layers = list(parsed.layers, "layers").filter((layer) => !isForeign(layer));
      return { kind: "image", mediaType, config, blobs: unique([config, ...layers]) };
    }
    default:
      throw new SlipwayError("unsupported", `The manifest of ${subject} is of type ${mediaType.slice(0, 120)}`, {
        subject,
      });
  }
}

/** What an index lists, in the interface's words. An entry that names no platform is `unknown`. */
export function entriesOf(children: readonly RawDescriptor[]): IndexEntry[] {
  return children.map(({ digest, mediaType, bytes, platform }) => {
    return { digest, mediaType, bytes, platform: platformOf(platform) };
  });
}

/**
 * One index of these entries and of what is kept of the present one.
 * The same content gives the same bytes whatever order it came in.
 */
export function writeIndex(
  entries: readonly IndexEntry[],
  kept: readonly RawDescriptor[],
  annotations: Readonly<Record<string, string>> | undefined,
): { bytes: Uint8Array; mediaType: string; digest: Digest } {
  const descriptors = [
    ...entries.map(({ digest, mediaType, bytes, platform }) => {
      const { architecture, os, variant } = platform;
      return { mediaType, digest, size: bytes, platform: { architecture, os, ...(variant ? { variant } : {}) } };
    }),
    ...kept.map(({ bytes: _, ...raw }) => raw),
  ];
  descriptors.sort((a, b) => compare(sortKey(a), sortKey(b)));
  const notes = Object.entries(annotations ?? {}).sort(([a], [b]) => compare(a, b));
  // A list of Docker manifests stays Docker's own type, as its readers expect; it has no place for annotations.
  const docker = notes.length === 0 && descriptors.every((each) => each.mediaType === DOCKER_MANIFEST);
  const mediaType = docker ? DOCKER_LIST : OCI_INDEX;
  const index = {
    schemaVersion: 2,
    mediaType,
    manifests: descriptors,
    ...(notes.length > 0 ? { annotations: Object.fromEntries(notes) } : {}),
  };
  const bytes = Buffer.from(JSON.stringify(index));
  return { bytes, mediaType, digest: digestOf(bytes) };
}

/** What of the present index stays beside the new entries: other platforms, and what belongs to them. */
export function keptOf(children: readonly RawDescriptor[], entries: readonly IndexEntry[]): RawDescriptor[] {
  const replaced = new Set(entries.map((entry) => platformKey(entry.platform)));
  const given = new Set(entries.map((entry) => entry.digest));
  const named = children.filter(
    (child) => isNamed(child.platform) && !replaced.has(platformKey(platformOf(child.platform))),
  );
  const namedDigests = new Set(named.map((child) => child.digest));
  // Attestations hang on an image by annotation and have no platform of their own.
  const attached = children.filter((child) => {
    if (isNamed(child.platform) || given.has(child.digest)) return false;
    const image = (child.annotations as Record<string, unknown> | undefined)?.["vnd.docker.reference.digest"];
    return image === undefined || given.has(image as Digest) || namedDigests.has(image as Digest);
  });
  return unique([...named, ...attached]);
}

export function platformKey({ os, architecture, variant }: Platform): string {
  // arm64 has one variant, v8, and is written with and without it.
  return `${os}/${architecture}/${architecture === "arm64" && variant === "v8" ? "" : (variant ?? "")}`;
}

export function platformOf(value: unknown): Platform {
  const { architecture, os, variant } = (value ?? {}) as Record<string, unknown>;
  const word = (text: unknown) => (typeof text === "string" && /^[\w.-]{1,40}$/.test(text) ? text : "unknown");
  return { architecture: word(architecture), os: word(os), ...(variant ? { variant: word(variant) } : {}) };
}

export function digestOf(bytes: Uint8Array): Digest {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

function isForeign({ mediaType }: BlobRef): boolean {
  return mediaType.includes(".nondistributable.") || mediaType.includes(".foreign.");
}

function isNamed(platform: unknown): boolean {
  return platformOf(platform).architecture !== "unknown";
}

function descriptor(value: unknown, field: string, refuse: (why: string) => SlipwayError): RawDescriptor {
  if (typeof value !== "object" || value === null) throw refuse(`has no "${field}"`);
  const raw = value as Record<string, unknown>;
  const { digest, size, mediaType } = raw;
  if (!isDigest(digest)) throw refuse(`has no sha256 digest in "${field}"`);
  if (!Number.isSafeInteger(size) || (size as number) < 0) throw refuse(`has no usable size in "${field}"`);
  if (typeof mediaType !== "string" || !/^[\w.+/-]{1,255}$/.test(mediaType))
    throw refuse(`has no media type in "${field}"`);
  return { ...raw, digest, mediaType, size: size as number, bytes: size as number };
}

function sortKey(each: Readonly<Record<string, unknown>>): string {
  return `${platformKey(platformOf(each.platform))} ${String(each.digest)}`;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function unique<T extends { readonly digest: Digest }>(all: readonly T[]): T[] {
  return [...new Map(all.map((each) => [each.digest, each])).values()];
}
