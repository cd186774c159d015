import type { Arch, Artifact, AwsSettings, AwsVolumeType, CloudName, ComposeStatus, Region } from "../model.ts";
import type { ComposeId, ComposeType } from "./compose-id.ts";
import type { Label } from "./label.ts";

/** A compose as its metadata describes it. `artifacts` are in the order of their paths. */
export interface Compose {
  readonly id: string;
  /** What the id itself says; the fields below come from composeinfo and win. */
  readonly parsedId: ComposeId;
  readonly type: ComposeType;
  /** YYYYMMDD. */
  readonly date: string;
  readonly respin: number;
  readonly label?: Label;
  readonly final: boolean;
  readonly release: {
    readonly name: string;
    readonly short: string;
    /** "43", "Rawhide", "eln", "4230.2.1". */
    readonly version: string;
    /** ga, updates, updates-testing … */
    readonly type: string;
  };
  readonly status?: ComposeStatus;
  /** The `compose/` directory, without a trailing slash. */
  readonly location: string;
  readonly artifacts: readonly Artifact[];
  /** Files that are described but cannot be released, whatever a system says (no SHA-256, kept in a registry). */
  readonly unusable: readonly SkippedArtifact[];
}

/** As it stands in the topics of published messages. */
export type Kind = "rc" | "nightly" | "rawhide" | "eln" | "branched";

/**
 * Which releases exist: plain input, from the configuration or from Bodhi. Selection asks nobody.
 * Keys of `end_of_life` are release numbers, values ISO dates (YYYY-MM-DD).
 */
export interface ReleaseState {
  readonly stable: readonly number[];
  readonly branched: readonly number[];
  /** Rawhide's number; absent = one more than the highest of the others. */
  readonly rawhide?: number | undefined;
  readonly end_of_life: Readonly<Record<string, string>>;
  /** Months after the compose's date that a release without a known end is taken to live. */
  readonly unknown_end_of_life_months: number;
}

// What follows is written in slipway.yaml, so its fields are spelled as they stand there.

/** Which composes. Every list given must hold the compose's value; an absent list asks nothing. `*` is a wildcard. */
export interface ComposeFilter {
  readonly short?: readonly string[] | undefined;
  readonly version?: readonly string[] | undefined;
  /** The release's type: ga, updates … */
  readonly release?: readonly string[] | undefined;
  readonly type?: readonly ComposeType[] | undefined;
  readonly label?: readonly string[] | undefined;
  readonly channel?: readonly string[] | undefined;
}

/** Names a channel; the first one whose filter takes the compose wins, before the built-in names. */
export interface ChannelRule {
  readonly channel: string;
  readonly when: Omit<ComposeFilter, "channel">;
}

/** Which artifacts. The order of a list is a preference where two files would make one image. `*` is a wildcard. */
export interface ArtifactFilter {
  readonly type?: readonly string[] | undefined;
  readonly format?: readonly string[] | undefined;
  readonly subvariant?: readonly string[] | undefined;
  readonly variant?: readonly string[] | undefined;
  readonly arch?: readonly Arch[] | undefined;
}

/** `all` regions, or a share of them (0 < share ≤ 1; the home region always counts) with the rest healed later. */
export type OfferWhen = "all" | { readonly quorum: number };

/** How far a release goes by itself: offered, or registered and left for `slipway images promote`. */
export type ReleaseAs = "active" | "candidate";

/** What a compose is, as rules ask it; all of it must hold. */
export interface Condition {
  readonly kind?: readonly Kind[] | undefined;
  readonly channel?: readonly string[] | undefined;
  /** True: the newest stable release only. */
  readonly current?: boolean | undefined;
  readonly prerelease?: boolean | undefined;
}

export interface AwsRule {
  readonly parameter?: string | undefined;
  readonly boot_mode?: AwsSettings["bootMode"] | undefined;
  readonly imds?: AwsSettings["imds"] | undefined;
  readonly tpm?: AwsSettings["tpm"] | undefined;
  readonly ena?: boolean | undefined;
  readonly sriov?: boolean | undefined;
  readonly volume?:
    | {
        readonly type?: AwsVolumeType | undefined;
        readonly size_gib?: number | undefined;
        readonly iops?: number | undefined;
        readonly throughput?: number | undefined;
      }
    | undefined;
  readonly uefi_data?: string | undefined;
  readonly protect?: AwsSettings["protect"] | undefined;
}

export interface ImageRule {
  /** For which composes; absent = all the system takes. */
  readonly when?: Condition | undefined;
  readonly select: ArtifactFilter;
  /** Names of targets. */
  readonly to: readonly string[];
  /** Templates; see `PLACEHOLDERS`. */
  readonly name?: string | undefined;
  readonly definition?: string | undefined;
  readonly version: string;
  readonly family?: string | undefined;
  /** What only AWS has; `parameter` is a template too. */
  readonly aws?: AwsRule | undefined;
  readonly description: string;
  readonly offer_when: OfferWhen;
  readonly release_as: ReleaseAs;
  /** Without an image for each of these nothing of the rule is released. */
  readonly required_arches: readonly Arch[];
}

