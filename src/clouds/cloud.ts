/**
 * What every cloud can do for Slipway. One driver is one folder beside this file, and one line in `index.ts`.
 *
 * A driver is opened for one target (one account) and stays naive: dry-run, limits, logging and "find before create"
 * are wrappers in `index.ts`. No SDK type leaves a driver's folder; no `if (cloud.name === …)` stands outside `clouds/`.
 *
 * Promises, tested once for all in `testing/contract.ts`:
 * - Keyed. Every resource carries its whole ImageKey in its tags.
 * - Convergent. Any call may be repeated and lands in the same place; removing what is gone succeeds.
 * - Read your writes. `register` returns when `find` sees the image; eventual consistency ends inside the driver.
 * - Complete. `list` shows staged disks too, half-made ones included: nothing we pay for is invisible.
 * - Cancellable. `call.signal` is honoured; a long operation that was under way is re-attached to, not started again.
 * - Two retry levels. A block or page inside `upload`, here; everything else is retried by the step that called.
 */
import type { BlockSource } from "../images/block-source.ts";
import type { UploadJournal } from "../images/journal.ts";
import type { CallContext } from "../lib/call.ts";
import type { ErrorCode } from "../lib/errors.ts";
import type {
  Audience,
  CloudImage,
  CloudName,
  ErrorLike,
  ImageKey,
  ImageSpec,
  LifecycleState,
  Region,
  StagedDisk,
} from "../model.ts";

export interface Cloud {
  readonly name: CloudName;
  /** The bytes this cloud takes. Data, so `images/` can prepare a disk knowing no cloud. */
  readonly accepts: DiskRequirements;
  /** Optional abilities. Read while planning a run, never discovered in the middle of one. */
  readonly can: Capabilities;

  /**
   * Looks whether the images could be made: credentials, permissions that can be asked for, quotas, account settings,
   * regions. Creates nothing. Never throws for what it finds: that is in the findings.
   */
  check(specs: readonly ImageSpec[], call: CallContext): Promise<Finding[]>;

  /**
   * What the account has of everything that is counted, with the limit and what could make room. Creates nothing.
   * Left out where nothing can be asked. @throws CloudError
   */
  quotas?(specs: readonly ImageSpec[], call: CallContext): Promise<readonly Quota[]>;

  /** Every region the account may use, for targets that want `all`. Left out where a region list cannot be asked for. */
  regions?(call: CallContext): Promise<readonly Region[]>;

  /** What exists for this spec in one region, by key; an image of that *name* with another key is `foreign`. */
  find(spec: ImageSpec, region: Region, call: CallContext): Promise<Found>;
  /** Everything of ours in the account: images and staged disks in all regions that answer. */
  list(regions: readonly Region[], call: CallContext): AsyncIterable<CloudResource>;

  /**
   * Streams a disk into the home region and completes it. Resumes where the journal says.
   * Commits nothing unless the whole source was read and proved right.
   * @throws CloudError; SlipwayError `corrupt` from the source, with the half-made disk removed.
   */
  upload(disk: BlockSource, spec: ImageSpec, journal: UploadJournal, call: UploadContext): Promise<StagedDisk>;
  /**
   * Streams a disk into several regions side by side, each with a journal of its own, each reported as it ends: decoded
   * once as long as a region keeps up with the others. One region's failure is an outcome and holds no other back.
   * Left out where images are not copied from region to region.
   * @throws SlipwayError `cancelled`
   */
  uploadEach?(
    disk: BlockSource,
    spec: ImageSpec,
    regions: readonly Region[],
    journalOf: JournalOf,
    call: UploadContext,
  ): AsyncIterable<StagedOutcome>;
  /**
   * Reads blocks back from the cloud, in any order, with the digest of what the cloud holds (a short last block: of the
   * short data; a block the cloud calls absent reads as zeros).
   */
  readBack(staged: StagedDisk, blocks: Iterable<number>, call: CallContext): AsyncIterable<ReadBlock>;

  /**
   * The staged disk behind a registered image, to read its bytes again; or why this cloud lets nobody, not even its owner,
   * read them now. @throws CloudError
   */
  diskBehind(image: CloudImage, spec: ImageSpec, call: CallContext): Promise<StagedDisk | Unreadable>;

  /** Makes the candidate image in the staged disk's region, with all tags. Nothing is offered by it. */
  register(staged: StagedDisk, spec: ImageSpec, call: CallContext): Promise<CloudImage>;
  /**
   * Brings a registered image to the other regions of the spec, each reported as it ends. One region's failure is an
   * outcome, not an exception. What is already there is reported too. `regions` lists what is wanted now.
   */
  replicate(
    image: CloudImage,
    spec: ImageSpec,
    regions: readonly Region[],
    call: CallContext,
  ): AsyncIterable<RegionOutcome>;

  /** Lets the audience in: all images given, as close together as the cloud allows. */
  offer(images: readonly CloudImage[], spec: ImageSpec, audience: Audience, call: CallContext): Promise<void>;
  /** The inverse of `offer`: back to candidate. */
  withdraw(images: readonly CloudImage[], spec: ImageSpec, call: CallContext): Promise<void>;

  /**
   * Who of an offered image's users is not of its audience, and who of the audience is shut out. Changes nothing. Left out
   * where a cloud lets in everybody or nobody. @throws CloudError
   */
  strangers?(image: CloudImage, audience: Audience, call: CallContext): Promise<Strangers>;

  /**
   * Whether somebody without rights in the account sees each image, asked with a second identity; in the order given.
   * Left out where the target has none.
   */
  witness?(images: readonly CloudImage[], call: CallContext): Promise<readonly boolean[]>;

