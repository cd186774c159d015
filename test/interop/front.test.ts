/**
 * The same scenarios in front of servers that are not ours: faults happen to boto3 and to our driver alike, and both see
 * them in the vendor's own words. moto for AWS, docker-registry for containers.
 */
import { execFile, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { startFronts } from "@slipway/rehearsal";
import { afterEach, expect, test } from "vitest";
import { openAws } from "../../src/clouds/aws/aws.ts";
import { AWS_SPEC, HURRIED } from "../../src/clouds/aws/testing/harness.ts";
import { fakeDisk } from "../../src/clouds/testing/disks.ts";
import { memoryJournal } from "../../src/images/journal.ts";
import { quietCall } from "../../src/lib/call.ts";
import { openRegistry } from "../../src/registries/index.ts";
import { containerImage } from "../../src/registries/testing/image.ts";

const run = promisify(execFile);
const tools = resolve(process.env.SLIPWAY_INTEROP_DIR ?? join(import.meta.dirname, "../../.interop"));
const call = quietCall();
const MINUTE = 60_000;
const CREDENTIALS = { accessKeyId: "AKIAFRONTFRONTFRONT0", secretAccessKey: "front" };

const closing: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as { port: number };
  await new Promise((done) => server.close(done));
  return port;
}

/** Starts a program that serves HTTP on a port, and waits for its first answer. */
async function serving(program: string, args: readonly string[], url: string): Promise<void> {
  const child = spawn(program, args, { stdio: "ignore", env: { ...process.env, HTTP_PROXY: "", HTTPS_PROXY: "" } });
  const gone = new Promise((done) => child.once("exit", done));
  closing.push(async () => {
    child.kill();
    await gone;
  });
  for (let left = 300; ; left--) {
    try {
      await (await fetch(url)).arrayBuffer();
      return;
    } catch (error) {
      if (left === 0 || child.exitCode !== null) throw error;
      await new Promise((done) => setTimeout(done, 100));
    }
  }
}

async function front(cloud: "aws" | "registry", url: string) {
  const running = await startFronts([{ cloud, url }]);
  closing.push(() => running.close());
  return { url: running.fronts[0]!.url, proxy: running.fronts[0]!.proxy, ca: running.caPem };
}

test(
  "moto behind a scenario: boto3 and the driver are throttled, refused for a quota, and lose answers",
  async () => {
    const port = await freePort();
    const moto = `http://127.0.0.1:${port}`;
    await serving(join(tools, "python/bin/moto_server"), ["-H", "127.0.0.1", "-p", String(port)], `${moto}/moto-api/`);
    const { url, proxy, ca } = await front("aws", moto);
    const directory = mkdtempSync(join(tmpdir(), "slipway-front-"));
    closing.push(() => rmSync(directory, { recursive: true, force: true }));
    const bundle = join(directory, "ca.crt");
    writeFileSync(bundle, ca);
    const script = join(directory, "ask.py");
    writeFileSync(
      script,
      [
        "import boto3, botocore.config, botocore.exceptions, sys",
        "config = botocore.config.Config(retries={'total_max_attempts': 1})",
        `ec2 = boto3.client('ec2', region_name='us-east-1', endpoint_url='${url}', verify='${bundle}', config=config,`,
        `    aws_access_key_id='${CREDENTIALS.accessKeyId}', aws_secret_access_key='${CREDENTIALS.secretAccessKey}')`,
        "try:",
        "    print(len(ec2.describe_regions()['Regions']))",
        "except botocore.exceptions.ClientError as error:",
        "    print(error.response['Error']['Code'])",
      ].join("\n"),
    );
    const boto3 = async () => (await run(join(tools, "python/bin/python3"), [script])).stdout.trim();
    expect(Number(await boto3())).toBeGreaterThan(10);
    proxy.set({ name: "limit", fault: "throttle", rate: 0.001, burst: 1 });
    await boto3();
    expect(await boto3()).toBe("RequestLimitExceeded");
    proxy.set({ name: "limit", fault: "expire" });
    expect(await boto3()).toBe("RequestExpired");
    proxy.remove("limit");

    const endpoints = { ec2: url, ebs: url, sts: url };
    const cloud = openAws({
      ...{ account: "123456789012", homeRegion: AWS_SPEC.homeRegion, credentials: CREDENTIALS, endpoints, ca },
      ...{ pace: HURRIED, inFlight: 4 },
    });
    closing.push(() => cloud.close());
    proxy.load({
      rules: [
        { name: "lost", fault: "lost-answer", every: 5, match: { operation: "PutSnapshotBlock" } },
        { name: "full", fault: "quota", match: { operation: "RegisterImage" } },
      ],
    });
    const staged = await cloud.upload(fakeDisk(AWS_SPEC.diskBytes, [0, 3, 7]), AWS_SPEC, memoryJournal(), call);
    expect(proxy.counts().rules.lost!.applied).toBeGreaterThan(0);
    await expect(cloud.register(staged, AWS_SPEC, call)).rejects.toMatchObject({
      ...{ code: "quota", operation: "RegisterImage", requestId: expect.any(String) },
    });
    proxy.remove("full");
    expect((await cloud.register(staged, AWS_SPEC, call)).id).toMatch(/^ami-/);
  },
  MINUTE,
);

test(
  "docker-registry behind a scenario: cut connections and lost answers cost attempts, and nothing else",
  async () => {
    const port = await freePort();
    const directory = mkdtempSync(join(tmpdir(), "slipway-front-"));
    closing.push(() => rmSync(directory, { recursive: true, force: true }));
    const config = join(directory, "config.yml");
    writeFileSync(
      config,
      JSON.stringify({
        ...{ version: 0.1, log: { level: "error", accesslog: { disabled: true } } },
        ...{ storage: { filesystem: { rootdirectory: directory } }, http: { addr: `127.0.0.1:${port}` } },
      }),
    );
    await serving("docker-registry", ["serve", config], `http://127.0.0.1:${port}/v2/`);
    const { url, proxy, ca } = await front("registry", `http://127.0.0.1:${port}`);
    proxy.load({
      rules: [
        { name: "cut", fault: "reset", match: { method: ["PATCH", "PUT"], path: "*/uploads/*" }, times: 1 },
        { name: "lost", fault: "lost-answer", match: { method: "PUT", path: "*/uploads/*" }, after: 1, times: 1 },
        { name: "slow", fault: "bandwidth", bytes_per_second: 4_000_000 },
      ],
    });
    const registry = openRegistry({ url: new URL(url).host, ca, retryDelaysMs: [1, 1, 1] });
    closing.push(() => registry.close());
    const image = containerImage({ layers: [200_000, 300_000] });
    const pushed = await registry.push("fedora", image, call);
    expect(await registry.find("fedora", pushed.digest, call)).toMatchObject({ digest: image.manifestDigest });
    const { cut, lost } = proxy.counts().rules;
    expect([cut!.applied, lost!.applied]).toEqual([1, 1]);
  },
  MINUTE,
);

test("a scenario with a world is refused: another server is as it is", async () => {
  await expect(startFronts([{ cloud: "aws", url: "http://127.0.0.1:9" }], { scenario: "eventual" })).rejects.toThrow(
    "world section",
  );
});
