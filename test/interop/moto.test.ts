// The AWS driver's contract against moto, which was written by other people from AWS's own models. What moto cannot do
// is named here, clause by clause; it never checks signatures, so wrong credentials stay with the simulator.
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import http from "node:http";
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import { EC2 } from "@aws-sdk/client-ec2";
import { S3 } from "@aws-sdk/client-s3";
import { SSM } from "@aws-sdk/client-ssm";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { serve } from "../../rehearsal/src/tls.ts";
import { connect } from "../../src/clouds/aws/connection.ts";
import { openImportBucket } from "../../src/clouds/aws/import/bucket.ts";
import { type BucketHarness, describeBucket } from "../../src/clouds/aws/testing/bucket-contract.ts";
import { AWS_SPEC, awsLevers, awsOperation, HURRIED } from "../../src/clouds/aws/testing/harness.ts";
import { describeCloud } from "../../src/clouds/testing/contract.ts";
import { fakeDisk } from "../../src/clouds/testing/disks.ts";
import type { CloudHarness } from "../../src/clouds/testing/harness.ts";
import { carry, tap } from "../../src/clouds/testing/taps.ts";
import { memoryJournal } from "../../src/images/journal.ts";
import { quietCall } from "../../src/lib/call.ts";
import type { CloudImage, ImageSpec } from "../../src/model.ts";

const tools = resolve(process.env.SLIPWAY_INTEROP_DIR ?? join(import.meta.dirname, "../../.interop"));
const program = process.env.MOTO_SERVER ?? join(tools, "python/bin/moto_server");
const ACCOUNT = "123456789012";
const CREDENTIALS = {
  accessKeyId: "AKIAIOSFODNN7EXAMPLE",
  secretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
};

/** What moto 5.2 does otherwise than AWS's documentation says; each ends clauses that rest on it. */
const PENDING = "moto shows a snapshot as completed from its start";
const NAMES = "moto lets two images have one name";
const TOKENS = "moto knows no client tokens and drops tags and mappings given on creation";
const DEPRECATION = "moto has no deprecation of images";

if (!existsSync(program)) {
  if (process.env.CI) throw new Error(`moto is not installed at ${program}`);
  describe("aws, moto", () => test.skip(`not run: ${program} is not installed`, () => {}));
} else {
  let moto: ChildProcess;
  let url: URL;

  beforeAll(async () => {
    const port = await freePort();
    url = new URL(`http://127.0.0.1:${port}`);
    moto = spawn(program, ["-H", "127.0.0.1", "-p", String(port)], { stdio: "ignore" });
    const deadline = Date.now() + 60_000;
    while (!(await reset(url))) {
      if (Date.now() > deadline || moto.exitCode !== null) throw new Error("moto did not start");
      await new Promise((done) => setTimeout(done, 100));
    }
  });
  afterAll(() => {
    moto?.kill();
  });

  describeCloud("aws, moto", () => motoHarness(url), {
    // moto checks no credentials and keeps images of its own beside ours.
    lacks: ["withWrongCredentials", "withoutRegister", "inventory"],
    gaps: {
      "an upload that another process resumes sends no acknowledged block again": PENDING,
      "an aborted upload completes nothing": PENDING,
      "upload whose answer is lost, repeated, gives one image": PENDING,
      "register twice on the bare driver gives one image": NAMES,
      "two processes that register at once make one image": NAMES,
      "an image of the name with another key is foreign and stays as it is": NAMES,
      "somebody else's image of the name is reported and never overwritten": NAMES,
      "register whose answer is lost, repeated, gives one image": TOKENS,
      "replicate whose answer is lost, repeated, gives one image": TOKENS,
      "what can be expressed is reached and undone, the rest is refused as unsupported": DEPRECATION,
      "setState whose answer is lost, repeated, gives one image": DEPRECATION,
      "offer whose answer is lost, repeated, gives one image": DEPRECATION,
      "withdraw whose answer is lost, repeated, gives one image": DEPRECATION,
      "remove whose answer is lost, repeated, gives one image": DEPRECATION,
      "of a candidate are read in every region, and are what was sent":
        "moto's EBS has no blocks of a snapshot that was copied: ListSnapshotBlocks breaks with 500",
      "with good ones check finds no error and makes nothing": "moto breaks on a snapshot that does not exist",
    },
  });

  // moto has no ImportSnapshot: what comes before it is what can be tried.
  describeBucket("moto", () => motoBucket(url), {
    "every part is listed with its checksum, which the end of the upload has to name":
      "moto takes parts' checksums and keeps none",
    "a part that arrives damaged is refused": "moto does not hold parts against their checksums",
  });

  test("aws, moto: the newest image is named in Parameter Store, and the one before it when it is taken back", () =>
    parameterStory(url));
}