  /**
   * Tells the cloud's own subscribers. Left out where the target names no place for it. Not convergent: a repeat is a
   * second notice. @throws CloudError
   */
  notify?(notice: Notice, call: CallContext): Promise<void>;

  /** @throws CloudError `unsupported` for a state this cloud cannot express; `can.states` says so beforehand. */
  setState(image: CloudImage, state: LifecycleState, call: CallContext): Promise<void>;
  /**
   * Gives an image, and the disk behind it, the tags it was made with; others that somebody added stay. Left out where
   * tags cannot be set later. @throws CloudError
   */
  retag?(image: CloudImage, spec: ImageSpec, call: CallContext): Promise<void>;
  /** Removes an image with its staged disk, or a staged disk alone. What is gone already is a success. */
  remove(resource: CloudResource, call: CallContext): Promise<void>;
  /** Deletes what was only needed on the way (a page blob after its import). Safe to repeat. */
  tidy(staged: StagedDisk, spec: ImageSpec, call: CallContext): Promise<void>;

  /** Closes connections. */
  close(): Promise<void>;
}

/** One image version in one target has become something else. */
export interface Notice {
  readonly change: "offered" | "deprecated" | "withdrawn";
  readonly spec: ImageSpec;
  /** Where. */
  readonly images: readonly CloudImage[];
}

/** In the cloud's own words: account ids, ARNs, `all`. */
export interface Strangers {
  readonly uninvited: readonly string[];
  readonly shutOut: readonly string[];
}

/** What a disk has to look like. Checked before a byte is sent. */
export interface DiskRequirements {
  /** `raw`: the disk itself; `vhd`: a fixed VHD, footer included. */
  readonly format: "raw" | "vhd";
  /** The *virtual* size must be a whole number of these. */
  readonly sizeMultiple: number;
  readonly maxBytes: number;
  /** The writer copies each block into a larger request and gives it back at once. */
  readonly copies?: boolean;
  /** Artifact formats that it takes as they are; unpacking them would be work for nothing. */
  readonly keeps?: readonly string[];
}

export interface Capabilities {
  /** Images live in regions of their own and are copied (AWS); false: one resource with a region list, or global. */
  readonly regionalCopies: boolean;
  /** States `setState` can reach. */
  readonly states: readonly LifecycleState[];
  /** Zero blocks need not be sent: the cloud defines what was never written as zero. */
  readonly sparse: boolean;
  /** Blocks can be read back before the image is offered. */
  readonly readBack: boolean;
}

/** One thing `check` found. `error` stops the release of what it concerns, `warning` is shown. */
export interface Finding {
  readonly severity: "error" | "warning" | "info";
  readonly region?: Region;
  /** The permission, quota or setting: `ec2:RegisterImage`, `public AMIs per region`. */
  readonly subject: string;
  readonly message: string;
  readonly next?: string;
  readonly code?: ErrorCode;
}

/** One thing of which an account has only so many. */
export interface Quota {
  /** Absent: of the whole account or gallery. */
  readonly region?: Region;
  /** As the vendor calls it: `public AMIs`. */
  readonly subject: string;
  readonly used: number;
  readonly limit: number;
  /** `default`: what the vendor grants everybody; how much this account was granted cannot be asked. */
  readonly limitFrom: "account" | "default" | "fixed";
  /** What of a release counts: an image that is made in that region, one that becomes public there, a copy made to it. */
  readonly counts: "images" | "public-images" | "copies";
  /** Beyond it things wait instead of failing. */
  readonly waits?: boolean;
  /** Images of ours whose end makes room, oldest first; a few, not all. */
  readonly retirable: readonly { readonly id: string; readonly name: string; readonly createdAt?: string }[];
  /** How to get more. */
  readonly increase?: string;
}

export interface Found {
  readonly staged?: StagedDisk;
  readonly image?: CloudImage;
  /** A resource with our name and another key: never overwritten, never worked around with another name. */
  readonly foreign?: { readonly id: string; readonly reason: string };
}

export interface CloudResource {
  readonly kind: "image" | "staged-disk";
  /** Undefined when it carries our owner tag and no readable key: shown, never removed by itself. */
  readonly key?: ImageKey;
  readonly region: Region;
  readonly id: string;
  readonly name: string;
  /** False for a staged disk that was never completed. */
  readonly complete: boolean;
  readonly createdAt?: string;
  readonly tags: Readonly<Record<string, string>>;
}

/** Bytes that are there and cannot be read. */
export interface Unreadable {
  readonly unreadable: string;
}

export interface ReadBlock {
  readonly index: number;
  readonly sha256: Uint8Array;
}

export type RegionOutcome =
  | { readonly region: Region; readonly image: CloudImage }
  | { readonly region: Region; readonly error: ErrorLike };

/** How one region of an upload to many ended. */
export type StagedOutcome =
  | { readonly region: Region; readonly staged: StagedDisk }
  | { readonly region: Region; readonly error: ErrorLike };

/** Opens the journal of one region's staged disk; disposed when that region has ended. */
export type JournalOf = (region: Region) => Promise<UploadJournal & AsyncDisposable>;

export interface UploadContext extends CallContext {
  /** Called as blocks are acknowledged. Bytes as the disk has them; `sent` leaves out zeros and what was there before. */
  readonly onProgress?: (progress: UploadProgress) => void;
}

export interface UploadProgress {
  /** Virtual bytes accounted for, zeros and earlier attempts included; ≤ total. */
  readonly doneBytes: number;
  readonly totalBytes: number;
  /** Bytes that went over the wire in this attempt. */
  readonly sentBytes: number;
}
