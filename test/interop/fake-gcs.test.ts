/**
 * The object half of the Google Cloud driver against fake-gcs-server, which is not ours: sending in pieces, joining,
 * resuming, finding, reading back, listing and removing. It has no Compute; tokens come from our own simulator.
 *
 * Where it differs from Cloud Storage, and what that leaves unproven here: see DEVIATES.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { createGcpSimulator, type GcpSimulator } from "../../rehearsal/src/gcp/gcp.ts";
import { type Served, serve } from "../../rehearsal/src/tls.ts";
import type { Cloud } from "../../src/clouds/cloud.ts";
import { openGcp } from "../../src/clouds/gcp/gcp.ts";
import { SPEC } from "../../src/clouds/gcp/testing/harness.ts";
import { digestsOf, fakeDisk } from "../../src/clouds/testing/disks.ts";
import { inProduction } from "../../src/clouds/wrappers.ts";
import { blockCount } from "../../src/images/block-source.ts";
import { memoryJournal } from "../../src/images/journal.ts";
import { quietCall } from "../../src/lib/call.ts";
import type { StagedDisk } from "../../src/model.ts";

const tools = resolve(process.env.SLIPWAY_INTEROP_DIR ?? join(import.meta.dirname, "../../.interop"));
const BUCKET = "fedora-cloud-image-upload";
const NON_ZERO = [0, 1, 2, 9, 20, 21, 400];
const call = quietCall();
const MINUTE = 60_000;

let server: ChildProcess;
let url: string;
let simulator: GcpSimulator;
let tokens: Served;
let cloud: Cloud;
beforeAll(async () => {
  const port = await freePort();
  url = `http://127.0.0.1:${port}`;
  const listen = ["-scheme", "http", "-host", "127.0.0.1", "-port", String(port), "-backend", "memory"];
  server = spawn(join(tools, "go/bin/fake-gcs-server"), [...listen, "-public-host", `127.0.0.1:${port}`], {
    stdio: "ignore",
  });
  await answering(`${url}/storage/v1/b?project=p`);
  const headers = { "content-type": "application/json" };
  await fetch(`${url}/storage/v1/b?project=p`, { method: "POST", headers, body: JSON.stringify({ name: BUCKET }) });
  simulator = createGcpSimulator({ project: "fedora-cloud", bucket: BUCKET });
  tokens = await serve(simulator.handler);
  cloud = inProduction(open());
}, MINUTE);
afterAll(async () => {
  await cloud?.close();
  await tokens?.close();
  const gone = new Promise((done) => server.once("exit", done));
  server.kill();
  await gone;
});
beforeEach(async () => {
  for (const { name } of await objects()) await fetch(objectUrl(name), { method: "DELETE" });
});

function open(): Cloud {
  const { client_email: clientEmail, private_key: privateKey } = simulator.serviceAccount;
  return openGcp({
    ...{ project: "fedora-cloud", bucket: BUCKET, storageLocation: "us", credentials: { clientEmail, privateKey } },
    endpoints: { storage: url, compute: tokens.url, resourceManager: tokens.url, token: `${tokens.url}/token` },
    pace: { pollFirst: 1, pollMost: 4, partRetry: 1 },
  });
}

const objectUrl = (name: string) => `${url}/storage/v1/b/${BUCKET}/o/${encodeURIComponent(name)}`;

async function objects(): Promise<{ name: string; size: string }[]> {
  const answer = await fetch(`${url}/storage/v1/b/${BUCKET}/o`);
  return ((await answer.json()) as { items?: { name: string; size: string }[] }).items ?? [];
}

async function readAll(staged: StagedDisk): Promise<string[]> {
  const digests: string[] = [];
  for await (const block of cloud.readBack(staged, Array(blockCount(staged.diskBytes)).keys(), call)) {
    digests[block.index] = Buffer.from(block.sha256).toString("hex");
  }
  return digests;
}

test(
  "what is read back is what was sent, and nothing of the way is left",
  async () => {
    const disk = () => fakeDisk(SPEC.diskBytes, NON_ZERO);
    const staged = await cloud.upload(disk(), SPEC, memoryJournal(), call);
    expect(await readAll(staged)).toEqual(await digestsOf(disk(), call));
    expect((await objects()).map(({ name }) => name)).toEqual([`slipway/${SPEC.diskKey}.tar.gz`]);
    expect((await cloud.find(SPEC, SPEC.homeRegion, call)).staged).toEqual(staged);
    const again = await cloud.upload(disk(), SPEC, memoryJournal(), call);
    expect(again).toEqual(staged);
  },
  MINUTE,
);

test(
  "more pieces than one request joins become one archive",
  async () => {
    const blocks = Array.from({ length: 70 }, (_, index) => index * 2);
    const staged = await cloud.upload(fakeDisk(SPEC.diskBytes, blocks), SPEC, memoryJournal(), call);
    expect(await readAll(staged)).toEqual(await digestsOf(fakeDisk(SPEC.diskBytes, blocks), call));
  },
  MINUTE,
);

test(
  "an upload that another process resumes sends no acknowledged block again",
  async () => {
    const journal = memoryJournal();
    const stop = new AbortController();
    const context = { ...quietCall(stop.signal), onProgress: () => stop.abort() };
    const disk = () => fakeDisk(SPEC.diskBytes, NON_ZERO, "resumed");
    await expect(cloud.upload(disk(), SPEC, journal, context)).rejects.toThrow();
    const acked = NON_ZERO.filter((index) => journal.acked(index));
    expect(acked.length).toBeGreaterThan(0);
    const other = inProduction(open());
    const resumed = disk();
    const staged = await other.upload(resumed, SPEC, journal, call);
    for (const index of acked) expect(resumed.yielded.get(index) ?? 0).toBe(0);
    expect(await readAll(staged)).toEqual(await digestsOf(disk(), call));
    await other.close();
  },
  MINUTE,
);

test(
  "a disk is listed, half-made ones too, and removed; again is a success",
  async () => {
    const staged = await cloud.upload(fakeDisk(SPEC.diskBytes, NON_ZERO), SPEC, memoryJournal(), call);
    const listed = await Array.fromAsync(cloud.list([SPEC.homeRegion], call));
    expect(listed).toMatchObject([{ kind: "staged-disk", key: SPEC.diskKey, complete: true, id: staged.id }]);
    for (let round = 0; round < 2; round++) await cloud.remove(listed[0]!, call);
    expect(await objects()).toEqual([]);
    expect((await cloud.find(SPEC, SPEC.homeRegion, call)).staged).toBeUndefined();
  },
  MINUTE,
);

test(
  "an object of that name that is another's is never overwritten",
  async () => {
    const name = `slipway/${SPEC.diskKey}.tar.gz`;
    const to = `${url}/upload/storage/v1/b/${BUCKET}/o?uploadType=media&name=${encodeURIComponent(name)}`;
    await fetch(to, { method: "POST", body: "theirs" });
    await expect(cloud.upload(fakeDisk(SPEC.diskBytes, NON_ZERO), SPEC, memoryJournal(), call)).rejects.toMatchObject({
      code: "already-exists",
      cloud: "gcp",
    });
    expect(await (await fetch(`${objectUrl(name)}?alt=media`)).text()).toBe("theirs");
  },
  MINUTE,
);

/**
 * Looked at with fake-gcs-server 1.54.0. Nothing of it is worked around in the driver.
 * A deviation that has gone is news: its test fails then.
 */
test("DEVIATES: no credentials are asked for, so expired and wrong ones cannot be told apart here", async () => {
  expect((await fetch(`${url}/storage/v1/b/${BUCKET}/o`)).status).toBe(200);
});

async function answering(where: string): Promise<void> {
  for (let left = 200; ; left--) {
    try {
      await (await fetch(where)).arrayBuffer();
      return;
    } catch (error) {
      if (left === 0 || server.exitCode !== null) throw error;
      await new Promise((done) => setTimeout(done, 50));
    }
  }
}

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((done) => probe.listen(0, "127.0.0.1", done));
  const { port } = probe.address() as { port: number };
  await new Promise((done) => probe.close(done));
  return port;
}
