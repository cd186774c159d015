/**
 * Whether a release could work: who we are, which regions are enabled, what we may do, what the account forbids.
 *
 * EC2 is asked with DryRun. EBS direct has no such thing, so its calls are tried on a snapshot that does not exist: who
 * lacks the permission is told so, who has it is told that there is no such snapshot. Nothing is made.
 */
import type { EC2 } from "@aws-sdk/client-ec2";
import type { CallContext } from "../../lib/call.ts";
import { codeOf, reportOf } from "../../lib/errors.ts";
import type { ImageSpec, Region } from "../../model.ts";
import type { Finding } from "../cloud.ts";
import type { Account } from "./account.ts";
import { checkParameters } from "./check-parameters.ts";
import type { SendOptions } from "./connection.ts";
import { vendorOf } from "./errors.ts";
import { regionOf } from "./notify.ts";
import { ZERO_BLOCK, ZERO_SHA256 } from "./send-blocks.ts";
import { asCompleted } from "./waiting.ts";

export interface CheckOptions {
  /** Twelve digits; absent = whichever account the credentials are of. */
  readonly account?: string | undefined;
  readonly homeRegion: Region;
  /** What is to be done with the images: decides whether a setting that forbids sharing is an error. */
  readonly offer: "public" | "accounts" | "nobody";
  /** All regions are wanted but these. */
  readonly allExcept?: readonly Region[] | undefined;
  /** Disks do not go through EBS direct; only reading back does. */
  readonly imports?: boolean | undefined;
  /** ARN of a topic that will be told. */
  readonly topic?: string | undefined;
}

/** Well-formed, and nobody's. */
export const NO_IMAGE = "ami-00000000000000000";
const NO_SNAPSHOT = "snap-00000000000000000";
/** What AWS grants a new account; how much was granted since cannot be seen with EC2's permissions. */
const DEFAULT_PUBLIC_IMAGES = 5;

export async function check(
  account: Account,
  options: CheckOptions,
  specs: readonly ImageSpec[],
  call: CallContext,
): Promise<Finding[]> {
  const identity = await checkIdentity(account, options, call);
  if (identity.some((finding) => finding.severity === "error")) return identity;
  const homes = new Set(specs.map((spec) => spec.homeRegion));
  const wanted = [...new Set(specs.flatMap((spec) => [spec.homeRegion, ...spec.regions]))];
  const { findings, usable } = await checkRegions(account, options, wanted, call);
  const extra = specs.some(({ aws }) => aws?.protect) ? [PROTECT_CALL] : [];
  const jobs = usable.flatMap((region) => [
    () => checkSettings(account, region, options, call),
    () =>
      checkPermissions(account, region, [...(homes.has(region) ? HOME_CALLS : REPLICA_CALLS), ...extra], options, call),
    ...(homes.has(region) ? [() => checkEbs(account, region, options, call)] : []),
    () => checkParameters(account, region, parametersIn(specs, region), call),
  ]);
  if (options.topic !== undefined) jobs.push(() => checkTopic(account, options.topic!, call));
  for await (const found of asCompleted(jobs, 8, (job) => job())) findings.push(...found);
  return [...identity, ...findings];
}

function parametersIn(specs: readonly ImageSpec[], region: Region): string[] {
  return specs.flatMap(({ aws, regions }) => (aws?.parameter && regions.includes(region) ? [aws.parameter] : []));
}

async function checkIdentity(account: Account, options: CheckOptions, call: CallContext): Promise<Finding[]> {
  try {
    const region = options.homeRegion;
    const who = await account.connection.sts(region, "GetCallerIdentity", call, (sts, send) =>
      sts.getCallerIdentity({}, send),
    );
    if (!options.account || who.Account === options.account) return [];
    return [
      {
        severity: "error",
        code: "invalid",
        subject: "account",
        message: `The credentials are of account ${who.Account} (${who.Arn}); configured is ${options.account}.`,
        next: "Use the credentials of the configured account, or correct the account in the target.",
      },
    ];
  } catch (error) {
    return [findingFor(error, "credentials", options.homeRegion)];
  }
}

