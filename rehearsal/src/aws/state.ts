/**
 * What the pretended AWS remembers: snapshots, images and settings of every account and region.
 *
 * Nothing here runs by itself. Whatever takes time (copies, completions, timeouts, becoming visible) is a moment on the
 * record, and `settle` moves everything whose moment has come; so a test moves the clock and never waits.
 */
import { randomBytes } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import { BLOCK_BYTES, BlockStore } from "./blocks.ts";
import { type ImportTask, settleImport } from "./import-task.ts";
import { type Partition, partitionOf } from "./partition.ts";
import { ObjectStore } from "./s3/objects.ts";
import type { AwsTopic } from "./sns.ts";
import { ParameterStore } from "./ssm.ts";

export interface AwsSnapshot {
  readonly kind: "snapshot";
  readonly id: string;
  readonly region: string;
  readonly owner: string;
  description: string;
  readonly sizeGiB: number;
  state: "pending" | "completed" | "error";
  stateMessage?: string;
  readonly startedAt: number;
  completedAt?: number;
  /** Before this moment nobody finds it. */
  readonly visibleAt: number;
  /** When a pending one completes by itself: a copy, or after CompleteSnapshot. */
  completesAt?: number;
  /** EBS direct: how long it may lie without a block before it is given up, and when that is. */
  timeoutMs?: number;
  givenUpAt?: number;
  readonly encrypted: boolean;
  readonly parentId?: string;
  /** Digest by block index. Shared between copies once completed. */
  blocks: Map<number, string>;
  /** How often each block was put and acknowledged. */
  readonly puts: Map<number, number>;
  readonly tags: Map<string, string>;
  /** Account ids, and `all`. */
  readonly permissions: Set<string>;
  readonly madeBy: "direct" | "copy" | "import";
}

export interface BlockMapping {
  readonly deviceName: string;
  readonly snapshotId: string;
  readonly volumeSize: number;
  readonly volumeType: string;
  readonly deleteOnTermination: boolean;
  readonly iops?: number;
  readonly throughput?: number;
}

export interface AwsImage {
  readonly kind: "image";
  readonly id: string;
  readonly region: string;
  readonly owner: string;
  readonly name: string;
  description: string | undefined;
  readonly architecture: string;
  state: "pending" | "available" | "disabled" | "failed" | "deregistered";
  stateMessage?: string;
  readonly createdAt: number;
  readonly visibleAt: number;
  /** When a pending copy becomes available, or fails. */
  completesAt?: number;
  willFail?: string;
  readonly rootDeviceName: string;
  readonly mappings: readonly BlockMapping[];
  readonly virtualizationType: string;
  readonly enaSupport: boolean;
  readonly sriovNetSupport: string | undefined;
  readonly bootMode: string | undefined;
  readonly tpmSupport: string | undefined;
  /** Base64. */
  readonly uefiData?: string | undefined;
  imdsSupport: string | undefined;
  deprecateAt: number | undefined;
  /** Against deregistration: on, or off with a moment until which it still holds. */
  protection?: { readonly on: boolean; readonly cooldown: boolean; readonly until?: number };
  /** Account ids, ARNs of organizations and their units, and `all`. */
  readonly permissions: Set<string>;
  readonly tags: Map<string, string>;
  readonly source?: { readonly region: string; readonly imageId: string };
}

/** Settings of one account in one region. Tests write to them. */
export interface RegionSettings {
  optIn: "opt-in-not-required" | "opted-in" | "not-opted-in";
  ebsEncryptionByDefault: boolean;
  imageBlockPublicAccess: "unblocked" | "block-new-sharing";
  snapshotBlockPublicAccess: "unblocked" | "block-new-sharing" | "block-all-sharing";
  /** AWS grants 5 to a new account. */
  publicImages: number;
}

/** How long things take and how much is allowed. All may be changed while the simulator runs. Times in milliseconds. */
export interface AwsBehaviour {
  /** Describe calls and tags find a new image or snapshot only after this. */
  visibleAfterMs: number;
  /** EBS direct answers 404 for a new snapshot until then; real ones took up to two minutes. */
  blocksWritableAfterMs: number;
  /** From CompleteSnapshot to `completed`. */
  completeMs: number;
  /** From CopyImage or CopySnapshot to done. */
  copyMs: number;
  /** Concurrent copies into one region and account. 20 is AWS's own and cannot be raised. */
  copiesPerRegion: number;
  /** Snapshots of EBS direct that are not completed yet, per account and region. */
  pendingSnapshots: number;
  /** From PutParameter of an image's id to the value being found good, and visible. */
  parameterCheckMs: number;
  /** From ImportSnapshot to its end. */
  importMs: number;
  /** Imports under way in one region and account. */
  importsPerRegion: number;
}

