/** The driver before the pretended AWS, with the contract's levers. */
import {
  AWS_OUTSIDER,
  AWS_PUBLISHER,
  type AwsKey,
  type AwsSimulator,
  createAwsSimulator,
} from "../../../../rehearsal/src/aws/index.ts";
import { createAuthority, serve } from "../../../../rehearsal/src/tls.ts";
import type { CloudHarness } from "../../testing/harness.ts";
import { tap } from "../../testing/taps.ts";
import { type AwsOptions, openAws } from "../aws.ts";
import { AWS_SPEC, awsLevers, awsOperation } from "./harness.ts";

const authority = createAuthority();

/** In the home region, and the publisher's. */
export const AWS_BUCKET = { name: "fedora-images-import", region: AWS_SPEC.homeRegion, account: AWS_PUBLISHER.account };

export async function awsHarness(
  changes: Partial<AwsOptions> = {},
  keys: readonly AwsKey[] = [AWS_PUBLISHER, AWS_OUTSIDER],
): Promise<CloudHarness & { simulator: AwsSimulator; options: AwsOptions; calls: (operation: string) => number }> {
  const simulator = createAwsSimulator({ keys, buckets: [AWS_BUCKET] });
  simulator.state.behaviour.visibleAfterMs = 5;
  simulator.state.behaviour.blocksWritableAfterMs = 5;
  simulator.state.behaviour.completeMs = 5;
  simulator.state.behaviour.copyMs = 10;
  simulator.state.behaviour.importMs = 10;
  const tapped = tap(simulator.handler, awsOperation);
  const tls = await authority;
  const served = await serve(tapped.handler, { tls });
  const { url } = served;
  const options = {
    account: AWS_PUBLISHER.account,
    homeRegion: AWS_SPEC.homeRegion,
    credentials: AWS_PUBLISHER,
    endpoints: { ec2: url, ebs: url, sts: url, s3: url, ssm: url, sns: url },
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
    simulator,
    options,
    calls: tapped.count,
    async inventory() {
      const regions = AWS_SPEC.regions;
      const { state } = simulator;
      const images = regions.flatMap((region) => state.images(region)).filter((one) => one.state !== "deregistered");
      const uploads = [...state.objects.uploads.values()].map(({ bucket, key, id }) => ({
        id: `s3://${bucket}/${key}#${id}`,
      }));
      const disks = [...(state.objects.bucket(AWS_BUCKET.name)?.objects.keys() ?? [])].filter((key) =>
        key.endsWith(".raw"),
      );
      const objects = disks.map((key) => ({ id: `s3://${AWS_BUCKET.name}/${key}` }));
      const snapshots = regions.flatMap((region) => state.snapshots(region));
      return [...images, ...snapshots, ...uploads, ...objects].map((one) => one.id);
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
