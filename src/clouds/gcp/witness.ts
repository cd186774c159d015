/** What somebody outside the project sees: asked with an account of another one, which needs no rights in ours. */
import type { CallContext } from "../../lib/call.ts";
import { codeOf } from "../../lib/errors.ts";
import type { CloudImage } from "../../model.ts";
import { lookAtImage, nameOfId } from "./images.ts";
import type { GcpSession } from "./session.ts";

/**
 * Whether each image is visible and can be used. One that lets nobody in is refused, as one that is not there would be.
 * @throws CloudError for everything else: whoever cannot ask has seen nothing
 */
export async function witness(
  outsider: GcpSession,
  images: readonly CloudImage[],
  call: CallContext,
): Promise<boolean[]> {
  const seen: boolean[] = [];
  for (const { id } of images) {
    try {
      const image = await lookAtImage(outsider, nameOfId(id), call);
      seen.push(image?.status === "READY");
    } catch (error) {
      if (codeOf(error) !== "forbidden") throw error;
      seen.push(false);
    }
  }
  return seen;
}