async function parameterStory(url: URL): Promise<void> {
  const harness = await motoHarness(url);
  const ssm = new SSM({ endpoint: url.href, region: AWS_SPEC.homeRegion, credentials: CREDENTIALS });
  const Name = "/fedora/cloud/latest";
  const value = async () => (await ssm.getParameters({ Names: [Name] })).Parameters?.[0]?.Value;
  const call = quietCall();
  try {
    const made: [CloudImage, ImageSpec][] = [];
    for (const date of ["20260601", "20260602"]) {
      const spec = harness.spec({
        ...{ key: `key-${date}`, diskKey: `disk-${date}`, name: `image-${date}`, regions: [AWS_SPEC.homeRegion] },
        ...{ tags: { ...AWS_SPEC.tags, Date: date }, aws: { parameter: Name } },
      });
      const staged = await harness.cloud.upload(fakeDisk(spec.diskBytes, [1]), spec, memoryJournal(), call);
      made.push([await harness.cloud.register(staged, spec, call), spec]);
    }
    const [[first], [second]] = made as [[CloudImage, ImageSpec], [CloudImage, ImageSpec]];
    for (const [image, spec] of made) await harness.cloud.offer([image], spec, { to: "public" }, call);
    expect(await value()).toBe(second.id);
    for (const [expected, [image, spec]] of [
      [first.id, made[1]!],
      [undefined, made[0]!],
    ] as const) {
      await harness.cloud.withdraw([image], spec, call);
      expect(await value()).toBe(expected);
    }
  } finally {
    ssm.destroy();
    await harness.close();
  }
}

async function motoBucket(url: URL): Promise<BucketHarness> {
  await reset(url);
  const settings = { endpoint: url.href, region: AWS_SPEC.homeRegion, credentials: CREDENTIALS };
  const s3 = new S3({ ...settings, forcePathStyle: true });
  const Bucket = "images-import";
  await s3.createBucket({ Bucket });
  const connection = connect({
    credentials: CREDENTIALS,
    endpoints: { s3: url.href },
    connections: 1,
    pace: HURRIED,
  });
  return {
    bucket: openImportBucket(connection, AWS_SPEC.homeRegion, { bucket: Bucket }),
    async read(Key) {
      const { Body } = await s3.getObject({ Bucket, Key });
      return Body!.transformToByteArray();
    },
    async put(Key, Body) {
      await s3.putObject({ Bucket, Key, Body });
    },
    async close() {
      s3.destroy();
      await connection.close();
    },
  };
}

async function motoHarness(url: URL): Promise<CloudHarness> {
  await reset(url);
  const tapped = tap(carry(url), awsOperation);
  const served = await serve(tapped.handler);
  const endpoints = { ec2: served.url, ebs: served.url, sts: served.url, ssm: served.url };
  const { homeRegion } = AWS_SPEC;
  const levers = awsLevers(tapped, { account: ACCOUNT, homeRegion, credentials: CREDENTIALS, endpoints });
  return {
    ...levers,
    async plantForeign({ name }, region) {
      const ec2 = new EC2({ endpoint: served.url, region, credentials: CREDENTIALS });
      try {
        return (await ec2.registerImage({ Name: name, RootDeviceName: "/dev/sda1" })).ImageId!;
      } finally {
        ec2.destroy();
      }
    },
    async close() {
      await levers.closeAll();
      await served.close();
    },
  };
}

function reset(url: URL): Promise<boolean> {
  return new Promise((done) => {
    const request = http.request(new URL("/moto-api/reset", url), { method: "POST" }, (answer) => {
      answer.resume().on("end", () => done(answer.statusCode === 200));
    });
    request.on("error", () => done(false));
    request.end();
  });
}

function freePort(): Promise<number> {
  return new Promise((done, fail) => {
    const server = createServer();
    server.once("error", fail);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => done(typeof address === "object" && address ? address.port : 0));
    });
  });
}
