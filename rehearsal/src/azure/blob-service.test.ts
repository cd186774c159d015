import { createHash, randomBytes } from "node:crypto";
import { type PageBlobClient, RestError } from "@azure/storage-blob";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type Rehearsed, rehearse } from "./testing.ts";

const MIB = 1024 * 1024;

/** Runs and gives what the service said: status and code. */
async function refusal(call: Promise<unknown>): Promise<{ status: number | undefined; code: string | undefined }> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof RestError)) throw new Error(`Expected a RestError, not ${String(error)}`);
  return { status: error.statusCode, code: error.code };
}

describe("the simulated blob service, asked by the unchanged @azure/storage-blob", () => {
  let rehearsed: Rehearsed;
  let blob: PageBlobClient;
  beforeAll(async () => {
    rehearsed = await rehearse();
  });
  afterAll(() => rehearsed[Symbol.asyncDispose]());
  beforeEach(async () => {
    rehearsed.simulator.reset();
    rehearsed.simulator.deny([]);
    const container = rehearsed.blobs().getContainerClient("vhds");
    await container.create();
    blob = container.getPageBlobClient("images/fedora 42.vhd");
    await blob.create(16 * MIB, {
      metadata: { ImageKey: "abc" },
      blobHTTPHeaders: { blobContentType: "application/x-vhd" },
    });
  });

  it("keeps what was written and reads the rest as zeros", async () => {
    const data = randomBytes(4 * MIB);
    await blob.uploadPages(data, 8 * MIB, data.length);
    const all = await blob.downloadToBuffer();
    expect(all.subarray(8 * MIB, 12 * MIB).equals(data)).toBe(true);
    expect(all.subarray(0, 8 * MIB).every((byte) => byte === 0)).toBe(true);
    const part = await blob.downloadToBuffer(8 * MIB + 100, 1000);
    expect(part.equals(data.subarray(100, 1100))).toBe(true);
  });

  it("tells the ranges that were written, zeros among them, and forgets cleared ones", async () => {
    await blob.uploadPages(Buffer.alloc(1024), 512, 1024);
    await blob.uploadPages(randomBytes(512), 1536, 512);
    await blob.uploadPages(randomBytes(1024), MIB, 1024);
    await blob.clearPages(MIB, 512);
    const { pageRange } = await blob.getPageRanges();
    // The SDK's `count` is the last byte minus the first: one short of what it says.
    expect(pageRange).toEqual([
      { offset: 512, count: 1535 },
      { offset: MIB + 512, count: 511 },
    ]);
    const paged = [];
    for await (const range of blob.listPageRanges(0, 16 * MIB).byPage({ maxPageSize: 1 })) paged.push(range);
    expect(paged).toHaveLength(2);
  });

  const digests = [
    { name: "MD5", option: "transactionalContentMD5", bytes: 16, code: "Md5Mismatch" },
    { name: "CRC64", option: "transactionalContentCrc64", bytes: 8, code: "Crc64Mismatch" },
  ] as const;
  it.each(digests)("refuses pages whose $name is wrong, and writes nothing", async ({ option, bytes, code }) => {
    const call = blob.uploadPages(randomBytes(512), 0, 512, { [option]: new Uint8Array(bytes) });
    expect(await refusal(call)).toEqual({ status: 400, code });
    expect((await blob.getPageRanges()).pageRange).toEqual([]);
  });

  it("takes pages with the right MD5 and gives it back", async () => {
    const data = randomBytes(4 * MIB);
    const md5 = createHash("md5").update(data).digest();
    const answer = await blob.uploadPages(data, 0, data.length, { transactionalContentMD5: md5 });
    expect(md5.equals(answer.contentMD5!)).toBe(true);
    const range = await blob.download(0, MIB, { rangeGetContentMD5: true });
    expect(Buffer.from(range.contentMD5!)).toEqual(createHash("md5").update(data.subarray(0, MIB)).digest());
  });

  it("agrees with the SDK on CRC64 in both directions", async () => {
    const data = randomBytes(3 * MIB);
    await blob.uploadPages(data, 0, data.length, { contentChecksumAlgorithm: "StorageCrc64" });
    const back = await blob.download(0, data.length, { contentChecksumAlgorithm: "StorageCrc64" });
    const pieces: Buffer[] = [];
    for await (const piece of back.readableStreamBody!) pieces.push(Buffer.from(piece));
    expect(Buffer.concat(pieces).equals(data)).toBe(true);
  });

  it("keeps properties, metadata with its capitals, tags and MD5", async () => {
    await blob.setTags({ owner: "slipway" });
    await blob.setHTTPHeaders({ blobContentMD5: new Uint8Array(16).fill(7), blobContentType: "application/x-vhd" });
    const properties = await blob.getProperties();
    expect(properties).toMatchObject({
      blobType: "PageBlob",
      contentLength: 16 * MIB,
      contentType: "application/x-vhd",
      metadata: { imagekey: "abc" },
      tagCount: 1,
    });
    expect(Buffer.from(properties.contentMD5!)).toEqual(Buffer.alloc(16, 7));
    expect((await blob.getTags()).tags).toEqual({ owner: "slipway" });
    await blob.setMetadata({ next: "def" });
    expect((await blob.getProperties()).metadata).toEqual({ next: "def" });
  });

  it("lists by prefix, in pages, with metadata", async () => {
    const container = rehearsed.blobs().getContainerClient("vhds");
    for (const name of ["a/1", "a/2", "a/3", "b"])
      await container.getPageBlobClient(name).create(512, { metadata: { Name: "x & y" } });
    const names: string[] = [];
    let pages = 0;
    for await (const page of container
      .listBlobsFlat({ prefix: "a/", includeMetadata: true })
      .byPage({ maxPageSize: 2 })) {
      pages++;
      for (const item of page.segment.blobItems) {
        names.push(item.name);
        expect(item.metadata).toEqual({ Name: "x & y" });
      }
    }
    expect({ names, pages }).toEqual({ names: ["a/1", "a/2", "a/3"], pages: 2 });
  });

  it("counts every page write, the blob's deletion notwithstanding", async () => {
    await blob.uploadPages(randomBytes(1024), 0, 1024);
    await blob.uploadPages(randomBytes(512), 512, 512);
    await blob.delete();
    const { state } = rehearsed.simulator;
    expect(state.pageWrites("vhds", "images/fedora 42.vhd")).toHaveLength(2);
    expect(state.timesWritten("vhds", "images/fedora 42.vhd", 512, 512)).toBe(2);
    expect(state.timesWritten("vhds", "images/fedora 42.vhd", 0, 512)).toBe(1);
    expect(state.blobNames()).toEqual([]);
  });

  it("holds a leased blob against who does not know the lease", async () => {
    const lease = blob.getBlobLeaseClient();
    const { leaseId } = await lease.acquireLease(-1);
    expect(await refusal(blob.uploadPages(randomBytes(512), 0, 512))).toEqual({ status: 412, code: "LeaseIdMissing" });
    await blob.uploadPages(randomBytes(512), 0, 512, { conditions: { leaseId: leaseId! } });
    await lease.releaseLease();
    await blob.uploadPages(randomBytes(512), 0, 512);
  });

  const refusals: { name: string; call: () => Promise<unknown>; status: number; code: string }[] = [
    { name: "a size that is no whole page", call: () => blob.create(1000), status: 400, code: "InvalidHeaderValue" },
    {
      name: "a write over half a page",
      call: () => blob.uploadPages(Buffer.alloc(512), 100, 512),
      status: 416,
      code: "InvalidPageRange",
    },
    {
      name: "a write past the end",
      call: () => blob.uploadPages(Buffer.alloc(1024), 16 * MIB - 512, 1024),
      status: 416,
      code: "InvalidPageRange",
    },
    {
      name: "a write of more than 4 MiB",
      call: () => blob.uploadPages(Buffer.alloc(4 * MIB + 512), 0, 4 * MIB + 512),
      status: 413,
      code: "RequestBodyTooLarge",
    },
    {
      name: "a write with an old ETag",
      call: () => blob.uploadPages(Buffer.alloc(512), 0, 512, { conditions: { ifMatch: '"0x1"' } }),
      status: 412,
      code: "ConditionNotMet",
    },
    {
      name: "making a blob that must not be there",
      call: () => blob.create(512, { conditions: { ifNoneMatch: "*" } }),
      status: 409,
      code: "BlobAlreadyExists",
    },
    {
      name: "making a container twice",
      call: () => rehearsed.blobs().getContainerClient("vhds").create(),
      status: 409,
      code: "ContainerAlreadyExists",
    },
    {
      name: "a blob that is not there",
      call: () =>
        blob
          .getPageRanges()
          .then(() => blob.delete())
          .then(() => blob.getPageRanges()),
      status: 404,
      code: "BlobNotFound",
    },
    {
      name: "a container that is not there",
      call: () => rehearsed.blobs().getContainerClient("none").getPageBlobClient("x").create(512),
      status: 404,
      code: "ContainerNotFound",
    },
    { name: "reading past the end", call: () => blob.download(16 * MIB, 10), status: 416, code: "InvalidRange" },
    { name: "an operation nobody pretends", call: () => blob.createSnapshot(), status: 501, code: "NotImplemented" },
    {
      name: "a block blob",
      call: () => rehearsed.blobs().getContainerClient("vhds").getBlockBlobClient("x").upload("x", 1),
      status: 501,
      code: "NotImplemented",
    },
  ];
  it.each(refusals)("refuses $name with $code", async ({ call, status, code }) => {
    expect(await refusal(call())).toEqual({ status, code });
  });

  it("refuses what the role does not grant", async () => {
    rehearsed.simulator.deny(["Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write"]);
    expect(await refusal(blob.uploadPages(Buffer.alloc(512), 0, 512))).toEqual({
      status: 403,
      code: "AuthorizationPermissionMismatch",
    });
    expect((await blob.getProperties()).contentLength).toBe(16 * MIB);
  });

  it("lets one of many who want to make the same blob win", async () => {
    const container = rehearsed.blobs().getContainerClient("vhds");
    const create = (): Promise<unknown> =>
      container.getPageBlobClient("one").create(512, { conditions: { ifNoneMatch: "*" } });
    const outcomes = await Promise.allSettled(Array.from({ length: 8 }, create));
    expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  });

  it("gives every answer a request id", async () => {
    const answer = await blob.getProperties();
    expect(answer.requestId).toMatch(/^[0-9a-f-]{36}$/);
    expect(answer.clientRequestId).toBeDefined();
  });
});
