import type { CallContext } from "../../lib/call.ts";
import { codeOf, reportOf } from "../../lib/errors.ts";
import type { Finding } from "../cloud.ts";
import type { Account } from "./account.ts";
import { denied } from "./check.ts";
import type { ImportBucket } from "./import/bucket.ts";

/**
 * Whether disks could go through the bucket: that it is there, in the right region and ours; that imports may be begun.
 * Whether the role may read it cannot be asked: AWS says so only when an import begins, and in one sentence for all.
 */
export async function checkImport(
  account: Account,
  { bucket, role }: { readonly bucket: ImportBucket; readonly role: string },
  call: CallContext,
): Promise<Finding[]> {
  const { name, region } = bucket;
  const base = { severity: "error", region, subject: `bucket ${name}` } as const;
  try {
    await bucket.look(call);
  } catch (error) {
    const code = codeOf(error);
    if (code === "cancelled") throw error;
    if (code === "not-found") {
      const next = `Make it (aws s3 mb s3://${name} --region ${region}), or correct the target's import.bucket.`;
      return [{ ...base, code, message: `There is no bucket ${name}.`, next }];
    }
    if (code === "forbidden") {
      const next = "Allow s3:ListBucket on it in the policy of these credentials, or name a bucket of this account.";
      return [{ ...base, code, message: `The bucket ${name} is another account's, or closed to us.`, next }];
    }
    // A HEAD request is answered without words: what is wrong with a bucket that is there is its region.
    if (code === "invalid") {
      const next = `Imports read buckets of their own region only: name one in ${region}, or move the target's home_region.`;
      return [{ ...base, code, message: `The bucket ${name} is not in ${region}.`, next }];
    }
    return [{ ...base, code, message: reportOf(error).message }];
  }
  const asked: readonly (readonly [string, () => Promise<unknown>])[] = [
    ["s3:ListBucketMultipartUploads", () => bucket.uploads(undefined, call)],
    [
      "ec2:ImportSnapshot",
      () =>
        account.connection.ec2(region, "ImportSnapshot", undefined, call, (ec2, send) =>
          ec2.importSnapshot(
            {
              RoleName: role,
              DiskContainer: { Format: "RAW", UserBucket: { S3Bucket: name, S3Key: "slipway-check" } },
              DryRun: true,
            },
            send,
          ),
        ),
    ],
    [
      "ec2:DescribeImportSnapshotTasks",
      () =>
        account.connection.ec2(region, "DescribeImportSnapshotTasks", undefined, call, (ec2, send) =>
          ec2.describeImportSnapshotTasks({ DryRun: true }, send),
        ),
    ],
  ];
  const findings: Finding[] = [];
  for (const [permission, ask] of asked) {
    try {
      await ask();
    } catch (error) {
      const finding = denied(error, permission, region);
      if (finding) findings.push(finding);
    }
  }
  return findings;
}
