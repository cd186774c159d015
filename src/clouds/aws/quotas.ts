/**
 * What an account may have of images, by region. AWS tells how much of it is used through EC2; how much was granted is
 * known to Service Quotas only, which the publisher's role is not asked to reach: the limits here are what everybody has.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ami-quotas.html
 * @see https://docs.aws.amazon.com/ebs/latest/userguide/ebs-resource-quotas.html
 */
import type { Image } from "@aws-sdk/client-ec2";
import type { CallContext } from "../../lib/call.ts";
import type { ImageSpec, Region } from "../../model.ts";
import type { Quota } from "../cloud.ts";
import type { Account } from "./account.ts";
import { fromAws, OWNER } from "./tags.ts";
import { asCompleted } from "./waiting.ts";

const PUBLIC_IMAGES = 5;
const IMAGES = 50_000;
/** Snapshot copies to one region at a time; cannot be raised. */
const COPIES = 20;
/** Enough to choose from; the rest is in `slipway images list`. */
const RETIRABLE = 10;

export async function quotas(account: Account, specs: readonly ImageSpec[], call: CallContext): Promise<Quota[]> {
  const regions = [...new Set(specs.flatMap((spec) => spec.regions))];
  const found: Quota[] = [];
  for await (const some of asCompleted(regions, 8, (region) => ofRegion(account, region, call))) found.push(...some);
  const order = (quota: Quota) => regions.indexOf(quota.region ?? "");
  return found.sort((a, b) => order(a) - order(b) || a.subject.localeCompare(b.subject));
}

async function ofRegion(account: Account, region: Region, call: CallContext): Promise<Quota[]> {
  const images: Held[] = [];
  for await (const { ImageId: id = "", Name: name = "", CreationDate, Public, Tags } of allImages(
    account,
    region,
    call,
  )) {
    const ours = Object.hasOwn(fromAws(Tags), OWNER);
    images.push({ id, name, ours, isPublic: Public === true, ...(CreationDate ? { createdAt: CreationDate } : {}) });
  }
  images.sort((a, b) => `${a.createdAt}${a.id}`.localeCompare(`${b.createdAt}${b.id}`));
  const open = images.filter((image) => image.isPublic);
  const copying = await pendingSnapshots(account, region, call);
  const oldest = (some: readonly Held[]) =>
    some
      .filter((image) => image.ours)
      .slice(0, RETIRABLE)
      .map(({ isPublic: _, ours: __, ...image }) => image);
  return [
    {
      region,
      subject: "public AMIs",
      used: open.length,
      limit: PUBLIC_IMAGES,
      limitFrom: "default",
      counts: "public-images",
      retirable: oldest(open),
      increase: `Ask for more of L-0E3CBAB9 (aws service-quotas request-service-quota-increase --service-code ec2 --quota-code L-0E3CBAB9 --region ${region} --desired-value N).`,
    },
    {
      region,
      subject: "AMIs",
      used: images.length,
      limit: IMAGES,
      limitFrom: "default",
      counts: "images",
      retirable: oldest(images),
      increase: `Ask for more of the quota "AMIs" of EC2 in ${region}.`,
    },
    {
      region,
      subject: "concurrent snapshot copies",
      used: copying,
      limit: COPIES,
      limitFrom: "fixed",
      counts: "copies",
      waits: true,
      retirable: [],
    },
  ];
}

interface Held {
  readonly id: string;
  readonly name: string;
  readonly createdAt?: string;
  readonly isPublic: boolean;
  readonly ours: boolean;
}

/** Whoever made them: they count. */
async function* allImages(account: Account, region: Region, call: CallContext): AsyncIterable<Image> {
  let NextToken: string | undefined;
  do {
    const page = await account.connection.ec2(region, "DescribeImages", undefined, call, (ec2, send) =>
      ec2.describeImages(
        { Owners: ["self"], IncludeDisabled: true, IncludeDeprecated: true, MaxResults: 1000, NextToken },
        send,
      ),
    );
    yield* (page.Images ?? []).filter((image) => image.State !== "deregistered");
    NextToken = page.NextToken || undefined;
  } while (NextToken);
}

async function pendingSnapshots(account: Account, region: Region, call: CallContext): Promise<number> {
  const Filters = [{ Name: "status", Values: ["pending"] }];
  const page = await account.connection.ec2(region, "DescribeSnapshots", undefined, call, (ec2, send) =>
    ec2.describeSnapshots({ OwnerIds: ["self"], Filters, MaxResults: 1000 }, send),
  );
  return page.Snapshots?.length ?? 0;
}
