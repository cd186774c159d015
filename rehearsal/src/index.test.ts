import { mkdtempSync, rmSync } from "node:fs";
import https from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EBSClient, StartSnapshotCommand } from "@aws-sdk/client-ebs";
import { DescribeRegionsCommand, EC2Client } from "@aws-sdk/client-ec2";
import { ClientSecretCredential } from "@azure/identity";
import { BlobServiceClient } from "@azure/storage-blob";
import { Agent, fetch } from "undici";
import { afterEach, expect, test } from "vitest";
import { block, checksum, putCommand } from "./aws/testing.ts";
import { type Rehearsal, type RehearsalOptions, startRehearsal } from "./index.ts";

let rehearsal: Rehearsal;
afterEach(() => rehearsal?.close());

async function start(options: RehearsalOptions = {}) {
  rehearsal = await startRehearsal(options);
  const { urls, caPem, credentials } = rehearsal;
  const aws = (region: string) =>
    new EC2Client({
      region,
      endpoint: urls.ec2,
      maxAttempts: 1,
      credentials: credentials.aws,
      requestHandler: { httpsAgent: new https.Agent({ ca: caPem }) },
    });
  return {
    aws: async (region = "us-east-1") => (await aws(region).send(new DescribeRegionsCommand({}))).Regions?.length,
    async azure() {
      const { tenantId, clientId, clientSecret } = credentials.azure;
      const tlsOptions = { ca: caPem };
      const credential = new ClientSecretCredential(tenantId, clientId, clientSecret, {
        tlsOptions,
        retryOptions: { maxRetries: 0 },
        authorityHost: urls.azure.authority,
        disableInstanceDiscovery: true,
      });
      const clientOptions = { tlsOptions, retryOptions: { maxTries: 1 } };
      const blobs = new BlobServiceClient(urls.azure.blob, credential, clientOptions);
      return blobs.getContainerClient("vhds").exists();
    },
    async registry() {
      const dispatcher = new Agent({ connect: { ca: caPem } });
      const { username, password } = credentials.registry;
      const authorization = `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
      const token = await fetch(`${urls.registry}/token?service=rehearsal`, { dispatcher, headers: { authorization } });
      const { token: bearer } = (await token.json()) as { token: string };
      const headers = { authorization: `Bearer ${bearer}` };
      const answer = await fetch(`${urls.registry}/v2/`, { dispatcher, headers });
      await dispatcher.destroy();
      return answer.status;
    },
  };
}

test("the vendors' own clients reach all three, with disks kept in a directory", async () => {
  const blobDir = mkdtempSync(join(tmpdir(), "rehearsal-test-"));
  const call = await start({ blobDir });
  expect(await call.aws()).toBe(22);
  expect(await call.azure()).toBe(true);
  expect(await call.registry()).toBe(200);
  expect(rehearsal.proxies.azure.counts().operations).toHaveProperty("authority:POST token@");
  await rehearsal.close();
  rmSync(blobDir, { recursive: true });
});

test("a region or a cloud goes down and comes back while the others go on", async () => {
  const scenarios = join(import.meta.dirname, "../scenarios");
  const call = await start({ scenario: join(scenarios, "region-down.yaml") });
  await expect(call.aws("eu-west-1")).rejects.toThrow();
  expect(await call.aws()).toBe(22);
  expect(await call.registry()).toBe(200);
  rehearsal.enable("eu-west-1", false);
  expect(await call.aws("eu-west-1")).toBe(22);
  rehearsal.load(join(scenarios, "cloud-down.yaml"));
  await expect(call.azure()).rejects.toThrow();
  expect(await call.aws()).toBe(22);
});

test("a client that repeats what failed comes through a bad day with the right bytes", async () => {
  await start({ scenario: join(import.meta.dirname, "../scenarios/bad-day.yaml") });
  const ebs = new EBSClient({
    region: "us-east-1",
    endpoint: rehearsal.urls.ebs,
    maxAttempts: 1,
    credentials: rehearsal.credentials.aws,
    requestHandler: { httpsAgent: new https.Agent({ ca: rehearsal.caPem, keepAlive: true }) },
  });
  const persist = async <T>(send: (signal: AbortSignal) => Promise<T>): Promise<T> => {
    for (let attempt = 1; ; attempt++) {
      try {
        return await send(AbortSignal.timeout(5000));
      } catch (error) {
        if (attempt === 20) throw error;
      }
    }
  };
  const input = { VolumeSize: 1, ClientToken: "bad-day" };
  const { SnapshotId = "" } = await persist((abortSignal) =>
    ebs.send(new StartSnapshotCommand(input), { abortSignal }),
  );
  const indexes = Array.from({ length: 160 }, (_, index) => index).values();
  await Promise.all(
    Array.from({ length: 16 }, async () => {
      for (const index of indexes) {
        const command = putCommand(SnapshotId, index, block(index % 8));
        await persist((abortSignal) => ebs.send(command, { abortSignal }));
      }
    }),
  );
  const snapshot = rehearsal.simulators.aws.state.snapshot("us-east-1", SnapshotId);
  expect(snapshot?.blocks.size).toBe(160);
  expect([...(snapshot?.blocks ?? [])].every(([index, digest]) => digest === checksum(block(index % 8)))).toBe(true);
  expect(rehearsal.simulators.aws.state.snapshots()).toHaveLength(1);
  expect(rehearsal.proxies.aws.counts().rules["flipped-block"]?.applied).toBeGreaterThanOrEqual(1);
});

test("a world sets what no proxy can: times, quotas and accounts, and may change while it runs", async () => {
  await start({
    scenario: {
      world: {
        aws: {
          copies_per_region: 3,
          visible_after_ms: 7,
          regions: { "*": { public_images: 5 }, "eu-west-1": { ebs_encryption_by_default: true, public_images: 6 } },
        },
        azure: { versions: 2 },
      },
    },
  });
  const { state } = rehearsal.simulators.aws;
  const settings = (region: string) => state.settings(rehearsal.credentials.aws.account, region);
  expect(state.behaviour).toMatchObject({ copiesPerRegion: 3, visibleAfterMs: 7, copyMs: 0 });
  expect(settings("us-east-1")).toMatchObject({ publicImages: 5, ebsEncryptionByDefault: false });
  expect(settings("eu-west-1")).toMatchObject({ publicImages: 6, ebsEncryptionByDefault: true });
  rehearsal.load({ world: { aws: { copies_per_region: 4 } } });
  expect(state.behaviour).toMatchObject({ copiesPerRegion: 4, visibleAfterMs: 7 });
  const nowhere = { world: { aws: { regions: { "mars-north-1": {} } } } };
  expect(() => rehearsal.load(nowhere)).toThrow("no region mars-north-1");
});

test("a scenario that is none starts nothing", async () => {
  const rules = [{ name: "x", fault: "earthquake" }] as unknown as NonNullable<
    Exclude<RehearsalOptions["scenario"], string | undefined>["rules"]
  >;
  await expect(startRehearsal({ scenario: { rules } })).rejects.toThrow("rules[0].fault");
});

test("Google Cloud is behind a proxy that knows its calls and answers as it does", async () => {
  await start();
  const { gcp } = rehearsal.urls;
  const dispatcher = new Agent({ connect: { ca: rehearsal.caPem } });
  const ask = async (path: string, method = "GET") => {
    const answer = await fetch(`${gcp}${path}`, { dispatcher, method });
    return [
      answer.status,
      ((await answer.json()) as { error: { errors: { reason: string }[] } }).error.errors[0]?.reason,
    ];
  };
  const images = "/compute/v1/projects/fedora-cloud-devel/global/images";
  expect(await ask(images)).toEqual([401, "authError"]);
  rehearsal.set({ name: "busy", fault: "status", status: 503, match: { cloud: "gcp", operation: "images.list" } });
  expect(await ask(images)).toEqual([503, "backendError"]);
  expect(await ask(`${images}/some-image`)).toEqual([401, "authError"]);
  await dispatcher.destroy();
}, 60_000);
