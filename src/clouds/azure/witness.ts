/** What somebody of another tenant sees of a community gallery: asked in a subscription of their own. */
import type { CallContext } from "../../lib/call.ts";
import { codeOf } from "../../lib/errors.ts";
import type { CloudImage } from "../../model.ts";
import { refOfId, regionName } from "./names.ts";
import type { AzureSession } from "./session.ts";

/** @see https://learn.microsoft.com/rest/api/compute/community-gallery-image-versions/get */
const API_VERSION = "2023-07-03";

/**
 * Whether each image is offered in its region. A version of a community gallery can be reached by its number as soon as
 * it is made; what an offer changes is whether it is what people get who name no number, and that is what counts here.
 * @throws CloudError for everything but "not there": whoever cannot ask has seen nothing
 */
export async function witness(
  outsider: AzureSession,
  images: readonly CloudImage[],
  call: CallContext,
): Promise<boolean[]> {
  const { subscriptionId, publicGalleryName = "" } = outsider.options;
  const seen: boolean[] = [];
  for (const { id, region } of images) {
    const ref = refOfId(id);
    const place = `/subscriptions/${subscriptionId}/providers/Microsoft.Compute/locations/${regionName(region)}`;
    const version = `images/${ref?.definition}/versions/${ref?.version}`;
    const path = `${place}/communityGalleries/${publicGalleryName}/${version}`;
    const ask = { operation: "communityGalleryImageVersions.get", region, subject: id };
    try {
      const found = (await outsider.read(path, API_VERSION, ask, call)) as {
        properties?: { excludeFromLatest?: unknown };
      };
      seen.push(found.properties?.excludeFromLatest !== true);
    } catch (error) {
      if (codeOf(error) !== "not-found") throw error;
      seen.push(false);
    }
  }
  return seen;
}
