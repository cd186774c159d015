/**
 * A cloud that is a directory: the whole contract with no account, for the first try, for tests and for hosts that
 * boot images from files. Regions are sub-directories, disks sparse raw files, everything else JSON beside them:
 *
 *     <directory>/<region>/disks/<disk key>.json + .part, later .raw      images/<name>.json
 *
 * A record is written before its file and removed after it, so that `list` never misses one. Refuses to know formats:
 * the bytes it was given are the bytes it keeps. Start reading at `openLocal`; `store.ts` makes records durable,
 * `disk-file.ts` fills disks.
 */
import { createHash, randomUUID } from "node:crypto";
import { constants, copyFile, open, rm, statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import { BLOCK_BYTES } from "../../images/block-source.ts";
import type { CallContext } from "../../lib/call.ts";
import { isTransient, reportOf, SlipwayError } from "../../lib/errors.ts";
import { GiB } from "../../lib/units.ts";
import type { Audience, CloudImage, ImageSpec, LifecycleState, Region, StagedDisk } from "../../model.ts";
import type { Cloud, CloudResource, Finding, Found, RegionOutcome } from "../cloud.ts";
import { CloudError } from "../errors.ts";
import { fillFile } from "./disk-file.ts";
import { commitFile, isMissing, openRecords, type RecordStore } from "./store.ts";

export interface LocalOptions {
  /** Made when it is needed. Everything under it belongs to this cloud. */
  readonly directory: string;
  /** Default: one, `here`. */
  readonly regions?: readonly Region[];
}

interface DiskRecord {
  readonly key: string;
  /** Tells one attempt's file from another's: a journal of the one must not be trusted for the other. */
  readonly token: string;
  readonly bytes: number;
  readonly complete: boolean;
  readonly createdAt: string;
  readonly tags: Readonly<Record<string, string>>;
}

interface ImageRecord {
  readonly id: string;
  readonly key?: string;
  readonly name: string;
  readonly arch: string;
  readonly state: LifecycleState;
  readonly audience: Audience;
  readonly diskKey: string;
  readonly createdAt: string;
  readonly tags: Readonly<Record<string, string>>;
}

interface Place {
  readonly region: Region;
  readonly disks: RecordStore<DiskRecord>;
  readonly images: RecordStore<ImageRecord>;
  file(diskKey: string, ending: "part" | "raw"): string;
}

const NAME = /^[a-z0-9][a-z0-9-]{0,62}$/;
const STATES: readonly LifecycleState[] = ["candidate", "active", "deprecated", "obsolete", "removed"];

export function openLocal({ directory, regions = ["here"] }: LocalOptions): Cloud {
  for (const region of regions) if (!NAME.test(region)) throw invalid("openLocal", `"${region}" is no region's name.`);

  function place(region: Region): Place {
    if (!regions.includes(region)) {
      throw new CloudError("not-found", `The local cloud has no region "${region}".`, {
        cloud: "local",
        operation: "open region",
        region,
        next: `Name one of: ${regions.join(", ")}.`,
      });
    }
    const root = join(directory, region);
    return {
      region,
      disks: openRecords(join(root, "disks")),
      images: openRecords(join(root, "images")),
      file(diskKey, ending) {
        if (!NAME.test(diskKey)) throw invalid("open disk", `"${diskKey}" is no key.`);
        return join(root, "disks", `${diskKey}.${ending}`);
      },
    };
  }

  /** The image of a name in one region, if its record there says what the caller thinks it is. */
  async function recordOf(image: CloudImage): Promise<ImageRecord> {
    const record = await place(image.region).images.get(image.name);
    if (record?.key === image.key) return record;
    throw new CloudError("not-found", `There is no image ${image.id} in ${image.region}.`, {
      cloud: "local",
      operation: "find",
      region: image.region,
      subject: image.name,
    });
  }

  async function change(image: CloudImage, to: Partial<ImageRecord>): Promise<void> {
    const record = await recordOf(image);
    await place(image.region).images.put(image.name, { ...record, ...to });
  }

  /** Creates the image's record, or returns the one that is there. */
  async function claim(at: Place, spec: ImageSpec, diskKey: string): Promise<CloudImage> {
    const record: ImageRecord = {
      id: `image-${spec.key}`,
      key: spec.key,
      name: spec.name,
      arch: spec.arch,
      state: "candidate",
      audience: { to: "nobody" },
      diskKey,
      createdAt: new Date().toISOString(),
      tags: { ...spec.tags },
    };
    if (await at.images.create(spec.name, record)) return imageOf(record, spec.key, at.region);
    const there = await at.images.get(spec.name);
    if (there?.key === spec.key) return imageOf(there, spec.key, at.region);
    throw new CloudError("already-exists", `An image named "${spec.name}" is there and is not this one.`, {
      cloud: "local",
      operation: "register",
      region: at.region,
      subject: there?.id,
      next: "Find out whose it is. Remove or rename it there, or change the name pattern of the system.",
    });
  }

  const cloud: Cloud = {
    name: "local",
    // 512: what every disk is made of. 64 TiB: beyond what file systems in use hold in one file.
    accepts: { format: "raw", sizeMultiple: 512, maxBytes: 64 * 1024 * GiB },
    can: { regionalCopies: true, states: STATES.slice(0, 4), sparse: true, readBack: true },

    async check(specs) {
      const findings: Finding[] = [];
      for (const region of new Set(specs.flatMap((spec) => [spec.homeRegion, ...spec.regions]))) {
        if (regions.includes(region)) continue;
        const next = `Name one of: ${regions.join(", ")}.`;
        findings.push({
          severity: "error",
          code: "not-found",
          region,
          subject: region,
          message: "No such region.",
          next,
        });
      }
      const wanted = specs.reduce((sum, spec) => sum + spec.diskBytes, 0);
      const free = await freeBytes(directory);
      if (free !== undefined && free < wanted) {
        findings.push({
          severity: "warning",
          code: "disk-full",
          subject: directory,
          message: `The disks may need ${wanted} bytes in each region; ${free} are free.`,
          next: "Free some space, or name another directory. Zeros take none.",
        });
      }
      return findings;
    },

    async find(spec, region): Promise<Found> {
      const at = place(region);
      const [disk, record] = [await at.disks.get(spec.diskKey), await at.images.get(spec.name)];
      const mine = record && record.key === spec.key;
      return {
        ...(disk?.complete ? { staged: stagedOf(disk, region) } : {}),
        ...(mine ? { image: imageOf(record, spec.key, region) } : {}),
        ...(record && !mine
          ? { foreign: { id: record.id, reason: record.key ? `its key is ${record.key}` : "it carries no key" } }
          : {}),
      };
    },

    async *list(wanted) {
      for (const region of wanted) {
        const at = place(region);
        for (const name of await at.images.names()) {
          const image = await at.images.get(name);
          if (image) yield { kind: "image", complete: true, region, ...pick(image), name: image.name, id: image.id };
        }
        for (const key of await at.disks.names()) {
          const disk = await at.disks.get(key);
          if (!disk) continue;
          yield { kind: "staged-disk", complete: disk.complete, region, ...pick(disk), name: key, id: `disk-${key}` };
        }
      }
    },

    async upload(disk, spec, journal, call) {
      stopIfAborted(call);
      const at = place(spec.homeRegion);
      const part = at.file(spec.diskKey, "part");
      let record = await at.disks.get(spec.diskKey);
      if (record?.complete) return stagedOf(record, at.region);

      const token = (journal.staged as { token?: string } | undefined)?.token;
      const resumed = token !== undefined && token === record?.token && (await exists(part));
      if (!resumed) {
        const createdAt = new Date().toISOString();
        const tags = { ...spec.tags };
        record = { key: spec.diskKey, token: randomUUID(), bytes: disk.bytes, complete: false, createdAt, tags };
        await at.disks.put(spec.diskKey, record);
        await rm(part, { force: true });
        await journal.begin({ id: `disk-${spec.diskKey}`, token: record.token });
      }
      try {
        await fillFile(part, disk, journal, resumed, call);
      } catch (error) {
        if (error instanceof SlipwayError && error.code === "corrupt") await removeDisk(at, spec.diskKey);
        throw error;
      }
      await commitFile(part, at.file(spec.diskKey, "raw"));
      record = { ...record!, complete: true };
      await at.disks.put(spec.diskKey, record);
      return stagedOf(record, at.region);
    },

    async *readBack(staged, blocks, call) {
      const file = await open(place(staged.region).file(staged.key, "raw"), "r");
      try {
        const buffer = Buffer.alloc(BLOCK_BYTES);
        for (const index of blocks) {
          stopIfAborted(call);
          const { bytesRead } = await file.read(buffer, 0, BLOCK_BYTES, index * BLOCK_BYTES);
          yield { index, sha256: createHash("sha256").update(buffer.subarray(0, bytesRead)).digest() };
        }
      } finally {
        await file.close();
      }
    },

    async diskBehind(image, spec) {
      const disk = await place(image.region).disks.get(spec.diskKey);
      return disk?.complete ? stagedOf(disk, image.region) : { unreadable: "its disk is no longer in the directory" };
    },

    async register(staged, spec, call) {
      stopIfAborted(call);
      const at = place(staged.region);
      if (!(await at.disks.get(staged.key))?.complete) throw missingDisk(staged.region, staged.id);
      return claim(at, spec, staged.key);
    },

    async *replicate(image, spec, wanted, call): AsyncGenerator<RegionOutcome> {
      for (const region of wanted) {
        stopIfAborted(call);
        try {
          yield {
            region,
            image: region === image.region ? imageAgain(await recordOf(image), image) : await copyTo(region),
          };
        } catch (error) {
          if (call.signal.aborted) throw error;
          yield { region, error: reportOf(error) };
        }
      }

      async function copyTo(region: Region): Promise<CloudImage> {
        const at = place(region);
        const there = await at.images.get(spec.name);
        if (there) return claim(at, spec, there.diskKey);
        const from = place(image.region);
        const { diskKey } = await recordOf(image);
        const disk = await from.disks.get(diskKey);
        if (!disk) throw missingDisk(image.region, diskKey);
        if (!(await at.disks.get(diskKey))?.complete) {
          await at.disks.put(diskKey, { ...disk, complete: false, createdAt: new Date().toISOString() });
          // Shares the blocks where the file system can (btrfs, xfs).
          await copyFile(from.file(diskKey, "raw"), at.file(diskKey, "part"), constants.COPYFILE_FICLONE);
          await commitFile(at.file(diskKey, "part"), at.file(diskKey, "raw"));
          await at.disks.put(diskKey, { ...disk, createdAt: new Date().toISOString() });
        }
        return claim(at, spec, diskKey);
      }
    },

    async offer(images, _spec, audience, call) {
      for (const image of images) {
        stopIfAborted(call);
        await change(image, { state: audience.to === "nobody" ? "candidate" : "active", audience });
      }
    },

    async withdraw(images, _spec, call) {
      for (const image of images) {
        stopIfAborted(call);
        await change(image, { state: "candidate", audience: { to: "nobody" } });
      }
    },

    async setState(image, state, call) {
      stopIfAborted(call);
      if (state === "removed") throw invalid("setState", `Call remove to remove ${image.id}.`);
      await change(image, { state });
    },

    async retag(image, spec, call) {
      stopIfAborted(call);
      await change(image, { tags: { ...spec.tags } });
    },

    async remove(resource, call) {
      stopIfAborted(call);
      const at = place(resource.region);
      if (resource.kind === "staged-disk") {
        if (await removeDisk(at, resource.id.replace(/^disk-/, ""))) return;
        throw new CloudError("conflict", `An image boots from ${resource.id}.`, {
          cloud: "local",
          operation: "remove",
          region: at.region,
          subject: resource.id,
          next: "Remove the image; its disk goes with it.",
        });
      }
      const record = await at.images.get(resource.name);
      if (!record || record.id !== resource.id) return;
      await at.images.remove(resource.name);
      await removeDisk(at, record.diskKey);
    },

    async tidy() {},
    async close() {},
  };
  return translating(cloud);
}

/** Removes a disk unless an image boots from it: then false. */
async function removeDisk(at: Place, key: string): Promise<boolean> {
  if (!NAME.test(key)) return true;
  for (const name of await at.images.names()) {
    if ((await at.images.get(name))?.diskKey === key) return false;
  }
  await rm(at.file(key, "part"), { force: true });
  await rm(at.file(key, "raw"), { force: true });
  await at.disks.remove(key);
  return true;
}

function stagedOf(disk: DiskRecord, region: Region): StagedDisk {
  return { key: disk.key, region, id: `disk-${disk.key}`, diskBytes: disk.bytes };
}

function imageOf(record: ImageRecord, key: string, region: Region): CloudImage {
  return { key, region, id: record.id, name: record.name, state: record.state, diskId: `disk-${record.diskKey}` };
}

function imageAgain(record: ImageRecord, image: CloudImage): CloudImage {
  return imageOf(record, image.key, image.region);
}

function pick(record: DiskRecord | ImageRecord): Pick<CloudResource, "key" | "createdAt" | "tags"> {
  return { ...(record.key ? { key: record.key } : {}), createdAt: record.createdAt, tags: record.tags };
}

async function exists(path: string): Promise<boolean> {
  try {
    await (await open(path, "r")).close();
    return true;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

/** Bytes free where the directory is, or will be. Undefined where nobody can say. */
async function freeBytes(directory: string): Promise<number | undefined> {
  try {
    const { bavail, bsize } = await statfs(directory);
    return bavail * bsize;
  } catch (error) {
    const parent = dirname(directory);
    return isMissing(error) && parent !== directory ? freeBytes(parent) : undefined;
  }
}

function stopIfAborted({ signal }: CallContext): void {
  if (signal.aborted) throw new SlipwayError("cancelled", "The call was stopped.", { cause: signal.reason });
}

function invalid(operation: string, message: string): CloudError {
  return new CloudError("invalid", message, { cloud: "local", operation });
}

function missingDisk(region: Region, subject: string): CloudError {
  return new CloudError("not-found", "The disk is not there, or not complete.", {
    cloud: "local",
    operation: "register",
    region,
    subject,
    next: "Release the image again: the upload resumes or starts over.",
  });
}

/** Gives errors of the file system one of our codes. */
function translating(cloud: Cloud): Cloud {
  async function translated<T>(operation: string, body: Promise<T>): Promise<T> {
    try {
      return await body;
    } catch (error) {
      throw translate(error, operation);
    }
  }
  return {
    ...cloud,
    upload: (...all) => translated("upload", cloud.upload(...all)),
    register: (...all) => translated("register", cloud.register(...all)),
    offer: (...all) => translated("offer", cloud.offer(...all)),
    withdraw: (...all) => translated("withdraw", cloud.withdraw(...all)),
    setState: (...all) => translated("setState", cloud.setState(...all)),
    remove: (...all) => translated("remove", cloud.remove(...all)),
  };
}

function translate(error: unknown, operation: string): unknown {
  if (error instanceof SlipwayError || isAbort(error)) return error;
  const { code, message, path } = error as NodeJS.ErrnoException;
  const known = { ENOSPC: "disk-full", EDQUOT: "disk-full", EACCES: "forbidden", EPERM: "forbidden" } as const;
  const ours = known[code as keyof typeof known];
  if (!ours && isTransient(error) && !code) return error;
  return new CloudError(ours ?? "unavailable", `The local cloud's directory failed: ${message}`, {
    cloud: "local",
    operation,
    subject: path,
    next:
      ours === "disk-full" ? "Free some space and run it again; it resumes." : "Look at the directory's permissions.",
    cause: error,
  });
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === "AbortError";
}
