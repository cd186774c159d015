import { createHash } from "node:crypto";
import { BLOCK_BYTES } from "../../images/block-source.ts";
import type { CallContext } from "../../lib/call.ts";
import { codeOf, SlipwayError } from "../../lib/errors.ts";
import type { CloudImage, ImageSpec, StagedDisk } from "../../model.ts";
import type { ReadBlock, Unreadable } from "../cloud.ts";
import type { Account } from "./account.ts";
import type { EbsDirect, ListedBlock } from "./ebs.ts";
import { snapshotOf, volumeMakers } from "./offer.ts";
import { ZERO_BLOCK, ZERO_SHA256 } from "./send-blocks.ts";
import { asCompleted, pause } from "./waiting.ts";

/** Each block is held in memory while it is hashed: 32 × 512 KiB = 16 MiB. */
const AT_ONCE = 32;
const ATTEMPTS = 5;

/**
 * Reads blocks of a completed snapshot that is not public. Each is checked against the checksum EBS sends with it and
 * hashed by us; one the snapshot does not list reads as zeros.
 */
export async function* readBack(
  account: Account,
  staged: StagedDisk,
  blocks: Iterable<number>,
  call: CallContext,
): AsyncGenerator<ReadBlock> {
  const ebs = account.ebs(staged.region);
  const missing = new Set(blocks);
  for await (const page of ebs.listBlocks(staged.id, call)) {
    const wanted = page.filter((block) => missing.delete(block.index));
    const read = asCompleted(wanted, AT_ONCE, (block) => digestOf(ebs, staged, block, call));
    yield* read;
    if (missing.size === 0) return;
  }
  for (const index of missing) {
    const bytes = bytesIn(staged, index);
    const sha256 =
      bytes === BLOCK_BYTES ? ZERO_SHA256 : createHash("sha256").update(ZERO_BLOCK.subarray(0, bytes)).digest();
    yield { index, sha256 };
  }
}

/**
 * EBS direct reads completed snapshots of one's own; public ones it refuses, to their owner too.
 * @see https://docs.aws.amazon.com/ebs/latest/userguide/ebs-accessing-snapshot.html
 */
export async function diskBehind(
  account: Account,
  image: CloudImage,
  spec: ImageSpec,
  call: CallContext,
): Promise<StagedDisk | Unreadable> {
  const { region } = image;
  const id = image.diskId ?? (await snapshotOf(account, image, call));
  if (id === undefined) return { unreadable: "it has no snapshot" };
  if ((await volumeMakers(account, id, region, call)).includes("all")) {
    return { unreadable: "its snapshot is public, and EBS direct does not read public snapshots" };
  }
  return { key: spec.diskKey, region, id, diskBytes: spec.diskBytes };
}

async function digestOf(ebs: EbsDirect, staged: StagedDisk, block: ListedBlock, call: CallContext): Promise<ReadBlock> {
  const { data, sha256 } = await getBlock(ebs, staged.id, block, call);
  const bytes = bytesIn(staged, block.index);
  if (bytes === BLOCK_BYTES) return { index: block.index, sha256 };
  if (data.compare(ZERO_BLOCK, 0, BLOCK_BYTES - bytes, bytes, BLOCK_BYTES) !== 0) {
    throw new SlipwayError("corrupt", `${staged.id} holds bytes behind the end of the disk.`, { subject: staged.id });
  }
  return { index: block.index, sha256: createHash("sha256").update(data.subarray(0, bytes)).digest() };
}

async function getBlock(ebs: EbsDirect, id: string, block: ListedBlock, call: CallContext) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await ebs.getBlock(id, block, call);
    } catch (error) {
      const code = codeOf(error);
      if ((code !== "throttled" && code !== "unavailable") || attempt === ATTEMPTS) throw error;
      await pause(200 * 2 ** attempt * (0.5 + Math.random() / 2), call.signal);
    }
  }
}

function bytesIn(staged: StagedDisk, index: number): number {
  return Math.max(0, Math.min(BLOCK_BYTES, staged.diskBytes - index * BLOCK_BYTES));
}
