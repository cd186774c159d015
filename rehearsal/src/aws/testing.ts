import { createHash } from "node:crypto";
import https from "node:https";
import { EBSClient, PutSnapshotBlockCommand, StartSnapshotCommand } from "@aws-sdk/client-ebs";
import { EC2Client } from "@aws-sdk/client-ec2";
import { SNSClient } from "@aws-sdk/client-sns";
import { SSMClient } from "@aws-sdk/client-ssm";
import { STSClient } from "@aws-sdk/client-sts";
import { createAuthority, serve } from "../tls.ts";
import { BLOCK_BYTES } from "./blocks.ts";
import { AWS_PUBLISHER, type AwsKey, type AwsSimulatorOptions, createAwsSimulator } from "./index.ts";

/** The simulator over TLS, with a clock that only tests move, and the vendor's own clients to talk to it. */
export async function startAws(options: AwsSimulatorOptions = {}) {
  const clock = { now: Date.parse("2026-05-01T10:00:00.000Z") };
  const simulator = createAwsSimulator({ clock: () => clock.now, ...options });
  const authority = await createAuthority();
  const served = await serve(simulator.handler, { tls: authority });
  const agent = new https.Agent({ ca: authority.ca, keepAlive: true });
  const settings = (region: string, key: Partial<AwsKey>) => {
    const { accessKeyId, secretAccessKey, sessionToken } = { ...AWS_PUBLISHER, ...key };
    return {
      region,
      endpoint: served.url,
      maxAttempts: 1,
      credentials: { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) },
      requestHandler: { httpsAgent: agent },
    };
  };
  return {
    simulator,
    state: simulator.state,
    clock,
    url: served.url,
    ca: authority.ca,
    ec2: (region = "us-east-1", key: Partial<AwsKey> = {}) => new EC2Client(settings(region, key)),
    ebs: (region = "us-east-1", key: Partial<AwsKey> = {}) => new EBSClient(settings(region, key)),
    ssm: (region = "us-east-1", key: Partial<AwsKey> = {}) => new SSMClient(settings(region, key)),
    sns: (region = "us-east-1", key: Partial<AwsKey> = {}) => new SNSClient(settings(region, key)),
    sts: (region = "us-east-1", key: Partial<AwsKey> = {}) => new STSClient(settings(region, key)),
    async close() {
      agent.destroy();
      await served.close();
      simulator.close();
    },
  };
}

/** A block that is the same for the same number and different for another. */
export function block(number: number): Buffer {
  return Buffer.alloc(BLOCK_BYTES, createHash("sha256").update(String(number)).digest());
}

export function checksum(data: Uint8Array): string {
  return createHash("sha256").update(data).digest("base64");
}

export function putCommand(SnapshotId: string, BlockIndex: number, data: Buffer): PutSnapshotBlockCommand {
  return new PutSnapshotBlockCommand({
    SnapshotId,
    BlockIndex,
    BlockData: data,
    DataLength: data.length,
    Checksum: checksum(data),
    ChecksumAlgorithm: "SHA256",
  });
}

export async function startSnapshot(ebs: EBSClient, token?: string, gib = 1): Promise<string> {
  const answer = await ebs.send(
    new StartSnapshotCommand({ VolumeSize: gib, ...(token === undefined ? {} : { ClientToken: token }) }),
  );
  return answer.SnapshotId ?? "";
}
