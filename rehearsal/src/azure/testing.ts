/** For tests: a simulator over TLS, the vendor's own clients pointed at it, and a clock that moves when told to. */
import { randomBytes } from "node:crypto";
import { ComputeManagementClient } from "@azure/arm-compute";
import { ClientSecretCredential } from "@azure/identity";
import { BlobServiceClient } from "@azure/storage-blob";
import { createAuthority, serve } from "../tls.ts";
import { type AzureOptions, type AzureSimulator, createAzureSimulator } from "./azure.ts";

export const account = {
  tenantId: "7e4a0000-1111-4222-8333-444455556666",
  clientId: "c11e0000-1111-4222-8333-444455556666",
  clientSecret: "right secret",
  subscriptionId: "5b5c0000-1111-4222-8333-444455556666",
  resourceGroup: "fedora-cloud",
  storageAccount: "fedoraimageupload",
} as const;

export interface Rehearsed extends AsyncDisposable {
  readonly simulator: AzureSimulator;
  readonly url: string;
  readonly ca: string;
  readonly clock: { now: number };
  credential(secret?: string, tenant?: string): ClientSecretCredential;
  blobs(): BlobServiceClient;
  compute(): ComputeManagementClient;
  /** A plain request with a good token for the management API. */
  arm(method: string, path: string, body?: unknown): Promise<{ status: number; headers: Headers; body: unknown }>;
}

const MIB = 1024 * 1024;

export async function rehearse(options: Partial<AzureOptions> = {}): Promise<Rehearsed> {
  const clock = { now: Date.UTC(2025, 3, 15) };
  const simulator = createAzureSimulator({ ...account, now: () => clock.now, ...options });
  const tls = await createAuthority();
  const served = await serve(simulator.handler, { tls });
  const tlsOptions = { ca: tls.ca };
  // The storage client's types do not mention `tlsOptions`; its pipeline takes them all the same.
  const blobOptions = { tlsOptions, retryOptions: { maxTries: 1 } };
  const common = { tlsOptions, retryOptions: { maxRetries: 0 } };
  const credential = (
    secret: string = account.clientSecret,
    tenant: string = account.tenantId,
  ): ClientSecretCredential =>
    new ClientSecretCredential(tenant, account.clientId, secret, {
      ...common,
      authorityHost: served.url,
      disableInstanceDiscovery: true,
    });
  return {
    simulator,
    url: served.url,
    ca: tls.ca,
    clock,
    credential,
    blobs: () => new BlobServiceClient(`${served.url}/${account.storageAccount}`, credential(), blobOptions),
    compute: () =>
      new ComputeManagementClient(credential(), account.subscriptionId, { ...common, endpoint: served.url }),
    async arm(method, path, body) {
      const token = await credential().getToken("https://management.azure.com/.default");
      const { fetch, Agent } = await import("undici");
      const dispatcher = new Agent({ connect: { ca: tls.ca } });
      const response = await fetch(`${served.url}${path}`, {
        method,
        dispatcher,
        headers: { authorization: `Bearer ${token.token}`, "content-type": "application/json" },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      await dispatcher.close();
      return {
        status: response.status,
        headers: response.headers as unknown as Headers,
        body: text === "" ? undefined : JSON.parse(text),
      };
    },
    async [Symbol.asyncDispose]() {
      await served.close();
    },
  };
}

/** A fixed VHD of so many MiB: random bytes at the start, zeros after, and its footer. */
export function fixedVhd(mebibytes: number): Buffer {
  const disk = Buffer.alloc(mebibytes * MIB + 512);
  randomBytes(64 * 1024).copy(disk);
  const footer = disk.subarray(mebibytes * MIB);
  footer.write("conectix", 0, "latin1");
  footer.writeUInt32BE(2, 8);
  footer.writeUInt32BE(0x0001_0000, 12);
  footer.fill(0xff, 16, 24);
  footer.writeBigUInt64BE(BigInt(mebibytes * MIB), 40);
  footer.writeBigUInt64BE(BigInt(mebibytes * MIB), 48);
  footer.writeUInt32BE(2, 60);
  sealFooter(footer);
  return disk;
}

export function sealFooter(footer: Buffer): void {
  footer.writeUInt32BE(0, 64);
  footer.writeUInt32BE(~footer.reduce((sum, byte) => sum + byte, 0) >>> 0, 64);
}

/** Puts a whole disk into a page blob, and gives its URI. */
export async function uploadDisk(rehearsed: Rehearsed, name: string, disk: Buffer): Promise<string> {
  const container = rehearsed.blobs().getContainerClient("vhds");
  await container.createIfNotExists();
  const blob = container.getPageBlobClient(name);
  await blob.create(disk.length);
  for (let at = 0; at < disk.length; at += 4 * MIB) {
    const piece = disk.subarray(at, at + 4 * MIB);
    await blob.uploadPages(piece, at, piece.length);
  }
  return blob.url;
}
