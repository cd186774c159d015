import { CompleteSnapshotCommand } from "@aws-sdk/client-ebs";
import {
  CopyImageCommand,
  CopySnapshotCommand,
  CreateTagsCommand,
  DeleteSnapshotCommand,
  DeleteTagsCommand,
  DeregisterImageCommand,
  DescribeImageAttributeCommand,
  DescribeImagesCommand,
  DescribeInstancesCommand,
  DescribeRegionsCommand,
  DescribeSnapshotAttributeCommand,
  DescribeSnapshotsCommand,
  DescribeTagsCommand,
  DisableImageCommand,
  type EC2Client,
  EnableImageCommand,
  EnableImageDeprecationCommand,
  GetEbsEncryptionByDefaultCommand,
  GetImageBlockPublicAccessStateCommand,
  GetSnapshotBlockPublicAccessStateCommand,
  ModifyImageAttributeCommand,
  ModifySnapshotAttributeCommand,
  RegisterImageCommand,
  type RegisterImageCommandInput,
  ResetImageAttributeCommand,
  RunInstancesCommand,
} from "@aws-sdk/client-ec2";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { AWS_OUTSIDER } from "../index.ts";
import { REAL_BEHAVIOUR } from "../state.ts";
import { block, putCommand, startAws, startSnapshot } from "../testing.ts";

let aws: Awaited<ReturnType<typeof startAws>>;
let ec2: EC2Client;
let outsider: EC2Client;

beforeAll(async () => {
  aws = await startAws();
  ec2 = aws.ec2();
  outsider = aws.ec2("us-east-1", AWS_OUTSIDER);
});
afterAll(() => aws.close());
beforeEach(() => {
  aws.simulator.reset();
  Object.assign(aws.state.behaviour, REAL_BEHAVIOUR);
});

const NAME = "Fedora-Cloud-Base-AmazonEC2.x86_64-44-1.7";

async function completed(): Promise<string> {
  const id = await startSnapshot(aws.ebs());
  await aws.ebs().send(putCommand(id, 0, block(0)));
  await aws.ebs().send(new CompleteSnapshotCommand({ SnapshotId: id, ChangedBlocksCount: 1 }));
  return id;
}

function registration(SnapshotId: string, change: Partial<RegisterImageCommandInput> = {}): RegisterImageCommand {
  return new RegisterImageCommand({
    Name: NAME,
    Architecture: "x86_64",
    VirtualizationType: "hvm",
    BootMode: "uefi-preferred",
    ImdsSupport: "v2.0",
    EnaSupport: true,
    RootDeviceName: "/dev/sda1",
    BlockDeviceMappings: [
      { DeviceName: "/dev/sda1", Ebs: { SnapshotId, VolumeType: "gp3", DeleteOnTermination: true } },
    ],
    TagSpecifications: [
      {
        ResourceType: "image",
        Tags: [
          { Key: "slipway:key", Value: "abc" },
          { Key: "b", Value: "<&>" },
        ],
      },
    ],
    ...change,
  });
}

async function registered(change: Partial<RegisterImageCommandInput> = {}): Promise<string> {
  return (await ec2.send(registration(await completed(), change))).ImageId ?? "";
}

const find = (client: EC2Client, id: string) => client.send(new DescribeImagesCommand({ ImageIds: [id] }));
const publish = (id: string) =>
  new ModifyImageAttributeCommand({ ImageId: id, LaunchPermission: { Add: [{ Group: "all" }] } });

test("UEFI variables and a volume's performance are kept, and refused where they make no sense", async () => {
  const id = await registered({ UefiData: "QU1aTlVFRkk=" });
  const attribute = await ec2.send(new DescribeImageAttributeCommand({ ImageId: id, Attribute: "uefiData" }));
  expect(attribute.UefiData).toEqual({ Value: "QU1aTlVFRkk=" });
  const refused: [Partial<RegisterImageCommandInput>, string][] = [
    [{ UefiData: "not base64" }, "InvalidParameterValue"],
    [{ UefiData: "QU1aTlVFRkk=", BootMode: "legacy-bios" }, "InvalidParameterCombination"],
  ];
  for (const [change, name] of refused) {
    await expect(registered({ Name: "other", ...change })).rejects.toMatchObject({ name });
  }
  const volumes: [object, string][] = [
    [{ VolumeType: "io1" }, "MissingParameter"],
    [{ VolumeType: "gp2", Iops: 3000 }, "InvalidParameterCombination"],
    [{ VolumeType: "gp3", Iops: 100 }, "InvalidParameterValue"],
    [{ VolumeType: "gp3", Throughput: 800 }, "InvalidParameterValue"],
    [{ VolumeType: "io2", Iops: 500, Throughput: 125 }, "InvalidParameterCombination"],
  ];
  for (const [volume, name] of volumes) {
    const BlockDeviceMappings = [{ DeviceName: "/dev/sda1", Ebs: { SnapshotId: await completed(), ...volume } }];
    await expect(registered({ Name: "other", BlockDeviceMappings })).rejects.toMatchObject({ name });
  }
});

