import { createHash } from "node:crypto";
import type { BlobRef, ContainerImage, Digest } from "../../images/container.ts";
import { digestOf, OCI_MANIFEST } from "../manifests.ts";

export interface ImageRecipe {
  /** Bytes of each layer. */
  readonly layers: readonly number[];
  readonly architecture?: string;
  /** Other seed, other bytes. */
  readonly seed?: number;
}

/** A small image made of nothing but bytes: enough for a registry, not for a container. */
export function containerImage({ layers, architecture = "amd64", seed = 1 }: ImageRecipe): ContainerImage {
  const contents = new Map<Digest, Uint8Array>();
  const add = (bytes: Uint8Array, mediaType: string): BlobRef => {
    const digest = digestOf(bytes);
    contents.set(digest, bytes);
    return { digest, bytes: bytes.length, mediaType };
  };
  const tars = layers.map((size, index) => noise(size, `${seed} ${architecture} ${index}`));
  const config = add(
    Buffer.from(
      JSON.stringify({
        architecture,
        os: "linux",
        rootfs: { type: "layers", diff_ids: tars.map((tar) => digestOf(tar)) },
      }),
    ),
    "application/vnd.oci.image.config.v1+json",
  );
  const refs = tars.map((tar) => add(tar, "application/vnd.oci.image.layer.v1.tar"));
  const descriptor = ({ digest, bytes, mediaType }: BlobRef) => ({ mediaType, digest, size: bytes });
  const manifest = Buffer.from(
    JSON.stringify({
      ...{ schemaVersion: 2, mediaType: OCI_MANIFEST },
      ...{ config: descriptor(config), layers: refs.map(descriptor) },
    }),
  );
  return {
    manifest,
    manifestDigest: digestOf(manifest),
    mediaType: OCI_MANIFEST,
    platform: { architecture, os: "linux" },
    blobs: [config, ...refs],
    async *open(blob) {
      yield contents.get(blob.digest)!;
    },
    async close() {},
  };
}

/** Bytes that do not repeat within a block of SHA-256's, the same for the same name. */
function noise(size: number, name: string): Uint8Array {
  const bytes = Buffer.alloc(size);
  const seed = createHash("sha256").update(name).digest();
  for (let at = 0; at < size; at += seed.length) {
    seed.writeUInt32LE(at, 0);
    seed.copy(bytes, at);
  }
  return bytes;
}