/** First rule whose `when` holds gives the floating tags. */
export interface TagRule {
  readonly when?: Condition | undefined;
  readonly tags: readonly string[];
}

export interface ContainerRule {
  readonly when?: Condition | undefined;
  readonly select: ArtifactFilter;
  readonly to: readonly string[];
  /** Subvariant → repository. */
  readonly repositories: Readonly<Record<string, string>>;
  /** Template of the tag that names this very version; absent = the digest alone names it. */
  readonly version_tag?: string | undefined;
  readonly tags: readonly TagRule[];
  readonly release_as: ReleaseAs;
  readonly required_arches: readonly Arch[];
}

/** A distribution's data: which composes, which artifacts, which targets, which names. */
export interface System {
  readonly name: string;
  /** Absent = on. */
  readonly enabled?: boolean | undefined;
  readonly composes: ComposeFilter;
  readonly channels: readonly ChannelRule[];
  readonly images: readonly ImageRule[];
  readonly containers: readonly ContainerRule[];
}

/** What selection has to know of a target; the configuration's targets have more. */
export interface PlanTarget {
  readonly name: string;
  readonly cloud: CloudName | "registry";
  readonly enabled: boolean;
  /** Where images are made first: a region, a storage location, a registry's url. */
  readonly home_region: Region;
  /** Every region, the home region first; `all`: those the account has, asked when the clouds are. */
  readonly regions: readonly Region[] | "all";
  /** False: every region is written from the source, none is copied from home. */
  readonly copies: boolean;
}

export interface SkippedArtifact {
  /** The artifact's path. */
  readonly artifact: string;
  readonly reason: string;
}

/** One artifact on its way to one target. */
export interface PlannedImage {
  readonly artifact: Artifact;
  readonly cloud: CloudName | "registry";
  readonly target: string;
  readonly arch: Arch;
  /** AMI or GCP name; `definition/version` on Azure; `repository:tag` in a registry. */
  readonly name: string;
  readonly description: string;
  readonly definition?: string;
  readonly version?: string;
  readonly family?: string;
  readonly aws?: AwsSettings;
  readonly repository?: string;
  /** Names this version alone; pushed before any floating tag. */
  readonly versionTag?: string;
  /** Floating tags, moved when the image is offered. */
  readonly tags?: readonly string[];
  readonly homeRegion: Region;
  readonly regions: readonly Region[];
  /** The account's other regions are wanted too; which those are only the cloud knows. */
  readonly allRegions: boolean;
  readonly copies: boolean;
  /** ISO date. */
  readonly endOfLife: string;
  /** For people and for rebuilding the catalog: ComposeID, Channel, Version, Date, Arch … */
  readonly facts: Readonly<Record<string, string>>;
}

/**
 * What is offered together: one artifact and all its targets, or one container repository and all its architectures.
 * Groups never wait for each other.
 */
export interface PlannedGroup {
  /** The artifact's path, or `repository:` and the repository: stable between runs, unique in a compose and system. */
  readonly id: string;
  readonly kind: "disk" | "container";
  readonly items: readonly PlannedImage[];
  readonly offerWhen: OfferWhen;
  readonly releaseAs: ReleaseAs;
}

/** What a compose means to a system. Everything in a stable order. */
export interface Selection {
  readonly compose: string;
  readonly system: string;
  readonly kind: Kind;
  readonly channel: string;
  readonly prerelease: boolean;
  /** The integer of published messages; 0 where the system does not take the compose. */
  readonly releaseNumber: number;
  readonly groups: readonly PlannedGroup[];
  /** The groups' items, in their order. */
  readonly items: readonly PlannedImage[];
  readonly skipped: readonly SkippedArtifact[];
  /** What is no error but worth a line: an architecture the compose lacks, a target that is switched off. */
  readonly notes: readonly string[];
}

/** `share`: it is there as a candidate and would be offered. */
export type RegionVerb = "create" | "copy" | "share" | "exists" | "resume";

/** `slipway plan --output json`. A public interface: fields are added, never renamed. */
export interface Plan {
  readonly compose: string;
  readonly system: string;
  readonly items: readonly PlanItem[];
  readonly skipped: readonly SkippedArtifact[];
}

export interface PlanItem {
  readonly artifact: string;
  readonly cloud: CloudName | "registry";
  readonly target: string;
  readonly arch: Arch;
  readonly name: string;
  readonly definition?: string;
  readonly version?: string;
  readonly family?: string;
  readonly repository?: string;
  readonly tags?: readonly string[];
  readonly regions: Readonly<Record<Region, RegionVerb>>;
  readonly reason?: string;
  /** Of the artifact, as the compose says: what the plan was made for. */
  readonly sha256: string;
}