test("an image is registered with everything it was asked for, and found by name, tag and state", async () => {
  const id = await registered();
  const { Images } = await ec2.send(
    new DescribeImagesCommand({
      Owners: ["self"],
      Filters: [
        { Name: "name", Values: ["nothing", "Fedora-Cloud-*-44-?.7"] },
        { Name: "tag:slipway:key", Values: ["abc"] },
        { Name: "state", Values: ["available"] },
      ],
    }),
  );
  expect(Images).toMatchObject([
    {
      ImageId: id,
      Name: NAME,
      State: "available",
      Public: false,
      Architecture: "x86_64",
      BootMode: "uefi-preferred",
      ImdsSupport: "v2.0",
      EnaSupport: true,
      CreationDate: "2026-05-01T10:00:00.000Z",
      BlockDeviceMappings: [{ DeviceName: "/dev/sda1", Ebs: { VolumeSize: 1, VolumeType: "gp3", Encrypted: false } }],
      Tags: [
        { Key: "slipway:key", Value: "abc" },
        { Key: "b", Value: "<&>" },
      ],
    },
  ]);
  const none = await ec2.send(new DescribeImagesCommand({ Filters: [{ Name: "tag:slipway:key", Values: ["ab"] }] }));
  expect(none.Images).toEqual([]);
});

test("what cannot be registered is refused by the name AWS gives it", async () => {
  const snapshot = await completed();
  await ec2.send(registration(snapshot));
  const pending = await startSnapshot(aws.ebs());
  const refused: [RegisterImageCommand, string][] = [
    [registration(snapshot), "InvalidAMIName.Duplicate"],
    [registration(snapshot, { Name: "a:b*c" }), "InvalidAMIName.Malformed"],
    [registration(pending, { Name: "other" }), "InvalidParameterValue"],
    [registration("snap-0123456789abcdef0", { Name: "other" }), "InvalidSnapshot.NotFound"],
    [registration(snapshot, { Name: "other", RootDeviceName: "/dev/xvda" }), "InvalidBlockDeviceMapping"],
    [registration(snapshot, { Name: "other", Architecture: "arm64" }), "InvalidParameterCombination"],
    [registration(snapshot, { Name: "other", VirtualizationType: "paravirtual" }), "InvalidParameterCombination"],
  ];
  for (const [command, name] of refused) await expect(ec2.send(command)).rejects.toMatchObject({ name });
  expect(aws.state.images()).toHaveLength(1);
});

test("a private image does not exist for others; a public one does, without its tags", async () => {
  const id = await registered();
  await expect(find(outsider, id)).rejects.toMatchObject({ name: "InvalidAMIID.NotFound" });
  expect((await outsider.send(new DescribeImagesCommand({}))).Images).toEqual([]);
  await ec2.send(publish(id));
  const { Images } = await find(outsider, id);
  expect(Images).toMatchObject([{ ImageId: id, Public: true, DeprecationTime: "2028-04-30T10:00:00.000Z" }]);
  expect(Images?.[0]?.Tags ?? []).toEqual([]);
  await expect(outsider.send(publish(id))).rejects.toMatchObject({ name: "AuthFailure" });
  await ec2.send(new ResetImageAttributeCommand({ ImageId: id, Attribute: "launchPermission" }));
  await expect(find(outsider, id)).rejects.toMatchObject({ name: "InvalidAMIID.NotFound" });
  await ec2.send(
    new ModifyImageAttributeCommand({ ImageId: id, LaunchPermission: { Add: [{ UserId: AWS_OUTSIDER.account }] } }),
  );
  expect((await find(outsider, id)).Images).toHaveLength(1);
  const attribute = new DescribeImageAttributeCommand({ ImageId: id, Attribute: "launchPermission" });
  expect((await ec2.send(attribute)).LaunchPermissions).toEqual([{ UserId: AWS_OUTSIDER.account }]);
});

