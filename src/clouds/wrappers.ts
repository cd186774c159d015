/**
 * What is the same for all clouds, each an idea of its own around a naive driver. `index.ts` puts them in order.
 */

import { virtualBytes } from "../images/block-source.ts";
import type { CallContext, Log } from "../lib/call.ts";
import type { CloudImage, ImageSpec, Region, StagedDisk } from "../model.ts";
import type { Cloud, Found, RegionOutcome, StagedOutcome } from "./cloud.ts";
import { CloudError } from "./errors.ts";
import { gate } from "./gate.ts";

type UploadEachArguments = Parameters<NonNullable<Cloud["uploadEach"]>>;

export const DEFAULT_LIMITS: Limits = { calls: 16 };

/** A driver with everything around it that production has. The contract tests drivers this way. */
export function inProduction(driver: Cloud, limits: Limits = DEFAULT_LIMITS): Cloud {
  return limited(logged(accepting(converging(driver))), limits);
}

/** Finds before creating, so that any creating call may be repeated. A foreign image stops it before a byte is sent. */
export function converging(driver: Cloud): Cloud {
  return {
    ...driver,
    async upload(disk, spec, journal, call) {
      const found = await driver.find(spec, spec.homeRegion, call);
      refuseForeign(found, "upload");
      if (found.staged) {
        call.onProgress?.({ doneBytes: disk.bytes, totalBytes: disk.bytes, sentBytes: 0 });
        return found.staged;
      }
      return driver.upload(disk, spec, journal, call);
    },
    ...(driver.uploadEach ? { uploadEach } : {}),
    async register(staged, spec, call) {
      const found = await driver.find(spec, staged.region, call);
      refuseForeign(found, "register");
      return found.image ?? driver.register(staged, spec, call);
    },
    // replicate looks in every region itself: it has to re-attach to copies that are under way, which find cannot see.
  };

  /** Looked at region by region, each in its own time: one that answers late keeps no other from beginning. */
  function uploadEach(...[disk, spec, regions, journalOf, call]: UploadEachArguments): AsyncIterable<StagedOutcome> {
    const looking = async (region: Region) => {
      refuseForeign(await driver.find(spec, region, call), "upload");
      return journalOf(region);
    };
    return driver.uploadEach!(disk, spec, regions, looking, call);
  }

  function refuseForeign({ foreign }: Found, operation: string): void {
    if (!foreign) return;
    throw new CloudError("already-exists", `An image of this name is there and is not this one: ${foreign.reason}.`, {
      cloud: driver.name,
      operation,
      subject: foreign.id,
      next: "Find out whose it is. Remove or rename it there, or change the name pattern of the system.",
    });
  }
}

/** Refuses a disk the cloud would refuse after minutes of sending. */
export function accepting(driver: Cloud): Cloud {
  const { format, sizeMultiple, maxBytes } = driver.accepts;
  const footer = format === "vhd" ? VHD_FOOTER_BYTES : 0;
  return {
    ...driver,
    async upload(disk, spec, journal, call) {
      refuse(virtualBytes(disk), spec);
      return driver.upload(disk, spec, journal, call);
    },
    ...(driver.uploadEach ? { uploadEach } : {}),
  };

  async function* uploadEach(...[disk, spec, ...rest]: UploadEachArguments) {
    refuse(virtualBytes(disk), spec);
    yield* driver.uploadEach!(disk, spec, ...rest);
  }

  function refuse(bytes: number, spec: ImageSpec): void {
    const virtual = bytes - footer;
    const broken =
      virtual <= 0
        ? "it is empty"
        : virtual % sizeMultiple !== 0
          ? `its ${virtual} bytes are not a whole number of ${sizeMultiple} bytes`
          : virtual > maxBytes
            ? `its ${virtual} bytes are more than the ${maxBytes} the cloud takes`
            : undefined;
    if (!broken) return;
    throw new CloudError("invalid", `${driver.name} does not take the disk: ${broken}.`, {
      cloud: driver.name,
      operation: "upload",
      region: spec.homeRegion,
      subject: spec.name,
      next: "Have the compose make the disk in a size the cloud takes; nothing was sent.",
    });
  }
}

