/**
 * What a plan would cost and where it would hit a limit: the same arithmetic for every cloud. Estimates are marked as
 * such and say what they rest on. Pure.
 */
import type { Finding, Quota } from "../clouds/cloud.ts";
import type { PlanItem, RegionVerb } from "../compose/index.ts";
import { KiB, MiB } from "../lib/units.ts";
import { PRICES } from "./prices.ts";

export interface Estimate {
  /** Over the wire from here. An upper bound where zero blocks are left out. */
  readonly sendBytes: number;
  readonly seconds: number;
  readonly dollars: { readonly once: number; readonly perMonth: number };
}

export interface QuotaVerdict extends Omit<Quota, "retirable" | "counts"> {
  readonly target: string;
  /** What this plan adds. */
  readonly adds: number;
  readonly exceeded: boolean;
  /** What has to go to make room; empty if it fits or nothing of ours would help. */
  readonly retire: Quota["retirable"];
  readonly next?: string;
}

export interface Preflight {
  readonly estimate: Estimate & { readonly assumes: readonly string[] };
  readonly quotas: readonly QuotaVerdict[];
  readonly findings: readonly (Finding & { readonly target: string })[];
  /** Nothing in `findings` or `quotas` would stop it. */
  readonly clear: boolean;
}

/** One image of the plan with what the clouds were asked about it. */
export interface Weighed {
  readonly item: PlanItem;
  /** Virtual size of the disk; undefined where only decoding it would tell. */
  readonly diskBytes?: number;
  /** Of the artifact as stored. */
  readonly artifactBytes: number;
  readonly offered: boolean;
}

/** An xz of a distribution's disk is a quarter to a tenth of what it holds. */
const GUESSED_RATIO = 6;
/** What a well-placed host sends; the vendor's own ceiling may be lower. */
const WIRE_BYTES_PER_SECOND = 100 * MiB;
/** Ceilings for one disk. @see https://docs.aws.amazon.com/ebs/latest/userguide/ebs-resource-quotas.html */
const CEILING: Readonly<Record<string, number>> = { aws: 500 * MiB, azure: 60 * MiB };
/** Copies are best effort. Five minutes were usual for small images; larger ones take longer. */
const COPY_SECONDS = 300;
const COPY_BYTES_PER_SECOND = 100 * MiB;
const BLOCK_BYTES = 512 * KiB;
const GB = 1e9;

export function estimateOf(weighed: Weighed): Estimate {
  const { item, artifactBytes } = weighed;
  const verbs = Object.values(item.regions);
  const made = count(verbs, "create") + count(verbs, "resume");
  const copies = count(verbs, "copy");
  if (item.cloud === "registry") {
    const sendBytes = made * artifactBytes;
    return { sendBytes, seconds: sendBytes / WIRE_BYTES_PER_SECOND, dollars: { once: 0, perMonth: 0 } };
  }
  const disk = weighed.diskBytes ?? artifactBytes * GUESSED_RATIO;
  const sendBytes = made * disk;
  const rate = Math.min(WIRE_BYTES_PER_SECOND, CEILING[item.cloud] ?? WIRE_BYTES_PER_SECOND);
  const copying = copies === 0 ? 0 : COPY_SECONDS + disk / COPY_BYTES_PER_SECOND;
  return { sendBytes, seconds: sendBytes / rate + copying, dollars: costOf(item.cloud, disk, made, copies) };
}

function costOf(cloud: string, disk: number, made: number, copies: number): Estimate["dollars"] {
  const gb = disk / GB;
  if (cloud === "aws") {
    const { putPerThousand, getPerThousand, storagePerGbMonth, copyPerGb } = PRICES.aws;
    const blocks = Math.ceil(disk / BLOCK_BYTES) * made;
    // Every block is read back before the image is registered.
    const requests = (blocks * (putPerThousand + getPerThousand)) / 1000;
    return { once: requests + copies * gb * copyPerGb, perMonth: (made + copies) * gb * storagePerGbMonth };
  }
  if (cloud === "azure") {
    const { storagePerGbMonth, copyPerGb } = PRICES.azure;
    return { once: copies * gb * copyPerGb, perMonth: (made + copies) * gb * storagePerGbMonth };
  }
  return { once: 0, perMonth: 0 };
}

