import { SlipwayError } from "../../lib/errors.ts";
import type { Arch } from "../../model.ts";
import type { BlobRef, Digest } from "../container.ts";
import { fieldsOf, parseBounded } from "./bounded-json.ts";
import {
  type BlobSource,
  DOCKER_LIST,
  DOCKER_MANIFEST,
  type FoundImage,
  goArch,
  OCI_INDEX,
  OCI_MANIFEST,
  platformIn,
  uniqueBlobs,
} from "./image-parts.ts";
import type { Inventory, StoredFile } from "./inventory.ts";

const MAX_LAYERS = 500;
const MAX_ENTRIES = 1000;
const MAX_DEPTH = 3;

interface Descriptor extends BlobRef {
  readonly architecture?: string;
}

/**
 * The image of one architecture in an OCI image layout; the manifest and all blobs go out as they are.
 * @throws SlipwayError `invalid`, `corrupt` (a blob is missing or is not what its name says), `unsupported`
 * @see https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md
 */
export function readOciLayout(inventory: Inventory, arch: Arch, subject: string): FoundImage {
  const refuse = (why: string) => new SlipwayError("invalid", `The OCI layout ${why}`, { subject });
  const layout = fieldsOf(json(inventory, "oci-layout", subject));
  if (!/^1\.\d/.test(String(layout.imageLayoutVersion))) throw refuse(`has version ${layout.imageLayoutVersion}`);

  const entry = choose(json(inventory, "index.json", subject), 0);
  const file = blobFile(inventory, entry, subject);
  const manifest = contentOf(file, subject);
  const fields = fieldsOf(parseBounded(manifest, `${subject}: the manifest`));
  if (fields.mediaType !== undefined && fields.mediaType !== entry.mediaType)
    throw refuse("disagrees about a manifest's type");
  const config = descriptor(fields.config, "config");
  if (!Array.isArray(fields.layers) || fields.layers.length > MAX_LAYERS)
    throw refuse("has a manifest without usable layers");
  const layers = fields.layers.map((layer: unknown, at) => descriptor(layer, `layers[${at}]`));
  const blobs = uniqueBlobs([config, ...layers.filter((layer) => !isForeign(layer))]);
  const sources = new Map<Digest, BlobSource>(
    blobs.map((blob) => [blob.digest, { file: blobFile(inventory, blob, subject), gzip: false }]),
  );
  const platform = platformIn(contentOf(sources.get(config.digest)!.file, subject), arch, subject);
  return { manifest, mediaType: entry.mediaType, platform, blobs, sources };

  /** The one entry for our architecture; indexes within the index are looked into. */
  function choose(index: unknown, depth: number): Descriptor {
    const { manifests } = fieldsOf(index);
    if (depth >= MAX_DEPTH) throw refuse("nests indexes too deeply");
    if (!Array.isArray(manifests) || manifests.length === 0 || manifests.length > MAX_ENTRIES) {
      throw refuse("lists no image");
    }
    const entries = manifests.map((each: unknown, at) => descriptor(each, `manifests[${at}]`));
    const ours = entries.filter(({ architecture }) => architecture === goArch(arch));
    // An entry without a platform is what most tools write for a single image; its configuration will tell.
    const candidates = uniqueBlobs(ours.length > 0 ? ours : entries.filter((each) => each.architecture === undefined));
    const [found, second] = candidates;
    if (!found) throw refuse(`has no image for ${goArch(arch)}`);
    if (second) throw refuse(`has ${candidates.length} images for ${goArch(arch)}; one is expected`);
    if (found.mediaType === OCI_INDEX || found.mediaType === DOCKER_LIST) {
      const inner = contentOf(blobFile(inventory, found, subject), subject);
      return choose(parseBounded(inner, `${subject}: an index`), depth + 1);
    }
    if (found.mediaType !== OCI_MANIFEST && found.mediaType !== DOCKER_MANIFEST) {
      throw new SlipwayError("unsupported", `The OCI layout holds a ${found.mediaType}`, { subject });
    }
    return found;
  }

  function descriptor(value: unknown, field: string): Descriptor {
    const { digest, size, mediaType, platform } = fieldsOf(value);
    if (typeof digest !== "string" || !/^sha256:[0-9a-f]{64}$/.test(digest))
      throw refuse(`has no sha256 digest in ${field}`);
    if (typeof size !== "number" || !Number.isSafeInteger(size) || size < 0)
      throw refuse(`has no usable size in ${field}`);
    if (typeof mediaType !== "string" || !/^[\w.+/-]{1,255}$/.test(mediaType))
      throw refuse(`has no media type in ${field}`);
    const { architecture } = fieldsOf(platform);
    const known = typeof architecture === "string" && architecture !== "" ? { architecture } : {};
    return { digest: digest as Digest, bytes: size, mediaType, ...known };
  }
}

/** Layers that may not be given away: kept elsewhere, by licence. */
function isForeign({ mediaType }: BlobRef): boolean {
  return mediaType.includes(".nondistributable.") || mediaType.includes(".foreign.");
}

function blobFile(inventory: Inventory, blob: BlobRef, subject: string): StoredFile {
  const name = `blobs/sha256/${blob.digest.slice("sha256:".length)}`;
  const corrupt = (why: string) =>
    new SlipwayError("corrupt", `The OCI layout's blob ${blob.digest} ${why}`, { subject });
  if (inventory.irregular(name)) throw new SlipwayError("invalid", `The OCI layout's ${name} is a link`, { subject });
  const file = inventory.file(name);
  if (!file) throw corrupt("is missing");
  if (file.bytes !== blob.bytes) throw corrupt(`has ${file.bytes} bytes instead of ${blob.bytes}`);
  if (file.digest !== blob.digest) throw corrupt(`has digest ${file.digest}`);
  return file;
}

function json(inventory: Inventory, name: string, subject: string): unknown {
  const file = inventory.file(name);
  if (!file) throw new SlipwayError("invalid", `The OCI layout has no ${name}`, { subject });
  return parseBounded(contentOf(file, subject), `${subject}: ${name}`);
}

function contentOf(file: StoredFile, subject: string): Uint8Array {
  if (file.content) return file.content;
  throw new SlipwayError("invalid", `${file.name} is no JSON of at most 4 MiB`, { subject });
}