/** @see https://github.com/libyal/libvhdi/blob/main/documentation/Virtual%20Hard%20Disk%20(VHD)%20image%20format.asciidoc */
const VHD_FOOTER_BYTES = 512;

/** Says what each call did and how long it took. Errors are left to whoever handles them, but for a debug line. */
export function logged(driver: Cloud): Cloud {
  async function timed<T>(operation: string, fields: object, log: Log, body: () => Promise<T>): Promise<T> {
    const began = performance.now();
    const facts = { cloud: driver.name, operation, ...fields };
    log.debug("cloud call begins", facts);
    try {
      const result = await body();
      log.info("cloud call done", { ...facts, ms: Math.round(performance.now() - began) });
      return result;
    } catch (error) {
      log.debug("cloud call failed", { ...facts, ms: Math.round(performance.now() - began), error });
      throw error;
    }
  }
  return {
    ...driver,
    upload: (disk, spec, journal, call) =>
      timed("upload", { image: spec.name, region: spec.homeRegion, bytes: disk.bytes }, call.log, () =>
        driver.upload(disk, spec, journal, call),
      ),
    ...(driver.uploadEach ? { uploadEach } : {}),
    register: (staged, spec, call) =>
      timed("register", { image: spec.name, region: staged.region, disk: staged.id }, call.log, () =>
        driver.register(staged, spec, call),
      ),
    async *replicate(image, spec, regions, call) {
      for await (const outcome of driver.replicate(image, spec, regions, call)) {
        const facts = { cloud: driver.name, image: spec.name, region: outcome.region };
        if ("image" in outcome) call.log.info("image is in region", { ...facts, id: outcome.image.id });
        else call.log.warn("image did not get into region", { ...facts, error: outcome.error });
        yield outcome;
      }
    },
    offer: (images, spec, audience, call) =>
      timed("offer", { image: spec.name, images: images.length, to: audience.to }, call.log, () =>
        driver.offer(images, spec, audience, call),
      ),
    withdraw: (images, spec, call) =>
      timed("withdraw", { image: spec.name, images: images.length }, call.log, () =>
        driver.withdraw(images, spec, call),
      ),
    setState: (image, state, call) =>
      timed("setState", { id: image.id, region: image.region, state }, call.log, () =>
        driver.setState(image, state, call),
      ),
    ...(driver.retag ? { retag } : {}),
    remove: (resource, call) =>
      timed("remove", { kind: resource.kind, id: resource.id, region: resource.region }, call.log, () =>
        driver.remove(resource, call),
      ),
  };

  async function retag(image: CloudImage, spec: ImageSpec, call: CallContext): Promise<void> {
    await timed("retag", { id: image.id, region: image.region }, call.log, () => driver.retag!(image, spec, call));
  }

  async function* uploadEach(...[disk, spec, regions, journalOf, call]: UploadEachArguments) {
    for await (const outcome of driver.uploadEach!(disk, spec, regions, journalOf, call)) {
      const facts = { cloud: driver.name, image: spec.name, region: outcome.region };
      if ("staged" in outcome) call.log.info("disk is in region", { ...facts, id: outcome.staged.id });
      else call.log.warn("disk did not get into region", { ...facts, error: outcome.error });
      yield outcome;
    }
  }
}

export interface Limits {
  /** Calls at one time, but for uploads (`gate.ts`). Reading back counts, listing does not: who lists often calls again inside the loop. */
  readonly calls: number;
}

