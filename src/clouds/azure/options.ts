import type { Region } from "../../model.ts";

/** One Azure target: a gallery and the storage container its disks pass through, in one resource group. */
export interface AzureOptions {
  readonly subscriptionId: string;
  readonly resourceGroup: string;
  readonly gallery: string;
  /** Where the gallery, its versions and the storage account live. Azure takes a blob only from the version's own region. */
  readonly location: Region;
  readonly storageAccount: string;
  readonly container: string;
  /** The gallery's public name, when it is a community gallery: then ids are those a stranger can use. */
  readonly publicGalleryName?: string;
  readonly credentials: AzureCredentials;
  /**
   * A service principal of another tenant, and a subscription it may read in: what it sees, everybody sees. Needs
   * `publicGalleryName`: of a private gallery nobody sees anything.
   */
  readonly witness?: { readonly credentials: AzureCredentials; readonly subscriptionId: string };
  /** For sovereign clouds, emulators and rehearsals. Each an https URL without a path, but for an emulated `blob`. */
  readonly endpoints?: { readonly authority?: string; readonly management?: string; readonly blob?: string };
  /** Further certificate authorities to trust, PEM. */
  readonly ca?: string;
  /** What a definition made on demand says of its maker. The triple with its name as sku is unique in a gallery. */
  readonly definition: DefinitionDefaults;
  /** Every region an image may be wanted in. A region that is not here is refused, never given made-up replicas. */
  readonly targetRegions: readonly TargetRegionOptions[];
  /** Marks what is ours, so that two installations can share a gallery. Default `slipway`. */
  readonly tagsOwner?: string;
  /** Most page writes under way for one upload. Default 8: 8 × 4 MiB saturate a blob's 60 MiB/s, more only earns 503s. */
  readonly inFlight?: number;
  /** Azure refuses to delete a version before its end of life. Default false: lifecycle policies decide. */
  readonly blockDeletionBeforeEndOfLife?: boolean;
  /** How patiently long operations are followed, and pauses between attempts at a page. Milliseconds. */
  readonly pace?: Partial<Pace>;
}

export interface DefinitionDefaults {
  readonly publisher: string;
  readonly offer: string;
  /** Feature `DiskControllerTypes` of new definitions, e.g. `SCSI, NVMe`. Absent: Azure's default. */
  readonly diskControllerTypes?: string;
  /** Feature `IsAcceleratedNetworkSupported` of new definitions. Absent: Azure's default. */
  readonly acceleratedNetworking?: boolean;
}

export interface TargetRegionOptions {
  readonly name: Region;
  readonly replicas: number;
  readonly storageType: "Standard_LRS" | "Standard_ZRS" | "Premium_LRS";
}

/** A service principal, or `default`: what the SDK finds by itself (environment, managed identity, workload identity). */
export type AzureCredentials =
  | { readonly tenantId: string; readonly clientId: string; readonly clientSecret: string }
  | "default";

export interface Pace {
  /** First and longest pause between two looks at a long operation: it doubles from one to the other. */
  readonly pollFirst: number;
  readonly pollMost: number;
  /** Longest a version may be on its way before the step is told to come back later. */
  readonly pollDeadline: number;
  /** Longest a small call may take, from connecting to the last byte. */
  readonly callDeadline: number;
  /** Longest one page write of 4 MiB may take. */
  readonly pageDeadline: number;
  /** First pause after a failed page write; doubles. */
  readonly pageRetry: number;
}

/** Replication takes half an hour and more; two hours leave room for a slow region. */
export const PACE: Pace = {
  pollFirst: 2_000,
  pollMost: 30_000,
  pollDeadline: 2 * 3_600_000,
  callDeadline: 60_000,
  pageDeadline: 120_000,
  pageRetry: 500,
};

/**
 * Azure's limits that shape the driver, as data.
 * @see https://learn.microsoft.com/azure/storage/blobs/scalability-targets
 * @see https://learn.microsoft.com/azure/virtual-machines/azure-compute-gallery#limits
 */
export const AZURE_LIMITS = {
  pageWriteBytes: 4 * 1024 * 1024,
  blobBytesPerSecond: 60 * 1024 * 1024,
  blobRequestsPerSecond: 500,
  versionsPerRegion: 10_000,
  definitionsPerRegion: 1_000,
  replicasPerVersion: 100,
  tagsPerResource: 50,
} as const;

export const OWNER_DEFAULT = "slipway";
export const IN_FLIGHT_DEFAULT = 8;
