import { AWS_PUBLISHER, createAwsSimulator } from "../../../rehearsal/src/aws/index.ts";
import { createAuthority, serve } from "../../../rehearsal/src/tls.ts";
import { AWS_SPEC, awsLevers, awsOperation } from "../testing/aws-harness.ts";
import { describeCloud } from "../testing/contract.ts";
import type { CloudHarness } from "../testing/harness.ts";
import { tap } from "../testing/taps.ts";
import { openAws } from "./aws.ts";

const authority = createAuthority();

describeCloud("aws, simulated", () => awsHarness());
describeCloud("aws, simulated, zeros skipped", () => awsHarness({ zeroBlocks: "skip" }));

export async function awsHarness(changes: { zeroBlocks?: "write" | "skip" } = {}): Promise<CloudHarness> {
  const simulator = createAwsSimulator();
  simulator.state.behaviour.visibleAfterMs = 5;
  simulator.state.behaviour.blocksWritableAfterMs = 5;
  simulator.state.behaviour.completeMs = 5;
  simulator.state.behaviour.copyMs = 10;
  const tapped = tap(simulator.handler, awsOperation);
  const tls = await authority;
  const served = await serve(tapped.handler, { tls });
  const options = {
    account: AWS_PUBLISHER.account,
    homeRegion: AWS_SPEC.homeRegion,
    credentials: AWS_PUBLISHER,
    endpoints: { ec2: served.url, ebs: served.url, sts: served.url },
    ca: tls.ca,
    ...changes,
  };
  const levers = awsLevers(tapped, options);
  const limited = {
    ...AWS_PUBLISHER,
    accessKeyId: "AKIALIMITEDLIMITED00",
    user: "limited",
    deny: ["ec2:RegisterImage"],
  };
  simulator.accounts.add(limited);
  const extra: ReturnType<typeof openAws>[] = [];
  return {
    ...levers,
    async inventory() {
      const regions = AWS_SPEC.regions;
      const { state } = simulator;
      const images = regions.flatMap((region) => state.images(region)).filter((one) => one.state !== "deregistered");
      return [...images, ...regions.flatMap((region) => state.snapshots(region))].map((one) => one.id);
    },
    async plantForeign(spec, region) {
      return plant(served.url, tls.ca, spec.name, region);
    },
    async withoutRegister() {
      const cloud = openAws({ ...options, credentials: limited });
      extra.push(cloud);
      return { cloud, permission: "ec2:RegisterImage" };
    },
    async close() {
      await levers.closeAll();
      for (const cloud of extra) await cloud.close();
      await served.close();
      simulator.close();
    },
  };
}

/** Registers an image as somebody else in the account would: the vendor's client, no tags. */
async function plant(endpoint: string, ca: string, Name: string, region: string): Promise<string> {
  const { EC2 } = await import("@aws-sdk/client-ec2");
  const { EBS } = await import("@aws-sdk/client-ebs");
  const { Agent } = await import("node:https");
  const agent = new Agent({ ca });
  const { accessKeyId, secretAccessKey } = AWS_PUBLISHER;
  const settings = {
    endpoint,
    region,
    credentials: { accessKeyId, secretAccessKey },
    requestHandler: { httpsAgent: agent },
  };
  const [ec2, ebs] = [new EC2(settings), new EBS(settings)];
  try {
    const { SnapshotId } = await ebs.startSnapshot({ VolumeSize: 1 });
    const retry = async <T>(body: () => Promise<T>): Promise<T> => {
      for (let left = 50; ; left--) {
        try {
          return await body();
        } catch (error) {
          if (left === 0) throw error;
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      }
    };
    await retry(() => ebs.completeSnapshot({ SnapshotId, ChangedBlocksCount: 0 }));
    const BlockDeviceMappings = [{ DeviceName: "/dev/sda1", Ebs: { SnapshotId } }];
    const image = { Name, RootDeviceName: "/dev/sda1", VirtualizationType: "hvm", BlockDeviceMappings };
    const { ImageId } = await retry(() => ec2.registerImage(image));
    await retry(async () => {
      const found = await ec2.describeImages({ ImageIds: [ImageId!] });
      if (found.Images?.length !== 1) throw new Error("not yet");
    });
    return ImageId!;
  } finally {
    ec2.destroy();
    ebs.destroy();
    agent.destroy();
  }
}
