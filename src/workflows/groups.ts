/** What travels between the stories of one release, as plain JSON. */
import type { OfferWhen, PlannedImage, ReleaseAs } from "../compose/index.ts";
import type { CloudImage, ErrorLike, ImageSpec, StagedDisk } from "../model.ts";

/** Facts about the compose that every group needs for its catalog rows and messages. */
export interface ReleaseFacts {
  readonly composeId: string;
  readonly system: string;
  readonly kind: string;
  readonly label?: string;
  readonly releaseNumber: number;
}

export interface DiskGroup {
  readonly facts: ReleaseFacts;
  readonly id: string;
  readonly items: readonly PlannedImage[];
  readonly offerWhen: OfferWhen;
  readonly releaseAs: ReleaseAs;
}

export type ContainerGroup = DiskGroup;

/** One image on its way: what is planned, and what the driver is told. */
export interface Journey {
  readonly item: PlannedImage;
  readonly spec: ImageSpec;
}

/** How far the preparation of one target came. */
export interface Prepared {
  readonly target: string;
  readonly spec: ImageSpec;
  /** In every region that has it, home first. Empty if the target failed altogether. */
  readonly images: readonly CloudImage[];
  readonly staged?: StagedDisk;
  /** Wanted regions that have none, with the reason. */
  readonly missing: readonly { readonly region: string; readonly error: ErrorLike }[];
  /** Bytes that went over the wire for it; 0 if everything was there. */
  readonly sentBytes: number;
}

/** How one target of a group ended: a line of the release's summary. */
export interface TargetOutcome {
  readonly target: string;
  readonly cloud: string;
  readonly arch: string;
  readonly name: string;
  readonly state: "active" | "candidate" | "failed";
  /** Region → id; a repository → digest for registries. */
  readonly regions: Readonly<Record<string, string>>;
  readonly missing: readonly { readonly region: string; readonly error: ErrorLike }[];
  readonly sentBytes: number;
  readonly error?: ErrorLike;
}

export interface GroupOutcome {
  readonly id: string;
  readonly targets: readonly TargetOutcome[];
  /** Seconds from the first to the last image of the group being offered; absent if nothing was. */
  readonly offerSeconds?: number;
  /** It could be offered and is not: a freeze window. Milliseconds since 1970. */
  readonly held?: { readonly until: number; readonly reason: string };
  /** What could not be attested although a key is configured; `slipway images attest` makes up for it. */
  readonly unattested?: ErrorLike;
}

export interface ReleaseOutcome {
  readonly composeId: string;
  readonly system: string;
  /** `partial`: some targets or regions failed and the rest is done. */
  readonly result: "done" | "partial" | "failed" | "nothing";
  readonly groups: readonly GroupOutcome[];
  readonly skipped: readonly { readonly artifact: string; readonly reason: string }[];
}
