/**
 * Lifecycle states in AWS's terms: candidate = private, active = shared, deprecated = a deprecation date that has come,
 * obsolete = disabled. Disabling drops the launch permissions for good, so they are written into tags first and
 * restored from there.
 */
import type { Image } from "@aws-sdk/client-ec2";
import type { CallContext } from "../../lib/call.ts";
import { minutes } from "../../lib/units.ts";
import type { CloudImage, LifecycleState } from "../../model.ts";
import { CloudError } from "../errors.ts";
import { type Account, isDeprecated, isReady } from "./account.ts";
import { deprecationTime } from "./deprecation.ts";
import { letIn, setAudience } from "./offer.ts";
import { putBack } from "./parameters.ts";
import { END_OF_LIFE, fromAws, OFFERED, STATE, toAws } from "./tags.ts";
import { until } from "./waiting.ts";

/** AWS takes no date that is not in the future, and rounds to minutes. */
const DEPRECATE_IN_MS = minutes(2);

export async function setState(account: Account, image: CloudImage, state: LifecycleState, call: CallContext) {
  const { id, region } = image;
  const found = await account.imageById(id, region, call);
  if (!found) {
    throw new CloudError("not-found", `There is no image ${id} in ${region}.`, {
      cloud: "aws",
      operation: "DescribeImages",
      region,
      subject: id,
    });
  }
  switch (state) {
    case "candidate":
      await enable(account, image, found, call);
      await undeprecate(account, image, found, call);
      await putBack(account, found, region, { keep: false }, call);
      return setAudience(account, image, [], call);
    case "active":
      await enable(account, image, found, call);
      return undeprecate(account, image, found, call);
    case "deprecated":
      await enable(account, image, found, call);
      // Who starts a deprecated image gets what it was; better than a name that leads nowhere.
      await putBack(account, found, region, { keep: true }, call);
      return deprecate(account, image, found, call);
    case "obsolete":
      await putBack(account, found, region, { keep: false }, call);
      return disable(account, image, found, call);
    default:
      throw new CloudError("unsupported", `AWS has no state ${state}; remove removes.`, {
        cloud: "aws",
        operation: "setState",
        region,
        subject: id,
      });
  }
}

async function deprecate(account: Account, { id, region }: CloudImage, found: Image, call: CallContext) {
  if (isDeprecated(found)) return;
  const DeprecateAt = new Date(Date.now() + DEPRECATE_IN_MS);
  await account.connection.ec2(region, "EnableImageDeprecation", id, call, (ec2, send) =>
    ec2.enableImageDeprecation({ ImageId: id, DeprecateAt }, send),
  );
  await setTags(account, id, region, { [STATE]: "deprecated" }, call);
}

async function undeprecate(account: Account, { id, region }: CloudImage, found: Image, call: CallContext) {
  if (!isDeprecated(found)) return;
  const tags = fromAws(found.Tags);
  const at = tags[END_OF_LIFE] ? deprecationTime(tags[END_OF_LIFE], found, found.Public === true) : undefined;
  if (at) {
    await account.connection.ec2(region, "EnableImageDeprecation", id, call, (ec2, send) =>
      ec2.enableImageDeprecation({ ImageId: id, DeprecateAt: at }, send),
    );
  } else {
    await account.connection.ec2(region, "DisableImageDeprecation", id, call, (ec2, send) =>
      ec2.disableImageDeprecation({ ImageId: id }, send),
    );
  }
  if (tags[STATE]) await deleteTags(account, id, region, [STATE], call);
}

async function disable(account: Account, image: CloudImage, found: Image, call: CallContext) {
  const { id, region } = image;
  if (found.State !== "disabled") {
    await setTags(account, id, region, offeredTags(await account.launchers(id, region, call)), call);
    await account.connection.ec2(region, "DisableImage", id, call, (ec2, send) =>
      ec2.disableImage({ ImageId: id }, send),
    );
  }
  await inState(account, image, (one) => one.State === "disabled", call);
}

async function enable(account: Account, image: CloudImage, found: Image, call: CallContext) {
  const { id, region } = image;
  const tags = fromAws(found.Tags);
  const journalled = Object.keys(tags).filter((key) => key.startsWith(OFFERED));
  if (found.State === "disabled") {
    await account.connection.ec2(region, "EnableImage", id, call, (ec2, send) =>
      ec2.enableImage({ ImageId: id }, send),
    );
    await inState(account, image, (one) => one.State === "available", call);
  }
  // Left over from an attempt that got no further, too: the tags go last.
  if (journalled.length === 0) return;
  const ids = journalled.flatMap((key) => (tags[key] ?? "").split(" ").filter(Boolean));
  if (ids.length > 0) await letIn(account, image, ids, call);
  await deleteTags(account, id, region, journalled, call);
}

const TAG_CHARACTERS = 255;

/** As many as fit into a tag, and another tag for the rest. */
function offeredTags(ids: readonly string[]): Record<string, string> {
  const texts = [""];
  for (const id of ids) {
    const text = `${texts.at(-1)} ${id}`.trim();
    if (text.length <= TAG_CHARACTERS) texts[texts.length - 1] = text;
    else texts.push(id);
  }
  return Object.fromEntries(texts.map((text, at) => [at === 0 ? OFFERED : `${OFFERED}-${at + 1}`, text]));
}

async function inState(account: Account, { id, region }: CloudImage, is: (image: Image) => boolean, call: CallContext) {
  const { pace } = account;
  const look = async () => {
    const found = await account.imageById(id, region, call);
    return found && isReady(found) && is(found) ? true : undefined;
  };
  const options = { what: `The state of ${id}`, operation: "DescribeImages", region, pace, signal: call.signal };
  await until(look, { ...options, deadlineMs: pace.visibleMs });
}

async function setTags(account: Account, id: string, region: string, tags: Record<string, string>, call: CallContext) {
  await account.connection.ec2(region, "CreateTags", id, call, (ec2, send) =>
    ec2.createTags({ Resources: [id], Tags: toAws(tags) }, send),
  );
}

async function deleteTags(account: Account, id: string, region: string, keys: readonly string[], call: CallContext) {
  await account.connection.ec2(region, "DeleteTags", id, call, (ec2, send) =>
    ec2.deleteTags({ Resources: [id], Tags: keys.map((Key) => ({ Key })) }, send),
  );
}
