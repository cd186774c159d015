import { DescribeImagesCommand, DescribeRegionsCommand, RegisterImageCommand } from "@aws-sdk/client-ec2";
import { AssumeRoleCommand, GetCallerIdentityCommand } from "@aws-sdk/client-sts";
import { Agent, fetch } from "undici";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AWS_OUTSIDER, AWS_PUBLISHER } from "./index.ts";
import { startAws, startSnapshot } from "./testing.ts";

const ROLE = "arn:aws:iam::111122223333:role/uploader";
const EXPIRED = { ...AWS_PUBLISHER, accessKeyId: "ASIAEXPIRED", sessionToken: "token", expiresAt: 1 };
const LIMITED = {
  ...AWS_PUBLISHER,
  accessKeyId: "AKIALIMITED",
  deny: ["ec2:RegisterImage", "ebs:*", "ec2:DescribeImages@eu-west-1"],
};

let aws: Awaited<ReturnType<typeof startAws>>;

beforeAll(async () => {
  aws = await startAws({
    keys: [AWS_PUBLISHER, AWS_OUTSIDER, EXPIRED, LIMITED],
    roles: [{ arn: ROLE, trusts: ["444455556666"], externalId: "fedora", deny: ["ec2:CopyImage"] }],
  });
});
afterAll(() => aws.close());

const who = new GetCallerIdentityCommand({});
const images = new DescribeImagesCommand({});

test("the right key is told who it is", async () => {
  expect(await aws.sts().send(who)).toMatchObject({
    Account: "111122223333",
    Arn: "arn:aws:iam::111122223333:user/publisher",
  });
});

test.each([
  [
    "a wrong secret",
    { secretAccessKey: "wrong" },
    "SignatureDoesNotMatch",
    "SignatureDoesNotMatch",
    "InvalidSignatureException",
  ],
  [
    "an unknown key",
    { accessKeyId: "AKIANOBODY" },
    "AuthFailure",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
  ],
  [
    "a wrong token",
    { ...EXPIRED, sessionToken: "other" },
    "AuthFailure",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
  ],
  ["an expired token", EXPIRED, "RequestExpired", "ExpiredToken", "ExpiredTokenException"],
])("%s is refused in each service's own words", async (_what, key, ec2, sts, ebs) => {
  await expect(aws.ec2("us-east-1", key).send(images)).rejects.toMatchObject({ name: ec2 });
  await expect(aws.sts("us-east-1", key).send(who)).rejects.toMatchObject({ name: sts });
  await expect(startSnapshot(aws.ebs("us-east-1", key))).rejects.toMatchObject({ name: ebs });
});

test("a body that is not the signed one is refused, and so is a request without a signature", async () => {
  const client = aws.ec2();
  client.middlewareStack.add(
    (next) => (args) => {
      const request = args.request as { body: string };
      request.body = request.body.replace("us-east-1", "us-east-2");
      return next(args);
    },
    { step: "finalizeRequest", priority: "low" },
  );
  await expect(client.send(new DescribeRegionsCommand({ RegionNames: ["us-east-1"] }))).rejects.toMatchObject({
    name: "SignatureDoesNotMatch",
  });
  const dispatcher = new Agent({ connect: { ca: aws.ca } });
  const bare = await fetch(aws.url, { method: "POST", body: "Action=DescribeRegions", dispatcher });
  expect([bare.status, await bare.text()]).toEqual([401, expect.stringContaining("<Code>AuthFailure</Code>")]);
  await dispatcher.close();
});

test("what a key is denied is refused with the action's name, also as a dry run", async () => {
  const limited = aws.ec2("us-east-1", LIMITED);
  const register = (DryRun: boolean) => new RegisterImageCommand({ Name: "abc", DryRun });
  for (const dry of [true, false]) {
    await expect(limited.send(register(dry))).rejects.toMatchObject({
      name: "UnauthorizedOperation",
      message: expect.stringMatching(/ec2:RegisterImage .*Encoded authorization failure message: \S{20,}/),
    });
  }
  await expect(aws.ec2().send(register(true))).rejects.toMatchObject({
    name: "DryRunOperation",
    $metadata: { httpStatusCode: 412 },
  });
  await limited.send(images);
  await expect(aws.ec2("eu-west-1", LIMITED).send(images)).rejects.toMatchObject({ name: "UnauthorizedOperation" });
  await expect(startSnapshot(aws.ebs("us-east-1", LIMITED))).rejects.toMatchObject({
    name: "AccessDeniedException",
    Reason: "UNAUTHORIZED_ACCOUNT",
  });
});

test("a role is assumed by whom it trusts, and its session works in its account", async () => {
  const outsider = aws.sts("us-east-1", AWS_OUTSIDER);
  const input = { RoleArn: ROLE, RoleSessionName: "release", ExternalId: "fedora" };
  await expect(aws.sts().send(new AssumeRoleCommand(input))).rejects.toMatchObject({ name: "AccessDenied" });
  await expect(outsider.send(new AssumeRoleCommand({ ...input, ExternalId: "no" }))).rejects.toMatchObject({
    name: "AccessDenied",
  });
  const { Credentials } = await outsider.send(new AssumeRoleCommand(input));
  expect(Credentials?.Expiration).toBeInstanceOf(Date);
  const session = {
    accessKeyId: Credentials?.AccessKeyId ?? "",
    secretAccessKey: Credentials?.SecretAccessKey ?? "",
    sessionToken: Credentials?.SessionToken ?? "",
  };
  expect(await aws.sts("us-east-1", session).send(who)).toMatchObject({
    Account: "111122223333",
    Arn: "arn:aws:sts::111122223333:assumed-role/uploader/release",
  });
  await aws.ec2("us-east-1", session).send(images);
});