test("a copy takes its time, brings neither tags nor permissions, and is one for one token", async () => {
  aws.state.behaviour.copyMs = 60_000;
  const id = await registered();
  await ec2.send(publish(id));
  const away = aws.ec2("eu-west-1");
  const command = new CopyImageCommand({ Name: NAME, SourceImageId: id, SourceRegion: "us-east-1", ClientToken: "t" });
  const copy = (await away.send(command)).ImageId ?? "";
  expect((await away.send(command)).ImageId).toBe(copy);
  await expect(away.send(new CopyImageCommand({ ...command.input, Description: "another" }))).rejects.toMatchObject({
    name: "IdempotentParameterMismatch",
  });
  expect((await find(away, copy)).Images).toMatchObject([{ State: "pending", SourceImageId: id, Public: false }]);
  aws.clock.now += 60_000;
  const { Images } = await find(away, copy);
  expect(Images).toMatchObject([{ State: "available", Public: false, Name: NAME }]);
  expect(Images?.[0]?.Tags ?? []).toEqual([]);
  const snapshotId = Images?.[0]?.BlockDeviceMappings?.[0]?.Ebs?.SnapshotId ?? "";
  const snapshots = await away.send(new DescribeSnapshotsCommand({ SnapshotIds: [snapshotId] }));
  expect(snapshots.Snapshots).toMatchObject([{ State: "completed", Progress: "100%" }]);
  expect(snapshots.Snapshots?.[0]?.Description).toContain(`Copied for DestinationAmi ${copy} from SourceAmi ${id}`);
});

test("copies do not mind a name in use, carry tags when told, and are limited per region", async () => {
  Object.assign(aws.state.behaviour, { copyMs: 1000, copiesPerRegion: 2 });
  const id = await registered();
  const away = aws.ec2("eu-west-1");
  const copy = (change = {}) =>
    away.send(new CopyImageCommand({ Name: NAME, SourceImageId: id, SourceRegion: "us-east-1", ...change }));
  const tagged = await copy({
    CopyImageTags: true,
    TagSpecifications: [{ ResourceType: "snapshot", Tags: [{ Key: "owner", Value: "us" }] }],
  });
  await copy();
  await expect(copy()).rejects.toMatchObject({
    name: "ResourceLimitExceeded",
    message: "Too many snapshot copies in progress. The limit is 2 for this destination region.",
  });
  expect(aws.state.images("eu-west-1").map((image) => image.name)).toEqual([NAME, NAME]);
  expect((await find(away, tagged.ImageId ?? "")).Images?.[0]?.Tags).toHaveLength(2);
  expect(aws.state.snapshots("eu-west-1")[0]?.tags.get("owner")).toBe("us");
});

test("a copy that fails says so, and its snapshot too", async () => {
  aws.state.failNextCopy("eu-west-1", "no room");
  const id = await registered();
  const away = aws.ec2("eu-west-1");
  const copy = await away.send(new CopyImageCommand({ Name: NAME, SourceImageId: id, SourceRegion: "us-east-1" }));
  expect((await find(away, copy.ImageId ?? "")).Images).toMatchObject([
    { State: "failed", StateReason: { Message: "no room" } },
  ]);
  expect(aws.state.snapshots("eu-west-1")[0]?.state).toBe("error");
});

test("a snapshot is copied by itself", async () => {
  const away = aws.ec2("eu-west-1");
  const copy = await away.send(
    new CopySnapshotCommand({ SourceRegion: "us-east-1", SourceSnapshotId: await completed() }),
  );
  expect(aws.state.snapshot("eu-west-1", copy.SnapshotId ?? "")?.state).toBe("completed");
});

test("what is new is not found for a while, not by tags either", async () => {
  const snapshot = await completed();
  aws.state.behaviour.visibleAfterMs = 3000;
  const id = (await ec2.send(registration(snapshot))).ImageId ?? "";
  await expect(find(ec2, id)).rejects.toMatchObject({ name: "InvalidAMIID.NotFound" });
  const tag = new CreateTagsCommand({ Resources: [id], Tags: [{ Key: "a", Value: "1" }] });
  await expect(ec2.send(tag)).rejects.toMatchObject({ name: "InvalidAMIID.NotFound" });
  expect((await ec2.send(new DescribeImagesCommand({ Owners: ["self"] }))).Images).toEqual([]);
  await expect(ec2.send(registration(snapshot))).rejects.toMatchObject({ name: "InvalidAMIName.Duplicate" });
  aws.clock.now += 3000;
  await ec2.send(tag);
});