async function checkRegions(account: Account, options: CheckOptions, wanted: readonly Region[], call: CallContext) {
  const { homeRegion: home, allExcept } = options;
  const findings: Finding[] = [];
  let known: Map<string, string>;
  try {
    const answer = await account.connection.ec2(home, "DescribeRegions", undefined, call, (ec2, send) =>
      ec2.describeRegions({ AllRegions: true }, send),
    );
    known = new Map((answer.Regions ?? []).map((region) => [region.RegionName ?? "", region.OptInStatus ?? ""]));
  } catch (error) {
    return { findings: [findingFor(error, "ec2:DescribeRegions", home)], usable: wanted };
  }
  if (allExcept !== undefined) findings.push(...leftOut(known, allExcept));
  for (const region of wanted) {
    const status = known.get(region);
    if (status === undefined) {
      const next = "Correct the target's regions.";
      findings.push({
        severity: "error",
        code: "not-found",
        region,
        subject: "region",
        message: `AWS has no region ${region}.`,
        next,
      });
    } else if (status === "not-opted-in") {
      findings.push({
        severity: "error",
        code: "forbidden",
        region,
        subject: "region",
        message: `The account has not opted in to ${region}.`,
        next: `Enable it (aws account enable-region --region-name ${region}; takes minutes to hours), or take it out of the target.`,
      });
    }
  }
  const usable = wanted.filter((region) => known.has(region) && known.get(region) !== "not-opted-in");
  return { findings, usable };
}

/** What `all` does not mean, each region with the reason: none is forgotten in silence. */
function leftOut(known: ReadonlyMap<string, string>, except: readonly Region[]): Finding[] {
  const found: Finding[] = [];
  for (const [region, status] of known) {
    const base = { severity: "info", region, subject: "region" } as const;
    if (except.includes(region)) found.push({ ...base, message: `Left out by regions_except: ${region}.` });
    else if (status === "not-opted-in") {
      found.push({
        ...base,
        message: `Left out, the account has not opted in to ${region}.`,
        next: `Enable it to have images there: aws account enable-region --region-name ${region}.`,
      });
    }
  }
  const unknown = except.filter((region) => !known.has(region));
  return [
    ...found,
    ...unknown.map((region) => ({
      ...({ severity: "warning", region, subject: "region" } as const),
      message: `regions_except names ${region}, which AWS does not have.`,
      next: "Correct the target's regions_except.",
    })),
  ];
}

type Probe = readonly [operation: string, run: (ec2: EC2, send: SendOptions) => Promise<unknown>];

const DryRun = true;
const TAGS = [{ Key: "slipway:key", Value: "check" }];
const mapping = [{ DeviceName: "/dev/sda1", Ebs: { SnapshotId: NO_SNAPSHOT } }];
const everybody = { Add: [{ Group: "all" as const }] };

/** What keeping an image takes in every region it is in. */
const KEEP_CALLS: readonly Probe[] = [
  ["DescribeImages", (ec2, send) => ec2.describeImages({ Owners: ["self"], DryRun }, send)],
  ["DescribeSnapshots", (ec2, send) => ec2.describeSnapshots({ OwnerIds: ["self"], DryRun }, send)],
  ["CreateTags", (ec2, send) => ec2.createTags({ Resources: [NO_IMAGE], Tags: TAGS, DryRun }, send)],
  ["DeregisterImage", (ec2, send) => ec2.deregisterImage({ ImageId: NO_IMAGE, DryRun }, send)],
  ["DeleteSnapshot", (ec2, send) => ec2.deleteSnapshot({ SnapshotId: NO_SNAPSHOT, DryRun }, send)],
  [
    "EnableImageDeprecation",
    (ec2, send) =>
      ec2.enableImageDeprecation({ ImageId: NO_IMAGE, DeprecateAt: new Date(Date.now() + 86_400_000), DryRun }, send),
  ],
];

