import type { CallContext } from "../lib/call.ts";

/**
 * One container image (one architecture) as a graph of blobs: the thing a registry driver pushes.
 * Opened from an ociarchive, a docker-archive (plain or xz) or an OCI layout directory; knows no registry.
 */
export interface ContainerImage {
  /** Exact bytes to push; `sha256(manifest)` is the digest. */
  readonly manifest: Uint8Array;
  readonly manifestDigest: Digest;
  readonly mediaType: string;
  readonly platform: Platform;
  /** Config first, then layers in order, each once. */
  readonly blobs: readonly BlobRef[];
  /** `sequential`: a blob is reached by decoding what lies before it, so read one at a time, in the order of `blobs`. */
  readonly access?: "random" | "sequential";
  /** Streams a blob; may be called again. The stream fails with `corrupt` if bytes do not match the digest. */
  open(blob: BlobRef, call: CallContext): AsyncIterable<Uint8Array>;
  close(): Promise<void>;
}

/** `sha256:` and 64 hex digits. */
export type Digest = `sha256:${string}`;

export interface BlobRef {
  readonly digest: Digest;
  readonly bytes: number;
  readonly mediaType: string;
}

export interface Platform {
  /** Go's words: amd64, arm64, ppc64le, s390x. */
  readonly architecture: string;
  readonly os: string;
  readonly variant?: string;
}
