/**
 * Copies of an AMI in other regions, each reported as it ends.
 *
 * A copy takes minutes to an hour, and CopyImage makes a second one gladly. So each region is looked at first, by key
 * and, for a copy whose tags have not arrived, by its source; a copy under way is waited for, whoever started it; the
 * client token makes a repeated request the same request; and afterwards it is looked again, for two that met.
 */
import type { Image } from "@aws-sdk/client-ec2";
import type { CallContext } from "../../lib/call.ts";
import { codeOf, reportOf, SlipwayError } from "../../lib/errors.ts";
import type { CloudImage, ImageSpec, Region } from "../../model.ts";
import type { RegionOutcome } from "../cloud.ts";
import { CloudError } from "../errors.ts";
import { type Account, isReady, rootSnapshot, snapshotsIn } from "./account.ts";
import { vendorOf } from "./errors.ts";
import { ensureTags, gaveUp, pickMine } from "./register.ts";
import { remove } from "./remove.ts";
import { fromAws, KEY, tagsFor, toAws } from "./tags.ts";
import { tokenFrom } from "./upload.ts";
import { asCompleted, until } from "./waiting.ts";

/** Regions worked on at a time: all of them as a rule; AWS copies, we only ask. */
const REGIONS_AT_ONCE = 32;
/** A token that leads to a copy that failed or was removed is used up; the next in the chain is taken. */
const GENERATIONS = 5;

export async function* replicate(
  account: Account,
  image: CloudImage,
  spec: ImageSpec,
  regions: readonly Region[],
  call: CallContext,
): AsyncGenerator<RegionOutcome> {
  const outcomes = asCompleted(regions, REGIONS_AT_ONCE, async (region): Promise<RegionOutcome> => {
    try {
      return {
        region,
        image: region === image.region ? await again() : await copyTo(account, image, spec, region, call),
      };
    } catch (error) {
      return { region, error: reportOf(error) };
    }
  });
  for await (const outcome of outcomes) {
    if (call.signal.aborted) throw new SlipwayError("cancelled", "Waiting for copies was stopped; they go on at AWS.");
    yield outcome;
  }

  async function again(): Promise<CloudImage> {
    const found = await account.imageById(image.id, image.region, call);
    if (found) return account.toCloudImage(found, spec, image.region, call);
    throw new CloudError("not-found", `There is no image ${image.id} in ${image.region}.`, {
      cloud: "aws",
      operation: "DescribeImages",
      region: image.region,
      subject: image.id,
      next: "Release the image again; it is registered anew.",
    });
  }
}

async function copyTo(
  account: Account,
  image: CloudImage,
  spec: ImageSpec,
  region: Region,
  call: CallContext,
): Promise<CloudImage> {
  const id =
    (await existing(account, image, spec, region, call))?.ImageId ?? (await start(account, image, spec, region, call));
  const copy =
    (await available(account, id, region, call)) ?? (await successor(account, image, id, spec, region, call));
  await tag(account, copy, spec, region, call);
  const kept = await settleDuplicates(account, copy, spec, region, call);
  return account.toCloudImage(kept, spec, region, call);
}

/** A copy that is there or under way. One that failed is cleared away. */
async function existing(
  account: Account,
  image: CloudImage,
  spec: ImageSpec,
  region: Region,
  call: CallContext,
): Promise<Image | undefined> {
  const named = await account.imagesNamed(spec.name, region, call);
  const isCopy = (one: Image) => one.SourceImageId === image.id && one.SourceImageRegion === image.region;
  const alive: Image[] = [];
  for (const one of named) {
    const mine = fromAws(one.Tags)[KEY] === spec.key || isCopy(one);
    if (!mine || (one.State !== "failed" && one.State !== "error" && one.State !== "invalid")) alive.push(one);
    else await discard(account, one, region, call);
  }
  return (
    pickMine(
      alive.filter((one) => !isCopy(one) || fromAws(one.Tags)[KEY]),
      spec,
      region,
    ) ?? alive.find(isCopy)
  );
}

async function start(
  account: Account,
  image: CloudImage,
  spec: ImageSpec,
  region: Region,
  call: CallContext,
): Promise<string> {
  const tags = toAws(tagsFor(spec, spec.diskBytes));
  let previous = image.id;
  for (let generation = 0; generation < GENERATIONS; generation++) {
    const answer = await unlessUsedUp(
      account.connection.ec2(region, "CopyImage", image.id, call, (ec2, send) =>
        ec2.copyImage(
          {
            ClientToken: tokenFrom("copy", spec.key, region, previous),
            Name: spec.name,
            Description: spec.description.replace(/[^\x20-\x7e]/g, "?").slice(0, 255),
            SourceImageId: image.id,
            SourceRegion: image.region,
            TagSpecifications: [
              { ResourceType: "image", Tags: tags },
              { ResourceType: "snapshot", Tags: tags },
            ],
          },
          send,
        ),
      ),
    );
    if (!answer) {
      previous = `${previous}+`;
      continue;
    }
    const id = answer.ImageId ?? "";
    call.log.info("copy started", { id, region, source: image.id });
    const seen = await account.imageById(id, region, call);
    if (seen ? seen.State !== "failed" : await becomesVisible(account, id, region, call)) return id;
    if (seen) await discard(account, seen, region, call);
    previous = id;
  }
  throw new CloudError("conflict", `Every copy to ${region} that was started came to nothing.`, {
    cloud: "aws",
    operation: "CopyImage",
    region,
    subject: image.id,
    tried: `${GENERATIONS} copies`,
    next: "Look at the failed images in that region; then run it again.",
  });
}

