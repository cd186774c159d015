import { type ExecFileException, execFile, execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Rehearsal, startRehearsal } from "../../rehearsal/src/index.ts";

/** The aws-cli that test/interop/setup installed, else whichever is on the path. */
const tools = process.env.SLIPWAY_INTEROP_DIR;
const program = tools === undefined ? "aws" : join(tools, "python/bin/aws");

// In CI a missing client is a failure, not a gap.
describe.skipIf(!hasAwsCli() && process.env.CI !== "true")("aws-cli finds the simulated AWS to be AWS", () => {
  let rehearsal: Rehearsal;
  let directory: string;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "aws-cli-"));
    rehearsal = await startRehearsal();
    writeFileSync(join(directory, "ca.pem"), rehearsal.caPem);
    writeFileSync(join(directory, "config"), "[default]\ns3 =\n  addressing_style = path\n");
  });

  afterAll(async () => {
    await rehearsal?.close();
    rmSync(directory, { recursive: true });
  });

  /** Runs it as a person would, in an environment that has nothing of this machine's own. */
  function run(args: readonly string[], secret = rehearsal.credentials.aws.secretAccessKey) {
    const env = {
      PATH: process.env.PATH,
      HOME: directory,
      AWS_CONFIG_FILE: join(directory, "config"),
      AWS_ACCESS_KEY_ID: rehearsal.credentials.aws.accessKeyId,
      AWS_SECRET_ACCESS_KEY: secret,
      AWS_DEFAULT_REGION: "us-east-1",
      AWS_CA_BUNDLE: join(directory, "ca.pem"),
      AWS_ENDPOINT_URL: rehearsal.urls.ec2,
      AWS_MAX_ATTEMPTS: "1",
      AWS_EC2_METADATA_DISABLED: "true",
    };
    return new Promise<{ code: number | string; stdout: string; stderr: string }>((resolve) => {
      execFile(program, [...args, "--output", "json"], { env }, (error: ExecFileException | null, stdout, stderr) =>
        resolve({ code: error?.code ?? 0, stdout, stderr }),
      );
    });
  }

  async function aws(...args: string[]) {
    const { code, stdout, stderr } = await run(args);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    return stdout === "" ? undefined : JSON.parse(stdout);
  }

  test("it says who one is, and what is wrong with a secret", async () => {
    expect(await aws("sts", "get-caller-identity")).toMatchObject({ Account: "111122223333" });
    const refused = await run(["sts", "get-caller-identity"], "wrong");
    expect(refused.code).not.toBe(0);
    expect(refused.stderr).toContain("An error occurred (SignatureDoesNotMatch) when calling the GetCallerIdentity");
  });

  test("it registers, describes, copies and deregisters an image", async () => {
    const { SnapshotId } = await aws("ebs", "start-snapshot", "--volume-size", "1");
    await aws("ebs", "complete-snapshot", "--snapshot-id", SnapshotId, "--changed-blocks-count", "0");
    await aws("ec2", "wait", "snapshot-completed", "--snapshot-ids", SnapshotId);
    const { ImageId } = await aws(
      ...["ec2", "register-image", "--name", "by hand", "--architecture", "arm64", "--boot-mode", "uefi"],
      ...["--root-device-name", "/dev/sda1", "--virtualization-type", "hvm", "--ena-support"],
      ...["--block-device-mappings", `DeviceName=/dev/sda1,Ebs={SnapshotId=${SnapshotId},VolumeType=gp3}`],
    );
    await aws("ec2", "wait", "image-available", "--image-ids", ImageId);
    const { Images } = await aws("ec2", "describe-images", "--owners", "self", "--filters", "Name=name,Values=by*");
    expect(Images).toMatchObject([
      { ImageId, Name: "by hand", State: "available", Architecture: "arm64", BootMode: "uefi", Public: false },
    ]);

    const eu = ["--region", "eu-west-1"];
    const from = ["--source-image-id", ImageId, "--source-region", "us-east-1"];
    const copy = (await aws("ec2", "copy-image", ...from, "--name", "by hand", ...eu)).ImageId;
    await aws("ec2", "wait", "image-available", "--image-ids", copy, ...eu);
    const copied = await aws("ec2", "describe-images", "--image-ids", copy, ...eu);
    expect(copied.Images).toMatchObject([{ ImageId: copy, Name: "by hand", Architecture: "arm64", BootMode: "uefi" }]);

    await aws("ec2", "deregister-image", "--image-id", ImageId);
    const gone = await run(["ec2", "describe-images", "--image-ids", ImageId]);
    expect(gone.stderr).toMatch(/\(InvalidAMIID\.(NotFound|Unavailable)\)/);
  });

  test("it takes a large object up and down in parts, and what it brings back is the same", async () => {
    // aws-cli takes what is over 8 MiB in parts of that size.
    const sent = randomBytes(20 * 1024 * 1024 + 7);
    const file = join(directory, "large");
    writeFileSync(file, sent);
    await run(["s3", "mb", "s3://images"]);
    const up = await run(["s3", "cp", file, "s3://images/a/large file"]);
    expect(up.stderr).toBe("");
    const head = await aws("s3api", "head-object", "--bucket", "images", "--key", "a/large file");
    expect(head).toMatchObject({ ContentLength: sent.length, ETag: expect.stringMatching(/^"[0-9a-f]{32}-3"$/) });
    const down = await run(["s3", "cp", "s3://images/a/large file", `${file}.back`]);
    expect(down.stderr).toBe("");
    expect(readFileSync(`${file}.back`).equals(sent)).toBe(true);
  });

  test("it is told what is wrong with the parts of an object", async () => {
    await run(["s3", "mb", "s3://images"]);
    const of = ["--bucket", "images", "--key", "parts"];
    const { UploadId } = await aws("s3api", "create-multipart-upload", ...of);
    const upload = [...of, "--upload-id", UploadId];
    const small = join(directory, "small");
    writeFileSync(small, "small");
    const part = (number: string) => aws("s3api", "upload-part", ...upload, "--part-number", number, "--body", small);
    const [{ ETag }] = [await part("1"), await part("2")];
    const listed = await aws("s3api", "list-parts", ...upload);
    expect(listed.Parts).toMatchObject([
      { PartNumber: 1, Size: 5, ETag },
      { PartNumber: 2, Size: 5, ETag },
    ]);

    const complete = (...parts: { PartNumber: number; ETag: string }[]) =>
      run(["s3api", "complete-multipart-upload", ...upload, "--multipart-upload", JSON.stringify({ Parts: parts })]);
    const [one, two] = [
      { PartNumber: 1, ETag },
      { PartNumber: 2, ETag },
    ];
    expect((await complete(one, two)).stderr).toContain("(EntityTooSmall)");
    expect((await complete(two, one)).stderr).toContain("(InvalidPartOrder)");
    expect((await complete({ PartNumber: 3, ETag })).stderr).toContain("(InvalidPart)");
    await aws("s3api", "abort-multipart-upload", ...upload);
    expect((await complete(one)).stderr).toContain("(NoSuchUpload)");
  });
});

function hasAwsCli(): boolean {
  try {
    execFileSync(program, ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}
