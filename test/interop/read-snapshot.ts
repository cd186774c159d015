/**
 * Reads an image's disk back through EBS direct with the vendor's client alone, as anyone with the account could:
 * nothing of Slipway's is in between.
 */
import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import { Agent } from "node:https";
import { EBSClient, GetSnapshotBlockCommand, ListSnapshotBlocksCommand } from "@aws-sdk/client-ebs";
import { DescribeImagesCommand, EC2Client } from "@aws-sdk/client-ec2";
import type { Rehearsal } from "@slipway/rehearsal";

const REGION = "us-east-1";
const READERS = 8;

/** @returns the snapshot behind the image, as anyone with the account finds it */
export async function snapshotOf(rehearsal: Rehearsal, image: string): Promise<string> {
  const ec2 = new EC2Client({ ...connection(rehearsal), endpoint: rehearsal.urls.ec2 });
  try {
    const filters = [{ Name: "name", Values: [image] }];
    const { Images = [] } = await ec2.send(new DescribeImagesCommand({ Owners: ["self"], Filters: filters }));
    const snapshot = Images[0]?.BlockDeviceMappings?.[0]?.Ebs?.SnapshotId;
    if (Images.length !== 1 || snapshot === undefined) throw new Error(`${Images.length} images are named ${image}`);
    return snapshot;
  } finally {
    ec2.destroy();
  }
}

/** Writes the snapshot to a sparse file. @returns how many blocks it has */
export async function readSnapshot(
  rehearsal: Rehearsal,
  snapshot: string,
  path: string,
  bytes: number,
): Promise<number> {
  const ebs = new EBSClient({ ...connection(rehearsal), endpoint: rehearsal.urls.ebs });
  const file = await open(path, "w");
  try {
    await file.truncate(bytes);
    let blocks = 0;
    let next: string | undefined;
    do {
      const page = await ebs.send(
        new ListSnapshotBlocksCommand({ SnapshotId: snapshot, ...(next === undefined ? {} : { NextToken: next }) }),
      );
      const size = page.BlockSize!;
      const waiting = (page.Blocks ?? []).map((block) => ({ index: block.BlockIndex!, token: block.BlockToken! }));
      blocks += waiting.length;
      const readNext = async (): Promise<void> => {
        for (let block = waiting.pop(); block !== undefined; block = waiting.pop()) {
          const { index, token } = block;
          const answer = await ebs.send(
            new GetSnapshotBlockCommand({ SnapshotId: snapshot, BlockIndex: index, BlockToken: token }),
          );
          const data = await answer.BlockData!.transformToByteArray();
          const digest = createHash("sha256").update(data).digest("base64");
          if (digest !== answer.Checksum) throw new Error(`block ${index} of ${snapshot} does not match its checksum`);
          await file.write(data, 0, data.length, index * size);
        }
      };
      await Promise.all(Array.from({ length: READERS }, readNext));
      next = page.NextToken;
    } while (next !== undefined);
    return blocks;
  } finally {
    await file.close();
    ebs.destroy();
  }
}

function connection(rehearsal: Rehearsal) {
  const { accessKeyId, secretAccessKey } = rehearsal.credentials.aws;
  return {
    region: REGION,
    credentials: { accessKeyId, secretAccessKey },
    requestHandler: { httpsAgent: new Agent({ ca: rehearsal.caPem, keepAlive: true, maxSockets: READERS }) },
  };
}
