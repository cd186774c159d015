import { CompleteSnapshotCommand } from "@aws-sdk/client-ebs";
import { RegisterImageCommand } from "@aws-sdk/client-ec2";
import { CreateTopicCommand, DeleteTopicCommand, PublishCommand, SubscribeCommand } from "@aws-sdk/client-sns";
import {
  DeleteParameterCommand,
  GetParameterCommand,
  GetParameterHistoryCommand,
  GetParametersCommand,
  ListTagsForResourceCommand,
  PutParameterCommand,
} from "@aws-sdk/client-ssm";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { AWS_OUTSIDER, AWS_PUBLISHER } from "./index.ts";
import { block, putCommand, startAws, startSnapshot } from "./testing.ts";

let aws: Awaited<ReturnType<typeof startAws>>;
beforeEach(async () => {
  aws = await startAws();
});
afterEach(() => aws.close());

const NAME = "/fedora/cloud/x86_64/latest";
const put = (fields: object = {}) =>
  new PutParameterCommand({ Name: NAME, Value: "v", Type: "String", ...fields } as never);

describe("Parameter Store", () => {
  test("keeps every value with its version, and overwrites only when told", async () => {
    const ssm = aws.ssm();
    expect(await ssm.send(put({ Tags: [{ Key: "owner", Value: "me" }] }))).toMatchObject({ Version: 1 });
    await expect(ssm.send(put({ Value: "w" }))).rejects.toMatchObject({ name: "ParameterAlreadyExists" });
    expect(await ssm.send(put({ Value: "w", Overwrite: true }))).toMatchObject({ Version: 2 });
    const { Parameter } = await ssm.send(new GetParameterCommand({ Name: NAME }));
    expect(Parameter).toMatchObject({ Value: "w", Version: 2, Type: "String", DataType: "text" });
    expect(Parameter?.LastModifiedDate).toEqual(new Date(aws.clock.now));
    const earlier = await ssm.send(new GetParameterCommand({ Name: `${NAME}:1` }));
    expect(earlier.Parameter).toMatchObject({ Value: "v", Selector: ":1" });
    const tags = await ssm.send(new ListTagsForResourceCommand({ ResourceType: "Parameter", ResourceId: NAME }));
    expect(tags.TagList).toEqual([{ Key: "owner", Value: "me" }]);
  });

  test("its history comes oldest first, page by page, and is 100 values long", async () => {
    const ssm = aws.ssm();
    for (let value = 1; value <= 103; value++) await ssm.send(put({ Value: String(value), Overwrite: true }));
    const first = await ssm.send(new GetParameterHistoryCommand({ Name: NAME }));
    const second = await ssm.send(new GetParameterHistoryCommand({ Name: NAME, NextToken: first.NextToken }));
    const values = [...(first.Parameters ?? []), ...(second.Parameters ?? [])].map((one) => one.Value);
    expect(values).toEqual(Array.from({ length: 100 }, (_, at) => String(at + 4)));
    expect(second.NextToken).toBeUndefined();
  });

  test("regions and accounts know nothing of each other's; what is gone is not found", async () => {
    await aws.ssm().send(put());
    const elsewhere = [aws.ssm("eu-west-1"), aws.ssm("us-east-1", AWS_OUTSIDER)];
    for (const ssm of elsewhere) {
      await expect(ssm.send(new GetParameterCommand({ Name: NAME }))).rejects.toMatchObject({
        name: "ParameterNotFound",
      });
    }
    await aws.ssm().send(new DeleteParameterCommand({ Name: NAME }));
    await expect(aws.ssm().send(new DeleteParameterCommand({ Name: NAME }))).rejects.toMatchObject({
      name: "ParameterNotFound",
    });
    const several = await aws.ssm().send(new GetParametersCommand({ Names: [NAME] }));
    expect(several).toMatchObject({ Parameters: [], InvalidParameters: [NAME] });
  });

  test("an image's id is looked at after the answer: a good one comes, a bad one never does", async () => {
    aws.state.behaviour.parameterCheckMs = 1000;
    const ssm = aws.ssm();
    const image = await registered();
    await ssm.send(put({ Value: image, DataType: "aws:ec2:image" }));
    await expect(ssm.send(new GetParameterCommand({ Name: NAME }))).rejects.toMatchObject({
      name: "ParameterNotFound",
    });
    aws.clock.now += 1000;
    expect((await ssm.send(new GetParameterCommand({ Name: NAME }))).Parameter?.Value).toBe(image);
    await ssm.send(put({ Value: "ami-00000000000000000", DataType: "aws:ec2:image", Overwrite: true }));
    aws.clock.now += 1000;
    expect((await ssm.send(new GetParameterCommand({ Name: NAME }))).Parameter?.Value).toBe(image);
  });

  test.each<[object, string]>([
    [{ Name: "fedora/cloud" }, "ValidationException"],
    [{ Name: "/fedora/x y" }, "ValidationException"],
    [{ Name: "/ssm-of-mine" }, "ValidationException"],
    [{ Name: "/aws/service/x" }, "AccessDeniedException"],
    [{ Name: "/a".repeat(16) }, "HierarchyLevelLimitExceededException"],
    [{ Type: undefined }, "ValidationException"],
    [{ Value: "x".repeat(4097) }, "ValidationException"],
    [{ Overwrite: true, Tags: [{ Key: "a", Value: "b" }] }, "ValidationException"],
  ])("case %#: such a parameter is refused", async (fields, name) => {
    await expect(aws.ssm().send(put(fields))).rejects.toMatchObject({ name });
  });

  test("who may not is told so, and what nobody taught it is refused by name", async () => {
    aws.simulator.accounts.add({ ...AWS_PUBLISHER, deny: ["ssm:PutParameter"] });
    await expect(aws.ssm().send(put())).rejects.toMatchObject({ name: "AccessDeniedException" });
    await expect(aws.ssm("us-east-1", { secretAccessKey: "wrong" }).send(put())).rejects.toMatchObject({
      name: "InvalidSignatureException",
    });
  });
});