export const REAL_BEHAVIOUR: AwsBehaviour = {
  visibleAfterMs: 0,
  blocksWritableAfterMs: 0,
  completeMs: 0,
  copyMs: 0,
  copiesPerRegion: 20,
  pendingSnapshots: 100,
  parameterCheckMs: 0,
  importMs: 0,
  importsPerRegion: 20,
};

/** Regions that an account has without asking, and those it must opt in to. */
const ALWAYS = [
  ...["us-east-1", "us-east-2", "us-west-1", "us-west-2", "ca-central-1", "sa-east-1"],
  ...["eu-central-1", "eu-west-1", "eu-west-2", "eu-west-3", "eu-north-1", "ap-south-1"],
  ...["ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-southeast-1", "ap-southeast-2"],
];
const ASKED_FOR = ["af-south-1", "ap-east-1", "ap-southeast-3", "eu-south-1", "me-south-1"];
const NOT_ASKED_FOR = ["il-central-1", "me-central-1", "eu-south-2"];
export const AWS_REGIONS: readonly string[] = [...ALWAYS, ...ASKED_FOR, ...NOT_ASKED_FOR].sort();

/** Nobody has to ask for those of the smaller partitions. */
const REGIONS_OF: Readonly<Record<Partition, readonly string[]>> = {
  aws: AWS_REGIONS,
  "aws-cn": ["cn-north-1", "cn-northwest-1"],
  "aws-us-gov": ["us-gov-east-1", "us-gov-west-1"],
};

export function regionsOf(partition: Partition): readonly string[] {
  return REGIONS_OF[partition];
}

export class AwsState {
  readonly behaviour: AwsBehaviour;
  readonly blocks: BlockStore;
  readonly parameters = new ParameterStore();
  readonly objects = new ObjectStore();
  /** By id. */
  readonly imports = new Map<string, ImportTask>();
  /** Roles that let the import service read the account's buckets. */
  readonly importRoles = new Set(["vmimport"]);
  /** By ARN. */
  readonly topics = new Map<string, AwsTopic>();
  /** How often each call was answered without an error, `ec2:CopyImage@eu-west-1`. */
  readonly calls = new Map<string, number>();
  /** Client tokens with what was asked and what came of it. */
  readonly tokens = new Map<string, { readonly asked: string; readonly id: string }>();
  readonly #clock: () => number;
  readonly #defaults: Partial<RegionSettings>;
  readonly #images = new Map<string, AwsImage>();
  readonly #snapshots = new Map<string, AwsSnapshot>();
  readonly #moving = new Set<AwsImage | AwsSnapshot>();
  readonly #settings = new Map<string, RegionSettings>();
  readonly #failingCopies = new Map<string, string[]>();

  constructor(options: {
    clock: () => number;
    behaviour: Partial<AwsBehaviour>;
    settings: Partial<RegionSettings>;
    blobDir: string | undefined;
  }) {
    this.#clock = options.clock;
    this.#defaults = options.settings;
    this.behaviour = { ...REAL_BEHAVIOUR, ...options.behaviour };
    this.blocks = new BlockStore(options.blobDir);
  }

  now(): number {
    return this.#clock();
  }

  settings(account: string, region: string): RegionSettings {
    const id = `${account}/${region}`;
    let settings = this.#settings.get(id);
    if (settings === undefined) {
      const optIn =
        ALWAYS.includes(region) || partitionOf(region) !== "aws"
          ? "opt-in-not-required"
          : ASKED_FOR.includes(region)
            ? "opted-in"
            : "not-opted-in";
      settings = {
        optIn,
        ebsEncryptionByDefault: false,
        imageBlockPublicAccess: "unblocked",
        snapshotBlockPublicAccess: "unblocked",
        publicImages: 1000,
        ...this.#defaults,
      };
      this.#settings.set(id, settings);
    }
    return settings;
  }

  /** All images, deregistered ones left out, oldest first. */
  images(region?: string): AwsImage[] {
    this.settle();
    return [...this.#images.values()].filter(
      (image) => image.state !== "deregistered" && (region === undefined || image.region === region),
    );
  }

