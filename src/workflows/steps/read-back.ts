import { createHash } from "node:crypto";
import { type DiskDigests, noteDiskDigests } from "../../catalog/attestations.ts";
import { openTransferJournal, type TransferJournal } from "../../catalog/transfers.ts";
import type { Cloud } from "../../clouds/cloud.ts";
import { defineStep } from "../../durable/index.ts";
import { BLOCK_BYTES, blockCount } from "../../images/block-source.ts";
import { SlipwayError } from "../../lib/errors.ts";
import { hours } from "../../lib/units.ts";
import type { Region, StagedDisk } from "../../model.ts";
import { cloudRetry } from "../policies.ts";
import type { Ctx } from "../services.ts";
import { transferId } from "../specs.ts";

/** Blocks that were sent are all read; of the zero blocks every 64th, which finds a cloud that does not zero. */
const ZERO_SAMPLE = 64;

export interface ReadBackInput {
  readonly target: string;
  readonly staged: StagedDisk;
  /** The target's; absent = the staged disk is there. */
  readonly homeRegion?: Region;
  /** Of the artifact the disk was decoded from. Absent in runs that began before digests were kept. */
  readonly artifactSha256?: string;
}

/**
 * Reads the staged disk back and compares it with what was sent, before an image is made of it; then notes the digests of
 * its blocks, for what is attested and for comparisons with the clouds later on.
 *
 * A cloud that cannot be read back is left alone (`can.readBack`), and so is a disk whose journal is gone: it was
 * compared by the run that sent it.
 * @throws SlipwayError `corrupt`, naming the first block that differs
 */
export const readBackStep = defineStep({
  name: "read-back",
  retry: cloudRetry,
  timeoutMs: hours(3),
  async run(ctx: Ctx, input: ReadBackInput): Promise<{ blocks: number; compared: boolean }> {
    const { services } = ctx;
    const { staged, target, homeRegion = staged.region, artifactSha256 } = input;
    const cloud = await services.targets.cloud(target, ctx);
    const id = transferId(target, { diskKey: staged.key, homeRegion }, staged.region);
    if (staged.packedSha256 !== undefined) return readPacked(ctx, cloud, staged, artifactSha256);
    await using journal = await openTransferJournal(services.db, id);
    if (journal.ackedCount === 0) return { blocks: 0, compared: false };
    const note = async () => {
      if (artifactSha256 === undefined) return;
      await noteDiskDigests(services.db, artifactSha256, digestsIn(journal, staged.diskBytes));
    };
    if (!cloud.can.readBack) {
      await note();
      return { blocks: 0, compared: false };
    }
    const wanted: number[] = [];
    const all = blockCount(staged.diskBytes);
    for (let index = 0; index < all; index++) {
      if (journal.digestOf(index) !== undefined || index % ZERO_SAMPLE === 0) wanted.push(index);
    }
    let blocks = 0;
    for await (const block of cloud.readBack(staged, wanted, ctx)) {
      const expected = journal.digestOf(block.index) ?? zeroDigest(block.index, staged.diskBytes);
      if (Buffer.compare(expected, block.sha256) !== 0) {
        throw new SlipwayError("corrupt", `block ${block.index} in the cloud is not the block that was sent`, {
          subject: `${target} ${staged.id}`,
          next: "Nothing was made of it. Retry the run; if it happens again the cloud or the way to it damages data.",
        });
      }
      blocks++;
      if (blocks % 64 === 0) ctx.progress({ doneBytes: blocks * BLOCK_BYTES, totalBytes: wanted.length * BLOCK_BYTES });
    }
    if (blocks !== wanted.length) {
      throw new SlipwayError("corrupt", `${wanted.length - blocks} blocks could not be read back`, {
        subject: `${target} ${staged.id}`,
      });
    }
    await note();
    ctx.log.info("read back", { target, blocks });
    return { blocks, compared: true };
  },
});

/**
 * An archive that was sent as it is: its own bytes were compared as they were sent, and are once more, with the file's
 * digest, by the driver. What is new here is that it unpacks to the disk it says it holds.
 */
async function readPacked(
  ctx: Ctx,
  cloud: Cloud,
  staged: StagedDisk,
  artifactSha256: string | undefined,
): Promise<{ blocks: number; compared: boolean }> {
  const all = blockCount(staged.diskBytes);
  const digests = Buffer.alloc(all * 32);
  let blocks = 0;
  for await (const block of cloud.readBack(staged, Array(all).keys(), ctx)) {
    digests.set(block.sha256, block.index * 32);
    blocks++;
    if (blocks % 64 === 0) ctx.progress({ doneBytes: blocks * BLOCK_BYTES, totalBytes: staged.diskBytes });
  }
  if (blocks !== all) {
    throw new SlipwayError("corrupt", `${all - blocks} blocks could not be read back`, { subject: staged.id });
  }
  if (artifactSha256 !== undefined) await noteDiskDigests(ctx.services.db, artifactSha256, listOf(digests, staged));
  ctx.log.info("read back", { id: staged.id, blocks });
  return { blocks, compared: true };
}

function listOf(digests: Uint8Array, { diskBytes }: Pick<StagedDisk, "diskBytes">): DiskDigests {
  return { diskBytes, blockBytes: BLOCK_BYTES, blocksSha256: Buffer.from(sha256(digests)).toString("hex"), digests };
}

function digestsIn(journal: Pick<TransferJournal, "digestOf">, diskBytes: number): DiskDigests {
  const blocks = blockCount(diskBytes);
  const digests = Buffer.alloc(blocks * 32);
  for (let index = 0; index < blocks; index++) {
    digests.set(journal.digestOf(index) ?? zeroDigest(index, diskBytes), index * 32);
  }
  return listOf(digests, { diskBytes });
}

const zeroDigests = new Map<number, Uint8Array>();

function zeroDigest(index: number, diskBytes: number): Uint8Array {
  const size = Math.min(BLOCK_BYTES, diskBytes - index * BLOCK_BYTES);
  let digest = zeroDigests.get(size);
  if (digest === undefined) {
    digest = sha256(new Uint8Array(size));
    zeroDigests.set(size, digest);
  }
  return digest;
}

function sha256(data: Uint8Array): Uint8Array {
  return createHash("sha256").update(data).digest();
}
