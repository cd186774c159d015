import type { Region } from "../../model.ts";

/** One target in Google Cloud: a project its images belong to, and a bucket its disks pass through. */
export interface GcpOptions {
  readonly project: string;
  readonly bucket: string;
  /** Where images are kept: `us`, `europe-west1`. Stands for the region of every image. */
  readonly storageLocation: Region;
  /** A service account's key, or `metadata`: what the machine this runs on is given by its metadata server. */
  readonly credentials: ServiceAccount | "metadata";
  /** An account that has nothing to do with this project: what it sees, everybody sees. */
  readonly witness?: ServiceAccount;
  /** For emulators and rehearsals. Each an https URL without a path. */
  readonly endpoints?: Partial<Endpoints>;
  /** Further certificate authorities to trust, PEM. */
  readonly ca?: string;
  /** Marks what is ours, so that two installations can share a project. Default `slipway`; a label value. */
  readonly tagsOwner?: string;
  readonly pace?: Partial<Pace>;
}

export interface ServiceAccount {
  readonly clientEmail: string;
  /** PEM. */
  readonly privateKey: string;
}

export interface Endpoints {
  readonly storage: string;
  readonly compute: string;
  readonly token: string;
  readonly resourceManager: string;
}

export const ENDPOINTS: Endpoints = {
  storage: "https://storage.googleapis.com",
  compute: "https://compute.googleapis.com",
  token: "https://oauth2.googleapis.com/token",
  resourceManager: "https://cloudresourcemanager.googleapis.com",
};

/** Milliseconds. */
export interface Pace {
  /** First and longest pause between two looks at an operation: it doubles from one to the other. */
  readonly pollFirst: number;
  readonly pollMost: number;
  /** Longest an operation is followed before the step is told to come back later. */
  readonly pollDeadline: number;
  /** Longest a call may take, from connecting to the last byte; of a download, until its first byte. */
  readonly callDeadline: number;
  /** Longest a part of 4 MiB may take. */
  readonly partDeadline: number;
  /** First pause after a failed part; doubles. */
  readonly partRetry: number;
}

/** An import of 10 GiB takes some minutes; an hour leaves room for a busy day. */
export const PACE: Pace = {
  pollFirst: 1_000,
  pollMost: 15_000,
  pollDeadline: 3_600_000,
  callDeadline: 60_000,
  partDeadline: 120_000,
  partRetry: 500,
};

export const OWNER_DEFAULT = "slipway";
/** Parts under way for one upload: 8 × 4 MiB of memory. */
export const IN_FLIGHT = 8;
