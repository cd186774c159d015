/** What somebody outside the account sees: asked with credentials of another one, which need no rights in ours. */
import type { CallContext } from "../../lib/call.ts";
import type { CloudImage, Region } from "../../model.ts";
import type { Connection } from "./connection.ts";
import { forEachOf } from "./waiting.ts";

const AT_ONCE = 8;

/**
 * Whether each image is visible. Asked by filter: an id that is hidden is left out of the answer, where asking by id
 * would be an error. The answer is believed only of images that are ready, as users can start no others.
 */
export async function witness(
  outsider: Connection,
  images: readonly CloudImage[],
  call: CallContext,
): Promise<boolean[]> {
  const seen = new Set<string>();
  const regions = [...new Set(images.map((image) => image.region))];
  await forEachOf(regions, AT_ONCE, async (region: Region) => {
    const Values = images.filter((image) => image.region === region).map((image) => image.id);
    const Filters = [
      { Name: "image-id", Values },
      { Name: "state", Values: ["available"] },
    ];
    const answer = await outsider.ec2(region, "DescribeImages", Values[0], call, (ec2, send) =>
      ec2.describeImages({ Filters, IncludeDeprecated: true }, send),
    );
    for (const { ImageId } of answer.Images ?? []) seen.add(`${region} ${ImageId}`);
  });
  return images.map(({ region, id }) => seen.has(`${region} ${id}`));
}
