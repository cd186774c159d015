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
    expect(JSON.parse(stdout)).toEqual({
      account: "111122223333",
      wrong_checksum: "ValidationException",
      completed: "completed",
      read_back: true,
      duplicate: "InvalidAMIName.Duplicate",
      found: [["interop image-1", "available", [{ Key: "k", Value: "ü&<" }]]],
      permissions: [{ Group: "all" }],
      copy_tags: [],
      presigned_copy: "snap-",
      in_use: "InvalidSnapshot.InUse",
      not_found: "InvalidAMIID.NotFound",
      dry_run: "DryRunOperation",
      unknown: "NotImplemented",
      wrong_secret: "SignatureDoesNotMatch",
      removed: true,
      object: "hello",
      objects: ["a/b c"],
    });
  } finally {
    await rehearsal.close();
    rmSync(directory, { recursive: true });
  }
});

function hasBoto3(): boolean {
  try {
    execFileSync(python, ["-c", "import boto3"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}
