/**
 * What Slipway does with an OCI container registry. It holds a graph (index → manifests → blobs), not a disk, so it
 * has an interface of its own beside `Cloud`. "registry" always means a container registry here.
 *
 * Promises, tested once for all in `testing/contract.ts`: convergent (every call may be repeated), nothing is tagged
 * before everything below it is there, blobs the registry already has are not sent, digests are always checked.
 */
import type { BlobRef, ContainerImage, Digest, Platform } from "../images/container.ts";
import type { CallContext } from "../lib/call.ts";
import type { ErrorCode } from "../lib/errors.ts";

export interface Registry {
  /** Host and optional path prefix: `quay.io/fedora`. */
  readonly url: string;

  /** Credentials work and the repositories may be pushed to. Creates nothing. */
  check(repositories: readonly string[], call: CallContext): Promise<RegistryFinding[]>;
  /** What a tag or digest points at; undefined if nothing. */
  find(repository: string, reference: string, call: CallContext): Promise<FoundManifest | undefined>;
  /** Blobs, then the manifest by digest. No tag. Sends only what is missing. */
  push(repository: string, image: ContainerImage, call: PushContext): Promise<PushedManifest>;
  /**
   * Writes one index with the given manifests under the tags, in the tags' order (full version first, floating last).
   * With `keepOthers`, architectures that the first tag's present index has and `entries` lacks are kept: an
   * incomplete compose never takes an architecture away from users. Same content: same digest, nothing written.
   */
  joinIndex(
    repository: string,
    entries: readonly IndexEntry[],
    tags: readonly string[],
    options: JoinOptions,
    call: CallContext,
  ): Promise<JoinedIndex>;
  /**
   * Registry-side copy (cross-repository mount where possible) of a manifest or a whole index from another registry,
   * with what refers to it: referrers, and cosign's `sha256-….sig`, `.att` and `.sbom`. Tags come last.
   * @throws RegistryError `conflict` if a cosign tag there has signatures that the copy would take away
   */
  copy(
    from: Registry,
    source: { repository: string; reference: string },
    repository: string,
    tags: readonly string[],
    call: PushContext,
  ): Promise<Digest>;
  /**
   * Pushes an artifact (signature, attestation, SBOM) that refers to a manifest of the repository. The same artifact
   * has the same digest and is there once, however often it is attached. A registry without the referrers API gets the
   * fallback tag `sha256-<hex>`, an index in which other writers' entries stay.
   * @throws RegistryError `not-found` if the subject is not there, `already-exists` if the fallback tag is no index
   */
  attach(repository: string, subject: Digest, artifact: NewReferrer, call: CallContext): Promise<Referrer>;
  /** What refers to a manifest, whether that is there or not; of one artifact type if it is given. */
  referrers(
    repository: string,
    subject: Digest,
    artifactType: string | undefined,
    call: CallContext,
  ): Promise<Referrer[]>;
  /** Points a tag at a manifest that is already there. */
  tag(repository: string, digest: Digest, tag: string, call: CallContext): Promise<void>;
  /**
   * Takes a tag away and leaves what it points at. A tag that is not there is a success.
   * @throws RegistryError `unsupported` from a registry that deletes by digest only
   */
  untag(repository: string, tag: string, call: CallContext): Promise<void>;
  tags(repository: string, call: CallContext): Promise<string[]>;
  /** Removes a manifest by digest; gone already is a success. */
  remove(repository: string, digest: Digest, call: CallContext): Promise<void>;
  /** Exact bytes of a manifest or blob, for copying and for verification. */
  manifest(
    repository: string,
    reference: string,
    call: CallContext,
  ): Promise<{ bytes: Uint8Array; mediaType: string; digest: Digest } | undefined>;
  blob(repository: string, blob: BlobRef, call: CallContext): AsyncIterable<Uint8Array>;
  close(): Promise<void>;
}

export interface RegistryFinding {
  readonly severity: "error" | "warning" | "info";
  readonly subject: string;
  readonly message: string;
  readonly next?: string;
  readonly code?: ErrorCode;
}

export interface FoundManifest {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: number;
  /** For an index: what it lists. */
  readonly entries?: readonly IndexEntry[];
}

export interface PushedManifest {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: number;
  readonly platform: Platform;
  /** Bytes that went over the wire; 0 when everything was there. */
  readonly sentBytes: number;
}

export interface IndexEntry {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: number;
  readonly platform: Platform;
}

/** Small things, held in memory. Nothing in it may depend on the time, or it would be another artifact each time. */
export interface NewReferrer {
  /** `application/vnd.in-toto+json`, `application/vnd.dev.sigstore.bundle.v0.3+json` … */
  readonly artifactType: string;
  readonly blobs: readonly {
    readonly bytes: Uint8Array;
    readonly mediaType: string;
    readonly annotations?: Readonly<Record<string, string>>;
  }[];
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface Referrer {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: number;
  /** Empty where its writer told none. */
  readonly artifactType: string;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface JoinOptions {
  readonly keepOthers: boolean;
  /** Annotations of the index; same content gives the same digest, so no timestamps here. */
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface JoinedIndex {
  readonly digest: Digest;
  readonly tags: readonly string[];
  /** False if every tag already pointed at this digest. */
  readonly changed: boolean;
}

export interface PushContext extends CallContext {
  readonly onProgress?: (progress: { doneBytes: number; totalBytes: number; sentBytes: number }) => void;
}