/** What the images of one target add to its quotas, and the way out where that is too much. */
export function judgeQuotas(target: string, quotas: readonly Quota[], weighed: readonly Weighed[]): QuotaVerdict[] {
  return quotas.map(({ retirable, counts, ...quota }) => {
    const adds = weighed
      .filter((one) => one.item.target === target)
      .reduce((sum, one) => sum + addedTo(quota, counts, one), 0);
    const over = quota.used + adds - quota.limit;
    const exceeded = adds > 0 && over > 0;
    const helps = exceeded && quota.waits !== true;
    const retire = helps ? retirable.slice(0, over) : [];
    return { target, ...quota, adds, exceeded, retire, ...(exceeded ? { next: wayOut(quota, over, retire) } : {}) };
  });
}

function addedTo(
  quota: Pick<Quota, "region">,
  counts: Quota["counts"],
  { item, offered }: Pick<Weighed, "item" | "offered">,
): number {
  const verbs: readonly RegionVerb[] =
    quota.region === undefined
      ? Object.values(item.regions).filter((_, position) => position === 0)
      : Object.entries(item.regions).flatMap(([region, verb]) => (region === quota.region ? [verb] : []));
  return verbs.filter((verb) => {
    if (verb === "exists") return false;
    if (counts === "copies") return verb === "copy";
    return counts === "public-images" ? offered : verb !== "share";
  }).length;
}

function wayOut(
  quota: Pick<Quota, "limit" | "limitFrom" | "waits" | "increase">,
  over: number,
  retire: Quota["retirable"],
) {
  if (quota.waits === true) return `Nothing: ${quota.limit} at a time, the others wait.`;
  const unsure = quota.limitFrom === "default" ? "Unless this account was granted more: " : "";
  const rest = over - retire.length;
  const names = retire.map(({ name, createdAt }) => (createdAt ? `${name} of ${createdAt.slice(0, 10)}` : name));
  const parts = [
    ...(names.length > 0 ? [`retire ${names.join(", ")}`] : []),
    ...(rest > 0 && names.length > 0 ? [`and ${rest} more`] : []),
  ];
  const retiring = parts.length > 0 ? `${parts.join(" ")}; or ` : "";
  const increase = quota.increase ?? "Ask the vendor for more.";
  const text = `${retiring}${increase.charAt(0).toLowerCase()}${increase.slice(1)}`;
  return unsure === "" ? text.charAt(0).toUpperCase() + text.slice(1) : `${unsure}${text}`;
}

export function preflightOf(
  weighed: readonly Weighed[],
  quotas: readonly QuotaVerdict[],
  findings: Preflight["findings"],
): Preflight {
  const estimates = weighed.map(estimateOf);
  const sum = (pick: (one: Estimate) => number) => estimates.reduce((total, one) => total + pick(one), 0);
  const guessed = weighed.some((one) => one.diskBytes === undefined && one.item.cloud !== "registry");
  return {
    estimate: {
      sendBytes: sum((one) => one.sendBytes),
      // Targets are worked on side by side and share the wire: the slowest counts, and the wire is never faster.
      seconds: Math.max(sum((one) => one.sendBytes) / WIRE_BYTES_PER_SECOND, ...estimates.map((one) => one.seconds), 0),
      dollars: { once: sum((one) => one.dollars.once), perMonth: sum((one) => one.dollars.perMonth) },
      assumes: [
        `${WIRE_BYTES_PER_SECOND / MiB} MiB/s from here`,
        `list prices of ${PRICES.asOf}`,
        "copies between regions take as long as they usually do",
        ...(guessed ? [`disks whose size only decoding tells are ${GUESSED_RATIO} times their file`] : []),
      ],
    },
    quotas,
    findings,
    clear:
      findings.every(({ severity }) => severity !== "error") &&
      quotas.every((one) => !one.exceeded || one.waits === true || one.limitFrom === "default"),
  };
}

function count(verbs: readonly RegionVerb[], verb: RegionVerb): number {
  return verbs.filter((one) => one === verb).length;
}