test("tags are added, replaced, listed and removed within their limits", async () => {
  const id = await registered({ TagSpecifications: [] });
  const tags = (Tags: { Key: string; Value: string }[]) => ec2.send(new CreateTagsCommand({ Resources: [id], Tags }));
  await tags([
    { Key: "a", Value: "1" },
    { Key: "b", Value: "2" },
  ]);
  await tags([{ Key: "a", Value: "3" }]);
  const described = await ec2.send(new DescribeTagsCommand({ Filters: [{ Name: "resource-id", Values: [id] }] }));
  expect(described.Tags).toMatchObject([
    { Key: "a", Value: "3", ResourceId: id, ResourceType: "image" },
    { Key: "b", Value: "2" },
  ]);
  await ec2.send(new DeleteTagsCommand({ Resources: [id], Tags: [{ Key: "a", Value: "1" }, { Key: "b" }] }));
  expect([...(aws.state.images()[0]?.tags ?? [])]).toEqual([["a", "3"]]);
  await expect(tags([{ Key: "aws:x", Value: "1" }])).rejects.toMatchObject({ name: "InvalidParameterValue" });
  const many = Array.from({ length: 50 }, (_, n) => ({ Key: `k${n}`, Value: "" }));
  await expect(tags(many)).rejects.toMatchObject({ name: "TagLimitExceeded" });
});

test("lists come in pages", async () => {
  const snapshot = await completed();
  for (let n = 0; n < 5; n++) await ec2.send(registration(snapshot, { Name: `image-${n}` }));
  const first = await ec2.send(new DescribeImagesCommand({ Owners: ["self"], MaxResults: 3 }));
  const second = await ec2.send(
    new DescribeImagesCommand({ Owners: ["self"], MaxResults: 3, NextToken: first.NextToken }),
  );
  expect([...(first.Images ?? []), ...(second.Images ?? [])].map((image) => image.Name)).toEqual(
    Array.from({ length: 5 }, (_, n) => `image-${n}`),
  );
  expect(second.NextToken).toBeUndefined();
  await expect(ec2.send(new DescribeSnapshotsCommand({ NextToken: "nonsense" }))).rejects.toMatchObject({
    name: "InvalidNextToken",
  });
  await expect(
    ec2.send(new DescribeImagesCommand({ Filters: [{ Name: "colour", Values: ["red"] }] })),
  ).rejects.toMatchObject({ name: "InvalidParameterValue" });
});

test("a snapshot in use stays; a deregistered image is gone and may take its snapshot along", async () => {
  const id = await registered();
  const snapshot = aws.state.snapshots()[0]?.id ?? "";
  await expect(ec2.send(new DeleteSnapshotCommand({ SnapshotId: snapshot }))).rejects.toMatchObject({
    name: "InvalidSnapshot.InUse",
  });
  const gone = await ec2.send(new DeregisterImageCommand({ ImageId: id, DeleteAssociatedSnapshots: true }));
  expect(gone.DeleteSnapshotResults).toEqual([{ SnapshotId: snapshot, ReturnCode: "success" }]);
  await expect(find(ec2, id)).rejects.toMatchObject({ name: "InvalidAMIID.NotFound" });
  await expect(ec2.send(new DeregisterImageCommand({ ImageId: id }))).rejects.toMatchObject({
    name: "InvalidAMIID.Unavailable",
  });
  await expect(ec2.send(new DeleteSnapshotCommand({ SnapshotId: snapshot }))).rejects.toMatchObject({
    name: "InvalidSnapshot.NotFound",
  });
  expect(aws.state.blocks.size).toBe(0);
});

test("a disabled image loses its permissions and hides; deprecation hides it from others only", async () => {
  const id = await registered();
  await ec2.send(publish(id));
  await ec2.send(new EnableImageDeprecationCommand({ ImageId: id, DeprecateAt: new Date(aws.clock.now + 120_000) }));
  aws.clock.now += 120_000;
  const all = new DescribeImagesCommand({});
  expect((await outsider.send(all)).Images).toEqual([]);
  expect((await outsider.send(new DescribeImagesCommand({ IncludeDeprecated: true }))).Images).toHaveLength(1);
  expect((await ec2.send(all)).Images).toHaveLength(1);
  await ec2.send(new DisableImageCommand({ ImageId: id }));
  expect((await ec2.send(all)).Images).toEqual([]);
  expect((await ec2.send(new DescribeImagesCommand({ IncludeDisabled: true }))).Images).toMatchObject([
    { State: "disabled", Public: false },
  ]);
  await ec2.send(new EnableImageCommand({ ImageId: id }));
  expect((await ec2.send(all)).Images).toMatchObject([{ State: "available", Public: false }]);
});

