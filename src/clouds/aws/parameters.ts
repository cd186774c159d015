/**
 * The parameter that names the newest image: `/fedora/cloud/x86_64/latest` → ami-…, in each region's Parameter Store.
 *
 * Written last when an image is offered and put back first when it is taken away, so that it names nothing that users
 * may not start. The image's tags say which parameter it has; where the parameter was before, AWS's own history says.
 * A parameter that does not carry our owner tag is somebody else's and stays as it is.
 * @see https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-ec2-aliases.html
 */
import type { Image } from "@aws-sdk/client-ec2";
import type { SSM } from "@aws-sdk/client-ssm";
import type { CallContext } from "../../lib/call.ts";
import { codeOf } from "../../lib/errors.ts";
import type { CloudImage, Region } from "../../model.ts";
import { CloudError } from "../errors.ts";
import { type Account, isDeprecated } from "./account.ts";
import type { SendOptions } from "./connection.ts";
import { fromAws, OWNER, OWNER_VALUE, PARAMETER } from "./tags.ts";
import { until } from "./waiting.ts";

/** What a parameter holds may be anything until it is ours. */
const AMI = /^ami-[0-9a-f]{8,17}$/;

/**
 * Has the image's parameter name it, unless that names a later compose's already: then an older image was healed or
 * offered late. Returns when reading sees it: AWS looks at an image's id after it has answered. Safe to repeat.
 * @throws CloudError `already-exists` if the parameter is somebody else's
 */
export async function point(account: Account, { id, region }: CloudImage, name: string, call: CallContext) {
  const image = await account.imageById(id, region, call);
  if (!image) return;
  const done = async () => {
    const value = await valueIn(account, name, region, call);
    if (value === id) return true;
    return value !== undefined && (await isLater(account, value, image, region, call)) ? true : undefined;
  };
  if (await done()) {
    call.log.info("parameter stays", { parameter: name, region, image: id });
    return;
  }
  await write(account, name, id, region, call);
  await settled(account, name, region, done, call);
}

/**
 * Takes an image out of its parameter: the last one before it that users may still start takes its place. Without one
 * the parameter is deleted, or, with `keep`, left. One that names another image is left alone. Safe to repeat.
 */
export async function putBack(
  account: Account,
  image: Image,
  region: Region,
  options: { readonly keep: boolean },
  call: CallContext,
): Promise<void> {
  const name = fromAws(image.Tags)[PARAMETER];
  const id = image.ImageId ?? "";
  if (!name || (await valueIn(account, name, region, call)) !== id) return;
  if (!(await isOurs(account, name, region, call))) return;
  for (const value of await earlierValues(account, name, region, call)) {
    if (value === id || !(await mayBeStarted(account, value, region, call))) continue;
    await write(account, name, value, region, call);
    const done = async () => ((await valueIn(account, name, region, call)) === id ? undefined : true);
    await settled(account, name, region, done, call);
    call.log.warn("parameter put back", { parameter: name, region, from: id, to: value });
    return;
  }
  if (options.keep) return;
  await ask(account, "DeleteParameter", name, region, call, (ssm, send) => ssm.deleteParameter({ Name: name }, send));
  call.log.warn("parameter deleted, there is no earlier image", { parameter: name, region, from: id });
}

async function write(account: Account, Name: string, Value: string, region: Region, call: CallContext) {
  const common = { Name, Value, Type: "String", DataType: "aws:ec2:image" } as const;
  const Tags = [{ Key: OWNER, Value: OWNER_VALUE }];
  try {
    await ask(account, "PutParameter", Name, region, call, (ssm, send) => ssm.putParameter({ ...common, Tags }, send));
    return;
  } catch (error) {
    if (codeOf(error) !== "already-exists") throw error;
  }
  if (!(await isOurs(account, Name, region, call))) {
    throw new CloudError("already-exists", `The parameter ${Name} in ${region} is not Slipway's.`, {
      cloud: "aws",
      operation: "PutParameter",
      region,
      subject: Name,
      next: `Choose another name for the rule's aws.parameter, or hand it over: tag it ${OWNER}=${OWNER_VALUE} (aws ssm add-tags-to-resource).`,
    });
  }
  await ask(account, "PutParameter", Name, region, call, (ssm, send) =>
    ssm.putParameter({ ...common, Overwrite: true }, send),
  );
}

/** PutParameter answers before AWS has looked whether there is such an image, and says nothing if there is none. */
async function settled(
  account: Account,
  name: string,
  region: Region,
  done: () => Promise<true | undefined>,
  call: CallContext,
): Promise<void> {
  const { pace } = account;
  const options = { what: `The parameter ${name}`, operation: "PutParameter", region, pace, signal: call.signal };
  await until(done, { ...options, deadlineMs: pace.visibleMs });
}

async function valueIn(account: Account, Name: string, region: Region, call: CallContext): Promise<string | undefined> {
  try {
    const answer = await ask(account, "GetParameter", Name, region, call, (ssm, send) =>
      ssm.getParameter({ Name }, send),
    );
    return answer.Parameter?.Value;
  } catch (error) {
    if (codeOf(error) === "not-found") return undefined;
    throw error;
  }
}

async function isOurs(account: Account, name: string, region: Region, call: CallContext): Promise<boolean> {
  const answer = await ask(account, "ListTagsForResource", name, region, call, (ssm, send) =>
    ssm.listTagsForResource({ ResourceType: "Parameter", ResourceId: name }, send),
  );
  return (answer.TagList ?? []).some(({ Key, Value }) => Key === OWNER && Value === OWNER_VALUE);
}

/** Each once, newest first. AWS keeps a hundred. */
async function earlierValues(account: Account, Name: string, region: Region, call: CallContext): Promise<string[]> {
  const values: string[] = [];
  let NextToken: string | undefined;
  do {
    const page = await ask(account, "GetParameterHistory", Name, region, call, (ssm, send) =>
      ssm.getParameterHistory({ Name, MaxResults: 50, NextToken }, send),
    );
    values.push(...(page.Parameters ?? []).flatMap(({ Value }) => Value ?? []));
    NextToken = page.NextToken || undefined;
  } while (NextToken);
  return [...new Set(values.reverse())];
}

async function mayBeStarted(account: Account, id: string, region: Region, call: CallContext): Promise<boolean> {
  const image = AMI.test(id) ? await account.imageById(id, region, call) : undefined;
  if (image?.State !== "available" || isDeprecated(image)) return false;
  return image.Public === true || (await account.launchers(id, region, call)).length > 0;
}

/** Whether an image is of a later compose than another, by its date and then its respin. What says neither is not. */
async function isLater(account: Account, id: string, than: Image, region: Region, call: CallContext): Promise<boolean> {
  const held = AMI.test(id) ? await account.imageById(id, region, call) : undefined;
  if (held?.State !== "available") return false;
  const [ours, theirs] = [fromAws(than.Tags), fromAws(held.Tags)].map(({ Date: date, Respin: respin }) => ({
    date: date ?? "",
    respin: Number(respin ?? 0),
  }));
  if (!ours || !theirs) return false;
  return theirs.date === ours.date ? theirs.respin > ours.respin : theirs.date > ours.date;
}

async function ask<T>(
  account: Account,
  operation: string,
  name: string,
  region: Region,
  call: CallContext,
  run: (ssm: SSM, send: SendOptions) => Promise<T>,
): Promise<T> {
  return account.connection.ssm(region, operation, name, call, run);
}
