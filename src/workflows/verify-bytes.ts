import { randomInt } from "node:crypto";
import { type DiskDigests, digestOfBlock, diskDigestsOf } from "../catalog/attestations.ts";
import type { Cloud } from "../clouds/cloud.ts";
import type { CallContext } from "../lib/call.ts";
import { reportOf } from "../lib/errors.ts";
import type { CloudImage } from "../model.ts";
import type { Services } from "./services.ts";
import type { LookedAt } from "./steps/look-at-images.ts";
import type { Verdict } from "./verify-images.ts";

export type BytesWanted = "sample" | "full";

/** Blocks of a sample, chosen anew each time: damage in 5 % of a disk's blocks is missed once in 700 looks. */
const SAMPLE = 128;

/**
 * Reads the disks behind an image's replicas and compares each block with what was sent. What no cloud lets anybody read
 * any more is said; a disk behind several regions is read once.
 */
export async function verifyBytes(
  image: LookedAt,
  wanted: BytesWanted,
  services: Services,
  call: CallContext,
): Promise<Verdict[]> {
  const { name, target } = image;
  const about = { name, target, check: "bytes" as const };
  const disk = await diskDigestsOf(services.db, image.artifact.sha256);
  if (disk === undefined) {
    const detail = "the digests of its disk were not kept when it was released";
    return [{ ...about, verdict: "unknown", detail }];
  }
  const verdicts: Verdict[] = [];
  const read = new Map<string, Pick<Verdict, "verdict" | "detail">>();
  for (const one of image.images) {
    try {
      const cloud = await services.targets.cloud(target, call);
      const behind = await cloud.diskBehind(one, { ...image.spec, diskBytes: disk.diskBytes }, call);
      if ("unreadable" in behind || !cloud.can.readBack) {
        const detail = "unreadable" in behind ? behind.unreadable : "this cloud gives no bytes back";
        verdicts.push({ ...about, ...place(one), verdict: "unreadable", detail });
        continue;
      }
      const id = `${behind.region} ${behind.id}`;
      const found =
        read.get(id) ?? (await compare(cloud, { ...behind, diskBytes: disk.diskBytes }, disk, wanted, call));
      read.set(id, found);
      verdicts.push({ ...about, ...place(one), ...found });
    } catch (error) {
      call.signal.throwIfAborted();
      const { code, message } = reportOf(error);
      verdicts.push({ ...about, ...place(one), verdict: code === "corrupt" ? "wrong" : "unknown", detail: message });
    }
  }
  return verdicts;
}

async function compare(
  cloud: Cloud,
  staged: Parameters<Cloud["readBack"]>[0],
  disk: DiskDigests,
  wanted: BytesWanted,
  call: CallContext,
): Promise<Pick<Verdict, "verdict" | "detail">> {
  const all = disk.digests.length / 32;
  const blocks = wanted === "full" ? Array.from({ length: all }, (_, index) => index) : sample(all, SAMPLE);
  let read = 0;
  for await (const block of cloud.readBack(staged, blocks, call)) {
    if (Buffer.compare(block.sha256, digestOfBlock(disk, block.index)) !== 0) {
      return { verdict: "wrong", detail: `block ${block.index} is not what was sent` };
    }
    read++;
  }
  if (read !== blocks.length) return { verdict: "wrong", detail: `${blocks.length - read} blocks cannot be read` };
  return { verdict: "right", detail: read === all ? `all ${all} blocks` : `${read} of ${all} blocks` };
}

function place({ region, id }: CloudImage) {
  return { region, id };
}

/** So many different numbers below `all`, in order. */
function sample(all: number, count: number): number[] {
  if (count >= all) return Array.from({ length: all }, (_, index) => index);
  const chosen = new Set<number>();
  while (chosen.size < count) chosen.add(randomInt(all));
  return [...chosen].sort((a, b) => a - b);
}
