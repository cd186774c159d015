import { SlipwayError } from "../../lib/errors.ts";
import type { Arch } from "../../model.ts";
import type { BlobRef, Digest } from "../container.ts";
import { fieldsOf, parseBounded } from "./bounded-json.ts";
import { type BlobSource, DOCKER_MANIFEST, type FoundImage, platformIn, uniqueBlobs } from "./image-parts.ts";
import type { Inventory, StoredFile } from "./inventory.ts";

const CONFIG_TYPE = "application/vnd.docker.container.image.v1+json";
const LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const MAX_LAYERS = 500;

/**
 * The image in a docker-archive (`docker save`, `skopeo copy docker-archive:`).
 *
 * It has no manifest of its own, so one is made as skopeo makes it: Docker's schema 2, the configuration untouched
 * (a health check keeps its meaning), layers gzipped. Uncompressed layers would be simpler and as valid; every pull by
 * every user would move about three times the bytes. The same archive gives the same manifest on one release of Node;
 * after an upgrade of its zlib the digests may differ, the content (the configuration's diff_ids) never does.
 * @throws SlipwayError `invalid`, `corrupt` (a layer is missing or is not what the configuration says), `unsupported`
 */
export function readDockerArchive(inventory: Inventory, arch: Arch, subject: string): FoundImage {
  const refuse = (why: string) => new SlipwayError("invalid", `The docker-archive ${why}`, { subject });
  const list = parseBounded(metadata("manifest.json"), `${subject}: manifest.json`);
  if (!Array.isArray(list) || list.length === 0) throw refuse("lists no image");
  if (list.length > 1)
    throw new SlipwayError("unsupported", `The docker-archive holds ${list.length} images`, { subject });
  const { Config: configName, Layers: layerNames } = fieldsOf(list[0]);
  if (typeof configName !== "string") throw refuse('has no "Config" in manifest.json');
  if (!Array.isArray(layerNames) || layerNames.length > MAX_LAYERS)
    throw refuse('has no usable "Layers" in manifest.json');

  const config = metadata(configName);
  const platform = platformIn(config, arch, subject);
  const configFile = regular(configName);
  const configBlob = { digest: configFile.digest, bytes: config.length, mediaType: CONFIG_TYPE };
  const { diff_ids: diffIds } = fieldsOf(fieldsOf(parseBounded(config, subject)).rootfs);
  if (!Array.isArray(diffIds) || diffIds.length !== layerNames.length) {
    throw refuse("has another number of layers than its configuration");
  }

  const sources = new Map<Digest, BlobSource>([[configBlob.digest, { file: configFile, gzip: false }]]);
  const layers = layerNames.map((name: unknown, at): BlobRef => {
    if (typeof name !== "string") throw refuse(`has no name for layer ${at}`);
    const file = regular(name);
    if (!file.layer) throw new SlipwayError("unsupported", `The docker-archive's layer ${name} is no tar`, { subject });
    if (file.layer.diffId !== diffIds[at]) {
      throw new SlipwayError("corrupt", `Layer ${name} is not the one the configuration names`, { subject });
    }
    const { digest, bytes, packed } = file.layer;
    sources.set(digest, { file, gzip: !packed });
    return { digest, bytes, mediaType: LAYER_TYPE };
  });
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: DOCKER_MANIFEST,
      config: asDescriptor(configBlob),
      layers: layers.map(asDescriptor),
    }),
  );
  return { manifest, mediaType: DOCKER_MANIFEST, platform, blobs: uniqueBlobs([configBlob, ...layers]), sources };

  function regular(name: string): StoredFile {
    const shown = JSON.stringify(name.slice(0, 120));
    if (inventory.irregular(name)) throw refuse(`has a link at ${shown} where a file is needed`);
    const file = inventory.file(name);
    if (!file) throw new SlipwayError("corrupt", `The docker-archive lacks ${shown}`, { subject });
    return file;
  }

  function metadata(name: string): Uint8Array {
    const { content } = regular(name);
    if (!content) throw refuse(`has no JSON of at most 4 MiB at ${JSON.stringify(name.slice(0, 120))}`);
    return content;
  }
}

function asDescriptor({ mediaType, bytes, digest }: BlobRef) {
  return { mediaType, size: bytes, digest };
}