/** What letting others in takes. */
const OFFER_CALLS: readonly Probe[] = [
  [
    "ModifyImageAttribute",
    (ec2, send) => ec2.modifyImageAttribute({ ImageId: NO_IMAGE, LaunchPermission: everybody, DryRun }, send),
  ],
  [
    "ModifySnapshotAttribute",
    (ec2, send) =>
      ec2.modifySnapshotAttribute(
        { SnapshotId: NO_SNAPSHOT, Attribute: "createVolumePermission", CreateVolumePermission: everybody, DryRun },
        send,
      ),
  ],
  [
    "DescribeImageAttribute",
    (ec2, send) => ec2.describeImageAttribute({ ImageId: NO_IMAGE, Attribute: "launchPermission", DryRun }, send),
  ],
  [
    "DescribeSnapshotAttribute",
    (ec2, send) =>
      ec2.describeSnapshotAttribute({ SnapshotId: NO_SNAPSHOT, Attribute: "createVolumePermission", DryRun }, send),
  ],
];

const HOME_CALLS: readonly Probe[] = [
  [
    "RegisterImage",
    (ec2, send) =>
      ec2.registerImage(
        {
          Name: "slipway-check",
          Architecture: "x86_64",
          VirtualizationType: "hvm",
          RootDeviceName: "/dev/sda1",
          BlockDeviceMappings: mapping,
          DryRun,
        },
        send,
      ),
  ],
];

const REPLICA_CALLS: readonly Probe[] = [
  [
    "CopyImage",
    (ec2, send) =>
      ec2.copyImage({ Name: "slipway-check", SourceImageId: NO_IMAGE, SourceRegion: "us-east-1", DryRun }, send),
  ],
];

/** What keeping what was offered takes. */
const PROTECT_CALL: Probe = [
  "EnableImageDeregistrationProtection",
  (ec2, send) => ec2.enableImageDeregistrationProtection({ ImageId: NO_IMAGE, DryRun }, send),
];

async function checkPermissions(
  account: Account,
  region: Region,
  making: readonly Probe[],
  options: CheckOptions,
  call: CallContext,
): Promise<Finding[]> {
  const probes = [...making, ...KEEP_CALLS, ...(options.offer === "nobody" ? [] : OFFER_CALLS)];
  const findings: Finding[] = [];
  const answers = asCompleted(probes, 4, async ([operation, run]): Promise<Finding | undefined> => {
    try {
      await account.connection.ec2(region, operation, undefined, call, run);
    } catch (error) {
      return denied(error, `ec2:${operation}`, region);
    }
    return undefined;
  });
  for await (const finding of answers) if (finding) findings.push(finding);
  return findings;
}

async function checkEbs(
  account: Account,
  region: Region,
  { imports }: CheckOptions,
  call: CallContext,
): Promise<Finding[]> {
  const ebs = account.ebs(region);
  const writing: readonly (readonly [string, () => Promise<unknown>])[] = [
    [
      "StartSnapshot",
      () =>
        ebs.startSnapshot(
          { clientToken: "slipway-check", volumeGiB: 1, description: "check", tags: {}, parentId: NO_SNAPSHOT },
          call,
        ),
    ],
    ["PutSnapshotBlock", () => ebs.putBlock(NO_SNAPSHOT, 0, ZERO_BLOCK, ZERO_SHA256, call.signal)],
    ["CompleteSnapshot", () => ebs.completeSnapshot(NO_SNAPSHOT, 0, ZERO_SHA256, call)],
  ];
  const probes: typeof writing = [
    ...(imports ? [] : writing),
    ["ListSnapshotBlocks", () => ebs.listBlocks(NO_SNAPSHOT, call)[Symbol.asyncIterator]().next()],
    ["GetSnapshotBlock", () => ebs.getBlock(NO_SNAPSHOT, { index: 0, token: "AAAA" }, call)],
  ];
  const findings: Finding[] = [];
  for (const [operation, run] of probes) {
    try {
      await run();
    } catch (error) {
      const finding = denied(error, `ebs:${operation}`, region);
      if (finding) findings.push(finding);
    }
  }
  return findings;
}

/** An empty message is refused, by a topic that is there and would take another. Nobody is told anything. */
async function checkTopic(account: Account, TopicArn: string, call: CallContext): Promise<Finding[]> {
  const region = regionOf(TopicArn);
  try {
    await account.connection.sns(region, "Publish", TopicArn, call, (sns, send) =>
      sns.publish({ TopicArn, Message: "" }, send),
    );
  } catch (error) {
    if (codeOf(error) === "not-found") {
      const next = `Make it (aws sns create-topic --region ${region}), or correct the target's sns_topic.`;
      return [{ ...findingFor(error, "sns_topic", region), message: `There is no topic ${TopicArn}.`, next }];
    }
    const finding = denied(error, "sns:Publish", region);
    if (finding) return [finding];
  }
  return [];
}