/** Lets only so many calls run at one time; the others wait their turn, and stop waiting when their signal says so. */
export function limited(driver: Cloud, limits: Limits): Cloud {
  const calls = gate(limits.calls);
  return {
    ...driver,
    check: (specs, call) => calls(call.signal, () => driver.check(specs, call)),
    find: (spec, region, call) => calls(call.signal, () => driver.find(spec, region, call)),
    diskBehind: (image, spec, call) => calls(call.signal, () => driver.diskBehind(image, spec, call)),
    register: (staged, spec, call) => calls(call.signal, () => driver.register(staged, spec, call)),
    offer: (images, spec, to, call) => calls(call.signal, () => driver.offer(images, spec, to, call)),
    withdraw: (images, spec, call) => calls(call.signal, () => driver.withdraw(images, spec, call)),
    ...(driver.strangers && {
      strangers: (image, audience, call) => calls(call.signal, () => driver.strangers!(image, audience, call)),
    }),
    ...(driver.notify && { notify: (notice, call) => calls(call.signal, () => driver.notify!(notice, call)) }),
    setState: (image, state, call) => calls(call.signal, () => driver.setState(image, state, call)),
    ...(driver.retag
      ? {
          retag: (image: CloudImage, spec: ImageSpec, call: CallContext) =>
            calls(call.signal, () => driver.retag!(image, spec, call)),
        }
      : {}),
    remove: (resource, call) => calls(call.signal, () => driver.remove(resource, call)),
    tidy: (staged, spec, call) => calls(call.signal, () => driver.tidy(staged, spec, call)),
  };
}

/** One change that a dry run did not make. */
export interface Intention {
  readonly verb:
    | "upload"
    | "register"
    | "replicate"
    | "offer"
    | "withdraw"
    | "notify"
    | "setState"
    | "retag"
    | "remove"
    | "tidy";
  readonly what: string;
  readonly region?: string;
}

/** Looks as the driver does and changes nothing; each change it would have made is told. Made-up ids say `dry-run`. */
export function dryRun(driver: Cloud, tell: (intention: Intention) => void): Cloud {
  return {
    ...driver,
    async upload(disk, spec) {
      tell({ verb: "upload", what: `${spec.name}, ${disk.bytes} bytes`, region: spec.homeRegion });
      return { key: spec.diskKey, region: spec.homeRegion, id: "dry-run", diskBytes: spec.diskBytes };
    },
    ...(driver.uploadEach ? { uploadEach } : {}),
    async register(staged, spec): Promise<CloudImage> {
      tell({ verb: "register", what: spec.name, region: staged.region });
      return { key: spec.key, region: staged.region, id: "dry-run", name: spec.name, state: "candidate" };
    },
    async *replicate(image, spec, regions, call: CallContext): AsyncIterable<RegionOutcome> {
      for (const region of regions) {
        const found = region === image.region ? { image } : await driver.find(spec, region, call);
        if (!found.image) tell({ verb: "replicate", what: spec.name, region });
        yield { region, image: found.image ?? { ...image, region, id: "dry-run" } };
      }
    },
    async offer(images, _spec, audience) {
      for (const { name, region } of images) tell({ verb: "offer", what: `${name} to ${audience.to}`, region });
    },
    async withdraw(images) {
      for (const { name, region } of images) tell({ verb: "withdraw", what: name, region });
    },
    ...(driver.notify && {
      async notify({ change, spec }) {
        tell({ verb: "notify", what: `${spec.name} ${change}` });
      },
    }),
    async setState({ name, region }, state) {
      tell({ verb: "setState", what: `${name} → ${state}`, region });
    },
    ...(driver.retag
      ? {
          async retag({ name, region }: CloudImage) {
            tell({ verb: "retag", what: name, region });
          },
        }
      : {}),
    async remove({ name, id, region }) {
      tell({ verb: "remove", what: `${name} (${id})`, region });
    },
    async tidy(staged: StagedDisk) {
      tell({ verb: "tidy", what: staged.id, region: staged.region });
    },
  };
  async function* uploadEach(...[disk, spec, regions]: UploadEachArguments): AsyncGenerator<StagedOutcome> {
    for (const region of regions) {
      tell({ verb: "upload", what: `${spec.name}, ${disk.bytes} bytes`, region });
      yield { region, staged: { key: spec.diskKey, region, id: "dry-run", diskBytes: spec.diskBytes } };
    }
  }
}
