/** How a promotion or a rollback ended: plain JSON, and how to read it. Pure. */
import type { ErrorLike, LifecycleState, Region } from "../model.ts";
import type { ChosenContainer, ChosenImage } from "./chosen.ts";

export interface ImageOutcome {
  readonly name: string;
  readonly target: string;
  readonly cloud: string;
  readonly arch: string;
  /** What it is now where that could be done. */
  readonly state: LifecycleState;
  readonly regions: Readonly<Record<Region, string>>;
  /** Regions in which it is not so, with the reason. */
  readonly failed: readonly { readonly region: Region; readonly error: ErrorLike }[];
}

export interface ContainerOutcome {
  readonly repository: string;
  readonly target: string;
  readonly registry: string;
  readonly digest: string;
  readonly state: "candidate" | "active";
  /** Floating tag → digest it points at now; null: it is gone. */
  readonly tags: Readonly<Record<string, string | null>>;
  /** Floating tags that a later version has: left alone. */
  readonly moved: readonly string[];
  readonly error?: ErrorLike;
}

export interface OfferOutcome {
  /** `nothing`: it was so before. `partial`: a part failed, and is not as asked. */
  readonly result: "done" | "partial" | "failed" | "nothing";
  readonly images: readonly ImageOutcome[];
  readonly containers: readonly ContainerOutcome[];
  /** Seconds from the first image being offered to the last tag being moved. */
  readonly offerSeconds?: number;
  /** How many images a second, unprivileged identity was asked about afterwards. */
  readonly witnessed: number;
  /** Why nothing of it is offered. */
  readonly error?: ErrorLike;
}

export function imageOutcome(
  chosen: ChosenImage,
  state: LifecycleState,
  failed: ImageOutcome["failed"] = [],
): ImageOutcome {
  const { name, target, cloud, arch, images } = chosen;
  const there = images.filter((image) => !failed.some(({ region }) => region === image.region));
  const regions = Object.fromEntries(there.map((image) => [image.region, image.id]));
  return { name, target, cloud, arch, state, regions, failed };
}

export function containerOutcome(
  chosen: ChosenContainer,
  state: "candidate" | "active",
  found: Partial<Pick<ContainerOutcome, "tags" | "moved" | "error">> = {},
): ContainerOutcome {
  const { repository, target, registry, digest } = chosen;
  return { repository, target, registry, digest, state, tags: {}, moved: [], ...found };
}
