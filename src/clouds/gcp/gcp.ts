/**
 * Google Cloud: a disk becomes an archive in a bucket, the archive an image, one global resource. A candidate is in no
 * family and lets nobody in; offering changes both and moves no bytes.
 *
 * Refuses to know how disks are decoded, what a release is and what the catalog says. Start reading here; an upload is
 * `upload.ts`, an image's life `images.ts` and `states.ts`, and what Google's errors mean `errors.ts`.
 */
import type { CallContext } from "../../lib/call.ts";
import { codeOf } from "../../lib/errors.ts";
import { GiB } from "../../lib/units.ts";
import type { CloudImage, ImageKey } from "../../model.ts";
import type { Cloud, CloudResource, Found } from "../cloud.ts";
import { CloudError } from "../errors.ts";
import { checkTarget } from "./check.ts";
import {
  cloudImage,
  foreignReason,
  isOurs,
  LABEL,
  listImages,
  lookAtImage,
  nameOfId,
  registerImage,
  removeImage,
  tagsOf,
} from "./images.ts";
import { deleteDisk, isAnythingBelow, listObjects, lookAtArchive, META, partsPrefix, uriOf } from "./objects.ts";
import type { GcpOptions } from "./options.ts";
import { readBlocks } from "./read-back.ts";
import { type GcpSession, openSession } from "./session.ts";
import { bringTo, offerImage, withdrawImage } from "./states.ts";
import { uploadDisk } from "./upload.ts";
import { witness } from "./witness.ts";

/** Opens a target. Contacts nobody: wrong credentials show at the first call, or in `check`. */
export function openGcp(options: GcpOptions): Cloud {
  const session = openSession(options);
  const home = options.storageLocation;
  const outsider = options.witness && openSession({ ...options, credentials: options.witness });

  return {
    name: "gcp",
    accepts: {
      format: "raw",
      copies: true,
      // @see https://cloud.google.com/compute/docs/import/import-existing-image
      sizeMultiple: GiB,
      maxBytes: 2048 * GiB,
      // What Google takes is what composes have: one disk.raw in a tar.gz.
      keeps: ["tar.gz"],
    },
    can: {
      regionalCopies: false,
      states: ["candidate", "active", "deprecated", "obsolete", "removed"],
      sparse: true,
      readBack: true,
    },

    check: (specs, call) => checkTarget(session, specs, call),

    async find(spec, region, call): Promise<Found> {
      const found: { -readonly [Field in keyof Found]: Found[Field] } = {};
      const image = await lookAtImage(session, spec.name, call);
      if (image && !isOurs(session, image, spec.key)) {
        found.foreign = { id: cloudImage(session, image).id, reason: foreignReason(session, image) };
      } else if (image?.status === "READY" && region === home) found.image = cloudImage(session, image);
      const staged = region === home ? await lookAtArchive(session, spec.diskKey, call) : undefined;
      // With parts beside it the upload has not come to its end: it is called again and tidies up.
      if (staged && !(await isAnythingBelow(session, partsPrefix(session, spec.diskKey), call))) found.staged = staged;
      return found;
    },

    async diskBehind(_image, spec, call) {
      const staged = await lookAtArchive(session, spec.diskKey, call);
      return (
        staged ?? { unreadable: "its archive is gone since the import, and Compute does not give an image's bytes" }
      );
    },

    async *list(_regions, call) {
      for await (const image of listImages(session, call)) {
        if (image.labels[LABEL.owner] !== session.owner) continue;
        const { key, id, region } = cloudImage(session, image);
        yield {
          kind: "image",
          ...(key ? { key } : {}),
          ...{ region, id, name: image.name, complete: image.status === "READY", tags: tagsOf(image) },
          ...(image.created ? { createdAt: image.created } : {}),
        };
      }
      yield* listDisks(session, call);
    },

    upload: (disk, spec, journal, call) => uploadDisk(session, disk, spec, journal, call),
    readBack: (staged, blocks, call) => readBlocks(session, staged, blocks, call),
    register: (staged, spec, call) => registerImage(session, staged, spec, call),

    async *replicate(image, spec, regions, call) {
      for (const region of regions) {
        if (region === home) {
          const found = await lookAtImage(session, spec.name, call);
          yield { region, image: found && isOurs(session, found, spec.key) ? cloudImage(session, found) : image };
          continue;
        }
        const message = `An image is kept in ${home} and used from everywhere; ${region} is not where this target keeps it.`;
        yield {
          region,
          error: { code: "invalid", message, subject: region, cloud: "gcp", operation: "replicate", region },
        };
      }
    },

    async offer(images, _spec, audience, call) {
      for (const { id, key } of images) await offerImage(session, nameOfId(id), key, audience, call);
    },
    async withdraw(images, _spec, call) {
      for (const { id, key } of images) await withdrawImage(session, nameOfId(id), key, call);
    },
    async setState({ id, key }, state, call) {
      if (state === "removed") return removeWithDisk(session, nameOfId(id), key, call);
      return bringTo(session, nameOfId(id), key, state, call);
    },
    async remove(resource, call) {
      if (resource.kind === "image") return removeWithDisk(session, nameOfId(resource.id), resource.key, call);
      if (resource.key) return deleteDisk(session, resource.key, call);
      throw new CloudError("conflict", "An object without a readable key is not removed.", {
        ...{ cloud: "gcp", operation: "objects.delete", subject: resource.id },
        next: "Look what it is, and remove it by hand.",
      });
    },
    tidy: (staged, _spec, call) => deleteDisk(session, staged.key, call),
    ...(outsider && { witness: (images: readonly CloudImage[], call: CallContext) => witness(outsider, images, call) }),
    async close() {
      await Promise.all([session.close(), outsider?.close()]);
    },
  };
}

/** The disk first: an image without it can still be found by its label, a disk without its image only by listing. */
async function removeWithDisk(
  session: GcpSession,
  name: string,
  key: ImageKey | undefined,
  call: Parameters<Cloud["remove"]>[1],
): Promise<void> {
  const image = await lookAtImage(session, name, call);
  if (!image) return;
  const disk = isOurs(session, image, key) ? image.labels[LABEL.disk] : undefined;
  if (disk) await deleteDisk(session, disk, call);
  try {
    await removeImage(session, name, key, call);
  } catch (error) {
    if (codeOf(error) !== "not-found") throw error;
  }
}

/** Archives, and the parts of an upload that did not come to its end as one thing. */
async function* listDisks(session: GcpSession, call: Parameters<Cloud["list"]>[1]): AsyncGenerator<CloudResource> {
  const seen = new Set<string>();
  for await (const object of listObjects(session, `${session.owner}/`, call)) {
    const parts = /^(.*\/([a-z0-9]+)\.parts\/)/.exec(object.name);
    const name = parts?.[1] ?? object.name;
    if (seen.has(name)) continue;
    seen.add(name);
    const key = (parts?.[2] ?? object.metadata[META.key]) as ImageKey | undefined;
    yield {
      kind: "staged-disk",
      ...(key ? { key } : {}),
      ...{ region: session.options.storageLocation, id: uriOf(session, name), name, complete: parts === null },
      tags: object.metadata,
      ...(object.created ? { createdAt: object.created } : {}),
    };
  }
}