/**
 * Undefined if AWS remembers the token for a request with other words: a description or a tag has changed since. That
 * copy came to nothing, or it would have been found; the next token asks for a new one.
 */
async function unlessUsedUp<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof CloudError && vendorOf(error.cause).code === "IdempotentParameterMismatch") return undefined;
    throw error;
  }
}

/** False if it stays unknown: then the token was that of a copy removed long ago. */
async function becomesVisible(account: Account, id: string, region: Region, call: CallContext): Promise<boolean> {
  const { pace } = account;
  const options = { what: id, operation: "CopyImage", region, deadlineMs: pace.visibleMs, pace, signal: call.signal };
  try {
    await until(() => account.imageById(id, region, call), options);
    return true;
  } catch (error) {
    if (error instanceof CloudError && error.operation === "CopyImage" && error.code === "unavailable") return false;
    throw error;
  }
}

/** Another writer found an older copy than ours while ours was being made, and removed ours: that one is it. */
async function successor(
  account: Account,
  image: CloudImage,
  id: string,
  spec: ImageSpec,
  region: Region,
  call: CallContext,
): Promise<Image> {
  const other = await existing(account, image, spec, region, call);
  const copy = other?.ImageId ? await available(account, other.ImageId, region, call) : undefined;
  if (copy) return copy;
  throw new CloudError("conflict", `The copy ${id} has been removed meanwhile.`, {
    cloud: "aws",
    operation: "CopyImage",
    region,
    subject: id,
    next: "Release the image again; it is copied anew.",
  });
}

/** Undefined if it has been removed. */
async function available(account: Account, id: string, region: Region, call: CallContext): Promise<Image | undefined> {
  const { pace } = account;
  let gone = 0;
  const seen = await until(
    async () => {
      const seen = await account.imageById(id, region, call);
      // Describe may miss a new one once or twice; one that stays away has been removed.
      if (!seen && ++gone > 10) return "removed" as const;
      if (seen?.State === "failed") {
        await discard(account, seen, region, call);
        throw gaveUp(seen, region);
      }
      return seen && isReady(seen) ? seen : undefined;
    },
    { what: `The copy ${id}`, operation: "CopyImage", region, deadlineMs: pace.copyMs, pace, signal: call.signal },
  );
  return seen === "removed" ? undefined : seen;
}

/** The copy and its snapshot, which DescribeImages names only now. */
async function tag(account: Account, copy: Image, spec: ImageSpec, region: Region, call: CallContext): Promise<void> {
  const snapshotId = rootSnapshot(copy);
  const snapshot = snapshotId ? await account.snapshotById(snapshotId, region, call) : undefined;
  const resources = [{ id: copy.ImageId ?? "", tags: copy.Tags }];
  if (snapshotId && snapshot) resources.push({ id: snapshotId, tags: snapshot.Tags });
  await ensureTags(account, resources, spec, spec.diskBytes, region, call);
}

/**
 * Two processes may both have found nothing, and AWS takes one name twice. The oldest stays, ready or not, whoever looks, so
 * that both end with the same one; the others go. Each removal is in the run's log.
 */
async function settleDuplicates(account: Account, copy: Image, spec: ImageSpec, region: Region, call: CallContext) {
  const mine = (await account.imagesNamed(spec.name, region, call)).filter(
    (one) => fromAws(one.Tags)[KEY] === spec.key && (isReady(one) || one.State === "pending"),
  );
  const [oldest = copy] = mine;
  const kept = isReady(oldest) ? oldest : ((await available(account, oldest.ImageId ?? "", region, call)) ?? copy);
  for (const other of mine) {
    if (other.ImageId === kept.ImageId) continue;
    // A copy names its snapshot only when it is made: removed earlier, it would leave that behind.
    const made = isReady(other) ? other : await available(account, other.ImageId ?? "", region, call);
    if (!made) continue;
    call.log.warn("removing a second copy of the same image", { id: made.ImageId, kept: kept.ImageId, region });
    await discard(account, made, region, call);
  }
  return kept;
}

/** Removes this one image and the snapshots it alone boots from; the disk key in its tags is left out on purpose. */
async function discard(account: Account, image: Image, region: Region, call: CallContext): Promise<void> {
  const resource = {
    kind: "image",
    region,
    id: image.ImageId ?? "",
    name: image.Name ?? "",
    complete: true,
    tags: {},
  } as const;
  try {
    await remove(account, resource, call);
  } catch (error) {
    if (codeOf(error) === "cancelled") throw error;
    call.log.warn("image could not be cleared away", {
      id: image.ImageId,
      region,
      snapshots: snapshotsIn(image),
      error,
    });
  }
}
