import type { CallContext } from "../../lib/call.ts";
import type { CloudImage, ImageSpec } from "../../model.ts";
import { CloudError } from "../errors.ts";
import { type Account, rootSnapshot } from "./account.ts";
import { fromAws, toAws } from "./tags.ts";

/** What people look for, on the image and its snapshot. Keys of ours are how both were found, and what others added stays. */
export async function retag(account: Account, image: CloudImage, spec: ImageSpec, call: CallContext): Promise<void> {
  const { id, region } = image;
  const found = await account.imageById(id, region, call);
  if (found === undefined) {
    const where = { cloud: "aws" as const, operation: "DescribeImages", region, subject: id };
    throw new CloudError("not-found", `There is no image ${id} in ${region}.`, where);
  }
  const now = fromAws(found.Tags);
  const wrong = Object.entries({ ...spec.tags, Name: spec.name }).filter(([key, value]) => now[key] !== value);
  if (wrong.length === 0) return;
  const Resources = [id, rootSnapshot(found)].filter((one) => one !== undefined);
  const Tags = toAws(Object.fromEntries(wrong));
  await account.connection.ec2(region, "CreateTags", id, call, (ec2, send) =>
    ec2.createTags({ Resources, Tags }, send),
  );
}