/** A finding for a refusal; any other answer (a dry run that would have worked, a missing image) means allowed. */
export function denied(error: unknown, permission: string, region: Region): Finding | undefined {
  const cause = error instanceof Error ? error.cause : undefined;
  if (vendorOf(cause).code === "DryRunOperation") return undefined;
  const code = codeOf(error);
  if (code === "forbidden") {
    const { message } = reportOf(error);
    const next = `Allow ${permission} in the policy of these credentials.`;
    return { severity: "error", code, region, subject: permission, message, next };
  }
  if (code === "cancelled") throw error;
  if (code === "unauthenticated" || code === "unavailable" || code === "throttled")
    return findingFor(error, permission, region);
  return undefined;
}

async function checkSettings(account: Account, region: Region, options: CheckOptions, call: CallContext) {
  const findings: Finding[] = [];
  const ask = async (permission: string, question: (ec2: EC2, send: SendOptions) => Promise<Finding | undefined>) => {
    try {
      const finding = await account.connection.ec2(region, permission.replace("ec2:", ""), undefined, call, question);
      if (finding) findings.push(finding);
    } catch (error) {
      if (codeOf(error) === "cancelled") throw error;
      // A setting that cannot be asked stops nothing.
      findings.push({ ...findingFor(error, permission, region), severity: "info" });
    }
  };
  const forbids = (wanted: boolean) => (wanted ? ("error" as const) : ("info" as const));
  await ask("ec2:GetEbsEncryptionByDefault", async (ec2, send) => {
    if (!(await ec2.getEbsEncryptionByDefault({}, send)).EbsEncryptionByDefault) return undefined;
    return {
      severity: forbids(options.offer !== "nobody"),
      code: "forbidden",
      region,
      subject: "EBS encryption by default",
      message: "New snapshots are encrypted with the account's own key: images of them cannot be shared.",
      next: `Turn it off there (aws ec2 disable-ebs-encryption-by-default --region ${region}), or release from another account.`,
    };
  });
  await ask("ec2:GetImageBlockPublicAccessState", async (ec2, send) => {
    const state = (await ec2.getImageBlockPublicAccessState({}, send)).ImageBlockPublicAccessState;
    if (state !== "block-new-sharing") return undefined;
    return {
      severity: forbids(options.offer === "public"),
      code: "forbidden",
      region,
      subject: "block public access for AMIs",
      message: "The account lets no image become public.",
      next: `Turn it off there (aws ec2 disable-image-block-public-access --region ${region}).`,
    };
  });
  await ask("ec2:GetSnapshotBlockPublicAccessState", async (ec2, send) => {
    const state = (await ec2.getSnapshotBlockPublicAccessState({}, send)).State;
    if (state === undefined || state === "unblocked") return undefined;
    return {
      severity: forbids(options.offer === "public" && account.sharesSnapshots),
      code: "forbidden",
      region,
      subject: "block public access for snapshots",
      message: "The account lets no snapshot become public; users could not copy the images.",
      next: `Turn it off there (aws ec2 disable-snapshot-block-public-access --region ${region}).`,
    };
  });
  if (options.offer !== "public") return findings;
  await ask("ec2:DescribeImages", async (ec2, send) => {
    const Filters = [{ Name: "is-public", Values: ["true"] }];
    const count = (await ec2.describeImages({ Owners: ["self"], Filters, MaxResults: 1000 }, send)).Images?.length ?? 0;
    if (count < DEFAULT_PUBLIC_IMAGES) return undefined;
    return {
      severity: "info",
      region,
      subject: "public AMIs per region",
      message: `${count} images are public; AWS allows ${DEFAULT_PUBLIC_IMAGES} unless the quota was raised.`,
      next: "See that the quota L-0E3CBAB9 leaves room.",
    };
  });
  return findings;
}

function findingFor(error: unknown, subject: string, region: Region): Finding {
  const { code, message, next } = reportOf(error);
  return { severity: "error", code, region, subject, message, ...(next ? { next } : {}) };
}
