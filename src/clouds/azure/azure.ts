/**
 * Azure: a disk becomes a page blob, the blob a version of a Compute Gallery, the version one resource with a list of
 * regions. Candidate is "excluded from latest"; offering takes that flag away and moves no bytes.
 *
 * A version of a community gallery can be reached by its number from its creation on: who must keep a candidate from
 * strangers releases to a private gallery first. Refuses to know how disks are decoded, what a release is and what the
 * catalog says. Start reading here; an upload is `upload.ts`, a version's life `register.ts`, `replicate.ts` and
 * `states.ts`, and what Azure's errors mean `errors.ts`.
 */
import type { CallContext } from "../../lib/call.ts";
import { codeOf } from "../../lib/errors.ts";
import { GiB, MiB } from "../../lib/units.ts";
import type { Audience, CloudImage, ImageSpec } from "../../model.ts";
import type { Cloud, CloudResource, Found } from "../cloud.ts";
import { CloudError } from "../errors.ts";
import { deleteBlob, listBlobs, lookAtBlob, stagedDisk, VHD_FOOTER_BYTES } from "./blobs.ts";
import { checkTarget } from "./check.ts";
import { listImages } from "./inventory.ts";
import { imageId, refOf, refOfId, regionName, type VersionRef } from "./names.ts";
import type { AzureOptions } from "./options.ts";
import { quotas } from "./quotas.ts";
import { readBlocks } from "./read-back.ts";
import { registerImage } from "./register.ts";
import { replicateImage } from "./replicate.ts";
import { openSession } from "./session.ts";
import { bringTo, removeVersion, retagVersion } from "./states.ts";
import { uploadDisk } from "./upload.ts";
import { foreignReason, hasKey, imageOf, isIn, lookAtVersion, provisioningOf } from "./versions.ts";
import { witness } from "./witness.ts";

export { AZURE_ACTIONS, type AzureAction } from "./actions.ts";
export { resourceId } from "./names.ts";
export type { AzureCredentials, AzureOptions, TargetRegionOptions } from "./options.ts";

/** Opens a target. Contacts nobody: wrong credentials show at the first call, or in `check`. */
export function openAzure(options: AzureOptions): Cloud {
  const session = openSession(options);
  const home = regionName(options.location);
  const outsider = options.witness && openSession({ ...options, ...options.witness });

  return {
    name: "azure",
    accepts: {
      format: "vhd",
      copies: true,
      sizeMultiple: MiB,
      // The largest OS disk. @see https://learn.microsoft.com/azure/virtual-machines/managed-disks-overview#os-disk
      maxBytes: 4095 * GiB,
    },
    can: {
      regionalCopies: false,
      states: ["candidate", "active", "deprecated", "removed"],
      sparse: true,
      readBack: true,
    },

    check: (specs, call) => checkTarget(session, specs, call),
    quotas: (_specs, call) => quotas(session, call),

    async find(spec, region, call): Promise<Found> {
      const ref = refOf(spec);
      const found: { -readonly [Field in keyof Found]: Found[Field] } = {};
      const version = await lookAtVersion(session, ref, call);
      if (version && !hasKey(session, version, spec.key)) {
        if (provisioningOf(version) !== "going") {
          found.foreign = { id: imageId(options, ref), reason: foreignReason(session, version) };
        }
      } else if (version && provisioningOf(version) !== "going" && isIn(version, regionName(region))) {
        found.image = { ...imageOf(session, ref, version, regionName(region)), region };
      }
      if (regionName(region) === home) {
        const blob = await lookAtBlob(session, spec.diskKey, call);
        if (blob?.key === spec.diskKey && blob.complete) found.staged = stagedDisk(session, spec.diskKey, blob);
      }
      return found;
    },

    async diskBehind(_image, spec, call) {
      const blob = await lookAtBlob(session, spec.diskKey, call);
      if (blob?.key === spec.diskKey && blob.complete) return stagedDisk(session, spec.diskKey, blob);
      return {
        unreadable: "its page blob is gone since the import, and a gallery does not give the bytes of a version",
      };
    },

    async *list(_regions, call) {
      yield* listImages(session, call);
      yield* listBlobs(session, call);
    },

    async upload(disk, spec, journal, call) {
      if (disk.bytes % 512 === 0 && disk.bytes > VHD_FOOTER_BYTES)
        return uploadDisk(session, disk, spec, journal, call);
      throw new CloudError("invalid", `A page blob has whole pages of 512 bytes; the disk has ${disk.bytes} bytes.`, {
        cloud: "azure",
        operation: "upload",
        region: home,
        subject: spec.name,
        next: "Have the compose make a fixed VHD.",
      });
    },
    readBack: (staged, blocks, call) => readBlocks(session, staged, blocks, call),

    register: (staged, spec, call) => registerImage(session, staged, spec, call),
    replicate: (image, spec, regions, call) => replicateImage(session, image, spec, regions, call),

    async offer(images, spec, audience, call) {
      refuseAccounts(audience, spec);
      // Offered to nobody is what a candidate is.
      const state = audience.to === "nobody" ? "candidate" : "active";
      if (images.length > 0) await bringTo(session, refOf(spec), images[0]!.key, state, call);
    },
    async withdraw(images, spec, call) {
      if (images.length > 0) await bringTo(session, refOf(spec), images[0]!.key, "candidate", call);
    },

    async setState(image, state, call) {
      const ref = refOfImage(image.id, image);
      if (state === "removed") return removeVersion(session, ref, image.key, call);
      if (state !== "obsolete") return bringTo(session, ref, image.key, state, call);
      throw new CloudError("unsupported", "Azure cannot keep a version and refuse its use.", {
        cloud: "azure",
        operation: "setState",
        subject: image.id,
        next: "Deprecate it, or remove it; write the policy for Azure without obsolete.",
      });
    },

    retag: (_image, spec, call) => retagVersion(session, refOf(spec), spec, call),

    async remove(resource, call) {
      if (resource.kind === "image")
        return removeVersion(session, refOfImage(resource.id, resource), resource.key, call);
      if (resource.key) return deleteBlob(session, resource.key, call);
      throw new CloudError("conflict", "A blob without a readable key is not removed.", {
        cloud: "azure",
        operation: "Delete Blob",
        subject: resource.id,
        next: "Look what it is, and remove it by hand.",
      });
    },

    async tidy(staged, _spec, call) {
      try {
        await deleteBlob(session, staged.key, call);
      } catch (error) {
        // Somebody replaced it in the same moment: it is theirs now.
        if (codeOf(error) !== "conflict") throw error;
      }
    },

    ...(outsider && { witness: (images: readonly CloudImage[], call: CallContext) => witness(outsider, images, call) }),
    async close() {
      await Promise.all([session.close(), outsider?.close()]);
    },
  };
}

function refOfImage(id: string, about: CloudImage | CloudResource): VersionRef {
  const ref = refOfId(id);
  if (ref) return ref;
  throw new CloudError("invalid", `"${id}" is not the id of a gallery image version.`, {
    cloud: "azure",
    operation: "GalleryImageVersions.Get",
    subject: about.name,
  });
}

/** A gallery is shared as a whole, by roles or with everybody: one image for some accounts cannot be said. */
function refuseAccounts(audience: Audience, spec: ImageSpec): void {
  if (audience.to !== "accounts") return;
  throw new CloudError("unsupported", "Azure shares galleries, not single images, with named accounts.", {
    cloud: "azure",
    operation: "offer",
    subject: spec.name,
    next: "Grant those accounts the Reader role on a gallery of their own, and offer the image there to nobody else.",
  });
}
