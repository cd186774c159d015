/** The clouds the benches know: how a driver is opened on the simulated one, and what a bare client would send it. */
import { createHash, createSign } from "node:crypto";
import { Agent, request } from "undici";
import { connect } from "../../src/clouds/aws/connection.ts";
import { ebsDirect } from "../../src/clouds/aws/ebs.ts";
import { requestSigner } from "../../src/clouds/aws/signature.ts";
import { type Cloud, openCloud } from "../../src/clouds/index.ts";
import { BLOCK_BYTES, blockCount } from "../../src/images/block-source.ts";
import { quietCall } from "../../src/lib/call.ts";
import { trusting } from "../../src/lib/trust.ts";
import { GiB } from "../../src/lib/units.ts";
import type { ImageSpec } from "../../src/model.ts";
import type { Clouds } from "./server.ts";
import type { BareRequest } from "./wire.ts";

/** A disk's blocks that are not all zero, by index. */
export type Blocks = ReadonlyMap<number, { readonly data: Uint8Array; readonly sha256: Uint8Array }>;

export interface BenchCloud {
  readonly wants: "raw" | "vhd";
  /** As the driver says of itself. */
  readonly copies?: boolean;
  /** Formats that go there as they are. */
  readonly keep?: readonly string[];
  readonly connections: number;
  open(clouds: Clouds, variant: Variant): Promise<Cloud>;
  spec(diskBytes: number): ImageSpec;
  server(clouds: Clouds): URL;
  /** Everything of an upload that carries bytes, ready to be written to a connection. */
  bare(clouds: Clouds, blocks: Blocks, diskBytes: number, variant: Variant): Promise<BareRequest[]>;
}

export interface Variant {
  /** Zero blocks are sent like any other. */
  readonly zeros: "write" | "skip";
  readonly inFlight?: number;
}

const ZEROS = Buffer.alloc(BLOCK_BYTES);
const ZEROS_SHA256 = createHash("sha256").update(ZEROS).digest();

const aws: BenchCloud = {
  wants: "raw",
  connections: 16,
  open: ({ urls, caPem, credentials }, { zeros, inFlight }) =>
    openCloud({
      cloud: "aws",
      credentials: credentials.aws,
      homeRegion: "us-east-1",
      endpoints: { ec2: urls.ec2, ebs: urls.ebs, sts: urls.sts },
      ca: caPem,
      zeroBlocks: zeros,
      ...(inFlight === undefined ? {} : { inFlight }),
    }),
  spec: (diskBytes) => specOf({ name: "bench-x86_64-1.0", homeRegion: "us-east-1", diskBytes }),
  server: ({ urls }) => new URL(urls.ebs),
  async bare(clouds, blocks, diskBytes, { zeros }) {
    const { urls, caPem, credentials } = clouds;
    const connection = connect({
      credentials: credentials.aws,
      endpoints: { ebs: urls.ebs },
      ca: caPem,
      connections: 1,
    });
    const volumeGiB = Math.ceil(diskBytes / GiB);
    const clientToken = `bare-${process.hrtime.bigint()}`;
    const { id } = await ebsDirect(connection, "us-east-1").startSnapshot(
      { clientToken, volumeGiB, description: "bare client", tags: {} },
      quietCall(),
    );
    await connection.close();
    const sign = requestSigner("us-east-1", "ebs");
    const { host } = new URL(urls.ebs);
    const requests: BareRequest[] = [];
    for (let index = 0; index < blockCount(diskBytes); index++) {
      const block = blocks.get(index);
      if (block === undefined && zeros === "skip") continue;
      const { data, sha256 } = block ?? { data: ZEROS, sha256: ZEROS_SHA256 };
      const digest = Buffer.from(sha256);
      const path = `/snapshots/${id}/blocks/${index}`;
      const headers = sign(
        {
          ...{ method: "PUT", path, payloadSha256: digest.toString("hex") },
          headers: {
            host,
            "content-type": "application/octet-stream",
            "x-amz-checksum": digest.toString("base64"),
            "x-amz-checksum-algorithm": "SHA256",
            "x-amz-data-length": String(BLOCK_BYTES),
          },
        },
        credentials.aws,
        new Date(),
      );
      requests.push({ head: headOf("PUT", path, { ...headers, "content-length": String(data.length) }), body: data });
    }
    return requests;
  },
};

const LOCATION = "eastus";
const PAGES_BYTES = 4 * 1024 * 1024;