describe("SNS", () => {
  test("a topic takes messages and refuses what SNS refuses", async () => {
    const sns = aws.sns();
    const { TopicArn } = await sns.send(new CreateTopicCommand({ Name: "images" }));
    expect(TopicArn).toBe("arn:aws:sns:us-east-1:111122223333:images");
    const said = await sns.send(
      new PublishCommand({
        ...{ TopicArn, Message: '{"ü":1}', Subject: "New" },
        MessageAttributes: { arch: { DataType: "String", StringValue: "x86_64" } },
      }),
    );
    expect(aws.state.topics.get(TopicArn ?? "")?.messages).toEqual([
      { id: said.MessageId, subject: "New", message: '{"ü":1}', attributes: { arch: "x86_64" } },
    ]);
    const refused: [object, string][] = [
      [{ Message: "" }, "InvalidParameter"],
      [{ Message: "x".repeat(256 * 1024 + 1) }, "InvalidParameter"],
      [{ Message: "x", Subject: "two\nlines" }, "InvalidParameter"],
      [{ Message: "x", MessageGroupId: "g" }, "InvalidParameter"],
      [{ Message: "{}", MessageStructure: "json" }, "InvalidParameter"],
      [{ Message: "x", MessageAttributes: { a: { DataType: "Text", StringValue: "b" } } }, "ParameterValueInvalid"],
      [{ Message: "x", TopicArn: `${TopicArn}-2` }, "NotFound"],
    ];
    for (const [fields, name] of refused) {
      const command = new PublishCommand({ TopicArn, Message: "", ...fields });
      await expect(sns.send(command)).rejects.toMatchObject({ Error: { Code: name } });
    }
    await sns.send(new DeleteTopicCommand({ TopicArn }));
    await expect(sns.send(new PublishCommand({ TopicArn, Message: "x" }))).rejects.toThrow("Topic does not exist");
  });

  test("another account, another region and an operation it does not know are refused", async () => {
    const { TopicArn } = await aws.sns().send(new CreateTopicCommand({ Name: "images" }));
    const publish = new PublishCommand({ TopicArn, Message: "x" });
    await expect(aws.sns("us-east-1", AWS_OUTSIDER).send(publish)).rejects.toThrow("is not authorized to perform");
    await expect(aws.sns("eu-west-1").send(publish)).rejects.toThrow("TopicArn");
    await expect(aws.sns().send(new SubscribeCommand({ TopicArn, Protocol: "sqs" }))).rejects.toThrow(
      "does not know sns:Subscribe",
    );
  });
});

async function registered(): Promise<string> {
  const ebs = aws.ebs();
  const SnapshotId = await startSnapshot(ebs);
  await ebs.send(putCommand(SnapshotId, 0, block(1)));
  await ebs.send(new CompleteSnapshotCommand({ SnapshotId, ChangedBlocksCount: 1 }));
  const registration = {
    ...({ Name: "one", Architecture: "x86_64", VirtualizationType: "hvm", RootDeviceName: "/dev/sda1" } as const),
    BlockDeviceMappings: [{ DeviceName: "/dev/sda1", Ebs: { SnapshotId } }],
  };
  return (await aws.ec2().send(new RegisterImageCommand(registration))).ImageId ?? "";
}
