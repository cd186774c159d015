import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { startRehearsal } from "../../rehearsal/src/index.ts";

/** The Python that test/interop/setup gave boto3, else whichever is on the path. */
const tools = process.env.SLIPWAY_INTEROP_DIR;
const python = tools === undefined ? "python3" : join(tools, "python/bin/python3");
const present = hasBoto3();

// In CI a missing client is a failure, not a gap.
test.skipIf(!present && process.env.CI !== "true")("boto3 finds the simulated AWS to be AWS", async () => {
  const directory = mkdtempSync(join(tmpdir(), "boto3-"));
  const rehearsal = await startRehearsal();
  try {
    const ca = join(directory, "ca.pem");
    writeFileSync(ca, rehearsal.caPem);
    const { accessKeyId, secretAccessKey } = rehearsal.credentials.aws;
    const script = join(import.meta.dirname, "boto3-client.py");
    const { stdout } = await promisify(execFile)(python, [
      script,
      rehearsal.urls.ec2,
      ca,
      accessKeyId,
      secretAccessKey,
    ]);
    const { complaints, judged, strict, ...seen } = JSON.parse(stdout);
    // Every answer against botocore's description of the service (botocore_judge.py): nothing it does not know.
    expect(complaints).toEqual([]);
    expect(judged).toEqual(JUDGED);
    expect(strict).toEqual([
      "ec2:DescribeImages.Images[]: imageID is not known",
      expect.stringContaining("ec2:DescribeImages.Images[].State: 'ready' is none of pending, available"),
      "ec2:DescribeImages.Images[].Public: 'yes' is no boolean",
      "ec2:DescribeImages.Images: member in a list of item",
      "ebs:StartSnapshot.VolumeSize: '1' is not a number",
      "ebs:StartSnapshot: Key is not known",
      "sns:Publish: MessageID is not known",
      "ssm:GetParameter.Parameter.Version: '1' is not a number",
    ]);
    expect(seen).toEqual({
      account: "111122223333",
      wrong_checksum: "ValidationException",
      completed: "completed",
      read_back: true,
      duplicate: "InvalidAMIName.Duplicate",
      found: [["interop image-1", "available", [{ Key: "k", Value: "ü&<" }]]],
      permissions: [{ Group: "all" }],
      organizations: ["Group", "OrganizationArn", "OrganizationalUnitArn"],
      copy_tags: [],
      presigned_copy: "snap-",
      protection: "enabled-without-cooldown",
      protected: "OperationNotPermitted",
      in_use: "InvalidSnapshot.InUse",
      not_found: "InvalidAMIID.NotFound",
      dry_run: "DryRunOperation",
      unknown: "NotImplemented",
      wrong_secret: "SignatureDoesNotMatch",
      removed: true,
      object: "hello",
      objects: ["a/b c"],
      part: "part",
      uploads: ["disk.raw"],
      checksum_missing: "InvalidRequest",
      metadata: { "made-by": "boto3" },
      pages: [2, 1],
      imported: ["completed", "completed"],
      import_role: "InvalidParameter",
      import_tagged: [true],
      import_cancelled: "completed",
      parameter_exists: "ParameterAlreadyExists",
      version: 2,
      parameter: ["two", "one"],
      history: ["one", "two"],
      parameter_tags: [
        { Key: "k", Value: "v" },
        { Key: "l", Value: "w" },
      ],
      parameter_gone: "ParameterNotFound",
      topic: "arn:aws:sns:us-east-1:111122223333:interop",
      empty_message: "InvalidParameter",
      no_topic: "NotFound",
    });
  } finally {
    await rehearsal.close();
    rmSync(directory, { recursive: true });
  }
});

/** What botocore's description was asked about, so that an operation that is no longer judged is noticed. */
const JUDGED = [
  ...["CompleteSnapshot", "GetSnapshotBlock", "ListSnapshotBlocks", "PutSnapshotBlock", "StartSnapshot"].map(of("ebs")),
  ...["CancelImportTask", "CopyImage", "CopySnapshot", "CreateTags", "DeleteTags", "DeregisterImage"].map(of("ec2")),
  ...["DescribeImageAttribute", "DescribeImages", "DescribeImportSnapshotTasks"].map(of("ec2")),
  ...["DescribeRegions", "DescribeSnapshotAttribute", "DescribeSnapshots"].map(of("ec2")),
  ...["DescribeTags", "DisableImage", "DisableImageDeprecation"].map(of("ec2")),
  ...["DisableImageDeregistrationProtection", "EnableImage", "EnableImageDeprecation"].map(of("ec2")),
  ...["EnableImageDeregistrationProtection", "GetEbsEncryptionByDefault", "GetImageBlockPublicAccessState"].map(
    of("ec2"),
  ),
  ...["GetSnapshotBlockPublicAccessState", "ImportSnapshot", "ModifyImageAttribute", "ModifySnapshotAttribute"].map(
    of("ec2"),
  ),
  ...["RegisterImage", "ResetImageAttribute", "ResetSnapshotAttribute"].map(of("ec2")),
  ...["CompleteMultipartUpload", "CreateBucket", "CreateMultipartUpload", "GetObject", "HeadObject"].map(of("s3")),
  ...["ListMultipartUploads", "ListObjectsV2", "ListParts", "PutObject", "UploadPart", "UploadPartCopy"].map(of("s3")),
  ...["CreateTopic", "DeleteTopic", "Publish"].map(of("sns")),
  ...["AddTagsToResource", "DeleteParameter", "GetParameter", "GetParameterHistory", "GetParameters"].map(of("ssm")),
  ...["ListTagsForResource", "PutParameter"].map(of("ssm")),
  ...["GetCallerIdentity"].map(of("sts")),
];

function of(service: string): (operation: string) => string {
  return (operation) => `${service}:${operation}`;
}

function hasBoto3(): boolean {
  try {
    execFileSync(python, ["-c", "import boto3"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}