const azure: BenchCloud = {
  wants: "vhd",
  copies: true,
  connections: 8,
  open: ({ urls, caPem, credentials }, { inFlight }) => {
    const { subscriptionId, resourceGroup, storageAccount, ...principal } = credentials.azure;
    return openCloud({
      ...{ cloud: "azure", subscriptionId, resourceGroup, storageAccount, credentials: principal },
      ...{ gallery: "Fedora", container: "vhds", location: LOCATION, endpoints: urls.azure, ca: caPem },
      definition: { publisher: "Fedora", offer: "Fedora" },
      targetRegions: [{ name: LOCATION, replicas: 1, storageType: "Standard_LRS" }],
      ...(inFlight === undefined ? {} : { inFlight }),
    });
  },
  spec: (diskBytes) => ({
    ...specOf({ name: "bench-x64 1.0.0", homeRegion: LOCATION, diskBytes }),
    ...{ definition: "bench-x64", version: "1.0.0" },
  }),
  server: ({ urls }) => new URL(urls.azure.blob),
  async bare({ urls, caPem, credentials }, blocks, diskBytes) {
    const { ClientSecretCredential } = await import("@azure/identity");
    const { tenantId, clientId, clientSecret } = credentials.azure;
    const credential = new ClientSecretCredential(tenantId, clientId, clientSecret, {
      authorityHost: urls.azure.authority,
      disableInstanceDiscovery: true,
      ...({ tlsOptions: trusting(caPem) } as object),
    });
    const { token } = await credential.getToken("https://storage.azure.com/.default");
    const { host, pathname } = new URL(`${urls.azure.blob}/vhds/bare-${process.hrtime.bigint()}.vhd`);
    const common = { host, authorization: `Bearer ${token}`, "x-ms-version": "2025-01-05" };
    const requests: BareRequest[] = [
      {
        head: headOf("PUT", pathname, {
          ...common,
          ...{ "x-ms-blob-type": "PageBlob", "x-ms-blob-content-length": String(diskBytes), "content-length": "0" },
        }),
        body: Buffer.alloc(0),
      },
    ];
    const perPage = PAGES_BYTES / BLOCK_BYTES;
    for (let first = 0; first < blockCount(diskBytes); first += perPage) {
      // Runs of blocks that hold something, as large as one write may be: Azure defines the rest as zeros.
      for (let index = first; index < first + perPage; ) {
        const run: Uint8Array[] = [];
        const from = index;
        for (; index < first + perPage && blocks.has(index); index++) run.push(blocks.get(index)!.data);
        index++;
        if (run.length === 0) continue;
        const body = Buffer.concat(run);
        const start = from * BLOCK_BYTES;
        requests.push({
          head: headOf("PUT", `${pathname}?comp=page`, {
            ...{ ...common, "x-ms-page-write": "update", "x-ms-range": `bytes=${start}-${start + body.length - 1}` },
            "content-length": String(body.length),
          }),
          body,
        });
      }
    }
    return requests;
  },
};

const PIECE_BLOCKS = 8;

/** The compose's own archive, in pieces of 4 MiB: what the driver sends, without joining them. */
const gcp: BenchCloud = {
  wants: "raw",
  copies: true,
  keep: ["tar.gz"],
  connections: 8,
  open: ({ urls, caPem, credentials }) => {
    const { project, bucket } = credentials.gcp;
    const key = credentials.gcp.serviceAccount as { client_email: string; private_key: string };
    return openCloud({
      ...{ cloud: "gcp", project, bucket, storageLocation: "us", ca: caPem },
      credentials: { clientEmail: key.client_email, privateKey: key.private_key },
      endpoints: { storage: urls.gcp, compute: urls.gcp, resourceManager: urls.gcp, token: `${urls.gcp}/token` },
    });
  },
  spec: (diskBytes) => specOf({ name: "bench-x86-64-1-0", homeRegion: "us", diskBytes }),
  server: ({ urls }) => new URL(urls.gcp),
  async bare({ urls, caPem, credentials }, blocks, bytes) {
    const token = await gcpToken(urls.gcp, caPem, credentials.gcp.serviceAccount as never);
    const { host } = new URL(urls.gcp);
    const requests: BareRequest[] = [];
    for (let first = 0; first < blockCount(bytes); first += PIECE_BLOCKS) {
      const piece = Array.from({ length: PIECE_BLOCKS }, (_, at) => blocks.get(first + at)?.data ?? Buffer.alloc(0));
      const data = Buffer.concat(piece);
      const about = { name: `bare/${first}`, md5Hash: createHash("md5").update(data).digest("base64") };
      const body = Buffer.concat([
        Buffer.from(`--b\r\ncontent-type: application/json\r\n\r\n${JSON.stringify(about)}\r\n--b\r\n`),
        Buffer.from("content-type: application/octet-stream\r\n\r\n"),
        data,
        Buffer.from("\r\n--b--\r\n"),
      ]);
      const path = `/upload/storage/v1/b/${credentials.gcp.bucket}/o?uploadType=multipart`;
      const headers = { host, authorization: `Bearer ${token}`, "content-type": "multipart/related; boundary=b" };
      requests.push({ head: headOf("POST", path, { ...headers, "content-length": String(body.length) }), body });
    }
    return requests;
  },
};

async function gcpToken(url: string, ca: string, key: { client_email: string; private_key: string }): Promise<string> {
  const now = Math.floor(Date.now() / 1000);
  const scope = "https://www.googleapis.com/auth/cloud-platform";
  const claims = {
    iss: key.client_email,
    scope,
    aud: "https://oauth2.googleapis.com/token",
    iat: now,
    exp: now + 3600,
  };
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const text = `${part({ alg: "RS256", typ: "JWT" })}.${part(claims)}`;
  const assertion = `${text}.${createSign("RSA-SHA256").update(text).sign(key.private_key, "base64url")}`;
  const dispatcher = new Agent({ connect: { ca } });
  const { body } = await request(`${url}/token`, {
    ...{ dispatcher, method: "POST", headers: { "content-type": "application/x-www-form-urlencoded" } },
    body: new URLSearchParams({ grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer", assertion }).toString(),
  });
  const { access_token } = (await body.json()) as { access_token: string };
  await dispatcher.close();
  return access_token;
}

export const CLOUDS = { aws, azure, gcp } as const satisfies Record<string, BenchCloud>;
export type BenchCloudName = keyof typeof CLOUDS;

function specOf(own: Pick<ImageSpec, "name" | "homeRegion" | "diskBytes">): ImageSpec {
  return {
    ...own,
    ...{ key: "benchimagekeyabcdefghij", diskKey: "benchdiskkeyabcdefghij", description: "a bench's disk" },
    ...{ arch: "x86_64", regions: [own.homeRegion], tags: {} },
  };
}

function headOf(method: string, path: string, headers: Readonly<Record<string, string>>): Buffer {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.from(`${method} ${path} HTTP/1.1\r\n${lines.join("")}\r\n`);
}
