/**
 * The nouns of Slipway as types. Imports nothing; everyone may import it.
 *
 * event     one message that arrived
 * compose   one coherent, immutable output of a distribution build
 * artifact  one file a compose produced: URL, digest, size, architecture, type
 * system    a distribution's data: which composes, which artifacts, which targets, which names
 * target    where to publish: cloud + account + regions
 * disk image / disk format   the bytes of a bootable disk / raw, vhd …; compression is separate
 * staged disk   bytes inside a cloud, not yet bootable (EBS snapshot, page blob)
 * cloud image   what a VM boots in one cloud and region (an AMI on AWS)
 * image version one release of a definition across all targets: the catalog's main noun
 * replica   a copy of a cloud image in another region
 * offer     let the audience see it; until then it is a candidate
 */

/** The compose's word for an architecture; a cloud's own word never leaves its driver. */
export type Arch = "x86_64" | "aarch64" | "ppc64le" | "s390x" | (string & {});

export type CloudName = "aws" | "azure" | "gcp" | "local";

/** A region's name in its cloud's own words: us-east-1, eastus. The local cloud has `here`. */
export type Region = string;

/** Plain JSON: what may be stored with a run, an event or a journal. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** What happened to a compose, as its `STATUS` and its events say. Only the two FINISHED ones are acted on. */
export type ComposeStatus = "STARTED" | "FINISHED" | "FINISHED_INCOMPLETE" | "DOOMED" | "TERMINATED" | (string & {});

/** One file of a compose, as its metadata describes it. Nothing in it has been checked against the bytes. */
export interface Artifact {
  /** Relative to the compose directory, with forward slashes: never absolute, never leaves it. */
  readonly path: string;
  /** Where to read it: https:, http: or file:. */
  readonly url: string;
  /** Of the file as stored, compressed. */
  readonly bytes: number;
  /** Lower-case hex of SHA-256 of the file as stored. */
  readonly sha256: string;
  readonly arch: Arch;
  /** productmd's type, e.g. `raw-xz`, `vhd-compressed`, `container`. */
  readonly type: string;
  /** productmd's format, e.g. `raw.xz`, `vhdfixed.xz`, `ociarchive`. */
  readonly format: string;
  readonly subvariant: string;
  readonly variant: string;
}

/**
 * Identity of a cloud image or staged disk: derived from target, kind, name, architecture and digest; ≤ 52 characters
 * of lower-case base32, so that it fits a GCP label. Carried whole in the tags of every resource, so that anything can
 * be found again after a crash and the catalog rebuilt from tags alone.
 */
export type ImageKey = string & { readonly __brand?: "ImageKey" };

/** One image to be made in one cloud account: everything a driver has to know, as plain JSON. */
export interface ImageSpec {
  readonly key: ImageKey;
  /** Key of the staged disk behind it (lib/image-key.ts says why each image has its own). */
  readonly diskKey: ImageKey;
  /** AMI name, GCP image name; for Azure the definition and version below decide and this is their display form. */
  readonly name: string;
  readonly description: string;
  readonly arch: Arch;
  /** Virtual bytes of the disk. */
  readonly diskBytes: number;
  /** Where it is made first. */
  readonly homeRegion: Region;
  /** Every region it shall exist in, the home region included, in a stable order. */
  readonly regions: readonly Region[];
  /** Azure: the definition and `major.date.respin`. */
  readonly definition?: string;
  readonly version?: string;
  /** GCP: set when the image is offered. */
  readonly family?: string;
  readonly aws?: AwsSettings;
  /** ISO date after which users should not start it any more; absent = unknown. */
  readonly endOfLife?: string;
  /** Facts for people and for rebuilding the catalog: compose id, channel, date … Keys are ours, values short. */
  readonly tags: Readonly<Record<string, string>>;
}

/** What only AWS can be told of an image. */
export interface AwsSettings {
  /** Parameter Store's name for the newest of its kind; written in every region when the image is offered. */
  readonly parameter?: string;
  /** Default: what the architecture allows, UEFI preferred. */
  readonly bootMode?: "legacy-bios" | "uefi" | "uefi-preferred";
  /** `v2.0`, the default: metadata only with a token. `optional`: as the account or whoever starts it says. */
  readonly imds?: "v2.0" | "optional";
  readonly tpm?: "v2.0";
  /** Whether the image has the drivers for enhanced networking. Default: it has. */
  readonly ena?: boolean;
  readonly sriov?: boolean;
  /** The root volume of instances. Default: gp3, as large as the disk. */
  readonly volume?: {
    readonly type?: AwsVolumeType;
    readonly sizeGiB?: number;
    readonly iops?: number;
    /** MiB/s. */
    readonly throughput?: number;
  };
  /** The UEFI variable store, base64. */
  readonly uefiData?: string;
  /** What is offered cannot be deregistered; with a cooldown, not for 24 hours after that was lifted. */
  readonly protect?: "without-cooldown" | "with-cooldown";
}

export type AwsVolumeType = "gp2" | "gp3" | "io1" | "io2" | "standard";

/** candidate: registered, not offered. The rest as the glossary's table maps them to each cloud. */
export type LifecycleState = "candidate" | "active" | "deprecated" | "obsolete" | "removed";

/** Who is let in when an image is offered. */
export type Audience =
  | { readonly to: "public" }
  | {
      readonly to: "accounts";
      readonly accounts: readonly string[];
      /** AWS: ARNs of organizations and organizational units. */
      readonly organizations?: readonly string[];
    }
  | { readonly to: "nobody" };

/** Bytes inside a cloud, not yet bootable. `id` is the vendor's. */
export interface StagedDisk {
  readonly key: ImageKey;
  readonly region: Region;
  readonly id: string;
  readonly diskBytes: number;
  /** Set if it is the artifact's own file, packed as it was: that file's SHA-256, lower-case hex. */
  readonly packedSha256?: string;
}

/** What a VM boots, in one region. `id` is what a user types: ami-…, a gallery version's resource id. */
export interface CloudImage {
  readonly key: ImageKey;
  readonly region: Region;
  readonly id: string;
  readonly name: string;
  readonly state: LifecycleState;
  /** Staged disk behind it in that region, where the cloud keeps one. */
  readonly diskId?: string;
}

/** An error as plain data, as it is stored with a run and shown by the console and the CLI (lib/errors.ts makes them). */
export interface ErrorLike {
  readonly code: string;
  readonly message: string;
  readonly subject?: string;
  readonly tried?: string;
  readonly next?: string;
  readonly cloud?: string;
  readonly operation?: string;
  readonly region?: string;
  readonly requestId?: string;
}
