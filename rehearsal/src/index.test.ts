import { mkdtempSync, rmSync } from "node:fs";
import https from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DescribeRegionsCommand, EC2Client } from "@aws-sdk/client-ec2";
import { ClientSecretCredential } from "@azure/identity";
import { BlobServiceClient } from "@azure/storage-blob";
import { Agent, fetch } from "undici";
import { afterEach, expect, test } from "vitest";
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
      return (await blobs.getContainerClient("vhds").create()).errorCode;
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
  expect(await call.azure()).toBeUndefined();
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

test("a scenario that is none starts nothing", async () => {
  const rules = [{ name: "x", fault: "earthquake" }] as unknown as NonNullable<
    Exclude<RehearsalOptions["scenario"], string | undefined>["rules"]
  >;
  await expect(startRehearsal({ scenario: { rules } })).rejects.toThrow("rules[0].fault");
});