test("the account's quota, encryption and blocks on public access stand in the way", async () => {
  const settings = aws.state.settings("111122223333", "us-east-1");
  settings.publicImages = 1;
  const first = await registered();
  const second = await registered({ Name: "second" });
  await ec2.send(publish(first));
  await expect(ec2.send(publish(second))).rejects.toMatchObject({ name: "ResourceLimitExceeded" });
  await ec2.send(publish(first));
  settings.publicImages = 5;
  settings.imageBlockPublicAccess = "block-new-sharing";
  await expect(ec2.send(publish(second))).rejects.toMatchObject({ name: "OperationNotPermitted" });
  settings.imageBlockPublicAccess = "unblocked";
  settings.ebsEncryptionByDefault = true;
  settings.snapshotBlockPublicAccess = "block-all-sharing";
  const encrypted = await registered({ Name: "encrypted" });
  await expect(ec2.send(publish(encrypted))).rejects.toMatchObject({ name: "InvalidParameter" });
  const share = (SnapshotId: string) =>
    ec2.send(new ModifySnapshotAttributeCommand({ SnapshotId, CreateVolumePermission: { Add: [{ Group: "all" }] } }));
  const snapshots = aws.state.snapshots();
  await expect(share(snapshots[0]?.id ?? "")).rejects.toMatchObject({ name: "OperationNotPermitted" });
  await expect(share(snapshots[2]?.id ?? "")).rejects.toMatchObject({ name: "InvalidParameter" });
  expect((await ec2.send(new GetEbsEncryptionByDefaultCommand({}))).EbsEncryptionByDefault).toBe(true);
  expect((await ec2.send(new GetImageBlockPublicAccessStateCommand({}))).ImageBlockPublicAccessState).toBe("unblocked");
  expect((await ec2.send(new GetSnapshotBlockPublicAccessStateCommand({}))).State).toBe("block-all-sharing");
});

test("a shared snapshot is described with whom it is shared", async () => {
  const SnapshotId = await completed();
  const permission = { Add: [{ Group: "all" as const }, { UserId: AWS_OUTSIDER.account }] };
  await ec2.send(new ModifySnapshotAttributeCommand({ SnapshotId, CreateVolumePermission: permission }));
  const described = await ec2.send(
    new DescribeSnapshotAttributeCommand({ SnapshotId, Attribute: "createVolumePermission" }),
  );
  expect(described.CreateVolumePermissions).toEqual([{ Group: "all" }, { UserId: AWS_OUTSIDER.account }]);
  const mine = new DescribeSnapshotsCommand({ OwnerIds: ["self"] });
  expect((await outsider.send(mine)).Snapshots).toEqual([]);
  expect((await outsider.send(new DescribeSnapshotsCommand({ SnapshotIds: [SnapshotId] }))).Snapshots).toHaveLength(1);
});

test("regions are listed with their opt-in status, and one not asked for does not know the account", async () => {
  const open = await ec2.send(new DescribeRegionsCommand({}));
  const all = await ec2.send(new DescribeRegionsCommand({ AllRegions: true }));
  expect(open.Regions?.length).toBe(22);
  expect(all.Regions?.find((region) => region.RegionName === "il-central-1")?.OptInStatus).toBe("not-opted-in");
  const opted = new DescribeRegionsCommand({ Filters: [{ Name: "opt-in-status", Values: ["opted-in"] }] });
  expect((await ec2.send(opted)).Regions?.map((region) => region.RegionName)).toContain("me-south-1");
  await expect(aws.ec2("il-central-1").send(new DescribeImagesCommand({}))).rejects.toMatchObject({
    name: "AuthFailure",
  });
});

test("nothing runs here, and what nobody taught the simulator is refused by name", async () => {
  expect((await ec2.send(new DescribeInstancesCommand({}))).Reservations).toEqual([]);
  await expect(ec2.send(new RunInstancesCommand({ MinCount: 1, MaxCount: 1 }))).rejects.toMatchObject({
    name: "NotImplemented",
    message: "The rehearsal does not know ec2:RunInstances.",
    $metadata: { httpStatusCode: 501 },
  });
});
