/**
 * What a gallery may have of versions. Azure counts them by subscription and region and tells nobody how many there are;
 * those of this gallery are counted here.
 * @see https://learn.microsoft.com/azure/virtual-machines/azure-compute-gallery#limits
 */
import type { CallContext } from "../../lib/call.ts";
import type { Quota } from "../cloud.ts";
import { galleryVersions } from "./inventory.ts";
import { imageId, TAG, tag } from "./names.ts";
import { AZURE_LIMITS } from "./options.ts";
import type { AzureSession } from "./session.ts";
import { isOurs } from "./versions.ts";

const RETIRABLE = 10;

export async function quotas(session: AzureSession, call: CallContext): Promise<Quota[]> {
  const ours: { id: string; name: string; createdAt?: string }[] = [];
  let used = 0;
  for await (const { ref, version } of galleryVersions(session, call)) {
    used++;
    const { publishingProfile, safetyProfile } = version;
    const end = publishingProfile?.endOfLifeDate;
    const kept = safetyProfile?.blockDeletionBeforeEndOfLife === true && (!end || end.getTime() > Date.now());
    // What Azure would refuse to delete makes no room.
    if (!isOurs(session, version) || kept) continue;
    const createdAt = publishingProfile?.publishedDate?.toISOString();
    ours.push({
      id: imageId(session.options, ref),
      name: tag(version.tags, TAG.name) ?? `${ref.definition}/${ref.version}`,
      ...(createdAt ? { createdAt } : {}),
    });
  }
  ours.sort((a, b) => `${a.createdAt}${a.id}`.localeCompare(`${b.createdAt}${b.id}`));
  return [
    {
      subject: "gallery image versions",
      used,
      limit: AZURE_LIMITS.versionsPerRegion,
      limitFrom: "default",
      counts: "images",
      retirable: ours.slice(0, RETIRABLE),
      increase: "Ask Azure's support for more image versions per region in this subscription.",
    },
  ];
}
