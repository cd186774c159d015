/** The clouds the benches know: how a driver is opened on the simulated one, and what a bare client would send it. */
import { createHash } from "node:crypto";
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

export const CLOUDS = { aws, azure } as const satisfies Record<string, BenchCloud>;
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