  snapshots(region?: string): AwsSnapshot[] {
    this.settle();
    return [...this.#snapshots.values()].filter((snapshot) => region === undefined || snapshot.region === region);
  }

  /** Deregistered images are found too: AWS answers differently for what once was. */
  image(region: string, id: string): AwsImage | undefined {
    this.settle();
    const image = this.#images.get(id);
    return image?.region === region ? image : undefined;
  }

  snapshot(region: string, id: string): AwsSnapshot | undefined {
    this.settle();
    const snapshot = this.#snapshots.get(id);
    return snapshot?.region === region ? snapshot : undefined;
  }

  add(resource: AwsImage | AwsSnapshot): void {
    if (resource.kind === "image") this.#images.set(resource.id, resource);
    else this.#snapshots.set(resource.id, resource);
    this.watch(resource);
  }

  /** Has `settle` look at a resource until nothing is due for it any more. */
  watch(resource: AwsImage | AwsSnapshot): void {
    this.#moving.add(resource);
  }

  removeSnapshot(snapshot: AwsSnapshot): void {
    this.#snapshots.delete(snapshot.id);
    this.#moving.delete(snapshot);
    const maps = new Set([...this.#snapshots.values()].map((other) => other.blocks));
    if (!maps.has(snapshot.blocks)) this.blocks.keepOnly(maps);
  }

  /** The next copies into a region shall fail, with the reason AWS would show. */
  failNextCopy(region: string, reason = "Internal error: the copy could not be completed."): void {
    this.#failingCopies.set(region, [...(this.#failingCopies.get(region) ?? []), reason]);
  }

  takeCopyFailure(region: string): string | undefined {
    return this.#failingCopies.get(region)?.shift();
  }

  /** Moves everything whose moment has come. Called before every request and every look from outside. */
  settle(): void {
    const now = this.now();
    for (const resource of this.#moving) {
      const settled = resource.kind === "image" ? settleImage(resource, now) : settleSnapshot(resource, now);
      if (settled) this.#moving.delete(resource);
    }
    for (const task of this.imports.values()) settleImport(this, task, now);
  }

  /** Writes a snapshot's disk to a file, absent blocks as holes: what a volume made of it would hold. */
  async readSnapshot(region: string, id: string, path: string): Promise<void> {
    const snapshot = this.snapshot(region, id);
    if (snapshot === undefined) throw new Error(`no snapshot ${id} in ${region}`);
    let file: FileHandle | undefined;
    try {
      file = await open(path, "w");
      for (const [index, digest] of snapshot.blocks) {
        const data = await this.blocks.get(digest);
        await file.write(data, 0, BLOCK_BYTES, index * BLOCK_BYTES);
      }
      await file.truncate(snapshot.sizeGiB * 1024 ** 3);
    } finally {
      await file?.close();
    }
  }

  count(service: string, operation: string, region: string): void {
    const id = `${service}:${operation}@${region}`;
    this.calls.set(id, (this.calls.get(id) ?? 0) + 1);
  }

  clear(): void {
    for (const map of [this.#images, this.#snapshots, this.#settings, this.#failingCopies, this.calls, this.tokens]) {
      map.clear();
    }
    this.topics.clear();
    this.parameters.clear();
    this.objects.clear();
    this.imports.clear();
    this.#moving.clear();
    this.blocks.keepOnly([]);
  }
}

function settleSnapshot(snapshot: AwsSnapshot, now: number): boolean {
  if (snapshot.state !== "pending") return true;
  if (snapshot.completesAt !== undefined && snapshot.completesAt <= now) {
    snapshot.state = "completed";
    snapshot.completedAt = snapshot.completesAt;
    return true;
  }
  if (snapshot.completesAt === undefined && snapshot.givenUpAt !== undefined && snapshot.givenUpAt <= now) {
    snapshot.state = "error";
    snapshot.stateMessage = "Snapshot timed out: it was not completed in the time that StartSnapshot set.";
    return true;
  }
  return false;
}

function settleImage(image: AwsImage, now: number): boolean {
  if (image.state !== "pending") return true;
  if (image.completesAt !== undefined && image.completesAt > now) return false;
  image.state = image.willFail === undefined ? "available" : "failed";
  if (image.willFail !== undefined) image.stateMessage = image.willFail;
  return true;
}

/** An id as AWS makes them: a prefix and 17 hexadecimal digits. */
export function newId(prefix: "ami" | "snap" | "import-snap"): string {
  return `${prefix}-0${randomBytes(8).toString("hex")}`;
}
