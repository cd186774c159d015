/**
 * The blob half of the Azure driver against Microsoft's own emulator, over TLS and with tokens. Azurite has neither an
 * authority nor galleries, so those two are the simulator's; and it believes only tokens that name Microsoft as their
 * issuer, so a relay puts such a one in (Azurite checks no signature).
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import https from "node:https";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { BlobServiceClient, StorageSharedKeyCredential } from "@azure/storage-blob";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { type Served, serve } from "../../rehearsal/src/tls.ts";
import {
  type AzureHarness,
  azureHarness,
  harnessAuthority,
  SPEC,
  vhdDisk,
} from "../../src/clouds/azure/testing/harness.ts";
import type { Cloud } from "../../src/clouds/cloud.ts";
import { corruptAfter, digestsOf, tapped } from "../../src/clouds/testing/disks.ts";
import { type BlockSource, blockCount } from "../../src/images/block-source.ts";
import { memoryJournal } from "../../src/images/journal.ts";
import { quietCall } from "../../src/lib/call.ts";
import { codeOf } from "../../src/lib/errors.ts";
import type { StagedDisk } from "../../src/model.ts";

const call = quietCall();
const NON_ZERO = [0, 1, 2, 5, 9, 14];
/** Azurite's well-known account. @see https://learn.microsoft.com/azure/storage/common/storage-connect-azurite */
const ACCOUNT = "devstoreaccount1";
const KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

interface Azurite {
  readonly url: string;
  readonly ca: string;
  close(): Promise<void>;
}

async function startAzurite(): Promise<Azurite> {
  const directory = mkdtempSync(join(tmpdir(), "slipway-azurite-"));
  const tls = await harnessAuthority();
  writeFileSync(join(directory, "cert.pem"), `${tls.cert}\n${tls.ca}`);
  writeFileSync(join(directory, "key.pem"), tls.key, { mode: 0o600 });
  const tools = process.env.SLIPWAY_INTEROP_DIR ?? resolve(import.meta.dirname, "../../.interop");
  const server: ChildProcess = spawn(
    join(tools, "npm/node_modules/.bin/azurite-blob"),
    [
      ...["--blobPort", "0", "--inMemoryPersistence", "--skipApiVersionCheck"],
      ...["--cert", join(directory, "cert.pem"), "--key", join(directory, "key.pem"), "--oauth", "basic"],
      "--disableTelemetry",
    ],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  const url = await new Promise<string>((found, reject) => {
    let said = "";
    const listen = (chunk: Buffer) => {
      said += chunk;
      const match = /listens? (?:at|on) (https:\/\/127\.0\.0\.1:\d+)/.exec(said);
      if (match) found(match[1]!);
    };
    server.stdout!.on("data", listen);
    server.stderr!.on("data", listen);
    server.once("error", reject);
    server.once("exit", () => reject(new Error(`Azurite ended: ${said}`)));
  });
  return {
    url: `${url}/${ACCOUNT}`,
    ca: tls.ca,
    async close() {
      const gone = new Promise((done) => server.once("exit", done));
      server.kill();
      await gone;
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** Forwards to Azurite with a token it believes. */
async function startRelay(target: Azurite): Promise<Served> {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const now = Math.floor(Date.now() / 1000);
  const times = { iat: now, nbf: now - 60, exp: now + 3600 };
  const claims = { aud: "https://storage.azure.com", iss: "https://sts.windows.net/tenant/", ...times };
  const authorization = `Bearer ${part({ typ: "JWT", alg: "HS256" })}.${part(claims)}.${part("unsigned")}`;
  const agent = new https.Agent({ keepAlive: true, ca: target.ca });
  return serve(
    (request, response) => {
      expect(request.headers.authorization).toMatch(/^Bearer /);
      const forwarded = https.request(
        new URL(request.url ?? "/", target.url),
        { agent, method: request.method, headers: { ...request.headers, authorization } },
        (answer) => {
          response.writeHead(answer.statusCode ?? 502, answer.headers);
          answer.pipe(response);
        },
      );
      forwarded.on("error", () => response.destroy());
      response.on("close", () => forwarded.destroy());
      request.pipe(forwarded);
    },
    { tls: await harnessAuthority() },
  );
}

let azurite: Azurite;
let relay: Served;
let harness: AzureHarness;
let containers = 0;
let open: (owner?: string) => Cloud;

beforeAll(async () => {
  azurite = await startAzurite();
  relay = await startRelay(azurite);
});
afterAll(async () => {
  await azurite?.close();
  await relay?.close();
});

beforeEach(async () => {
  harness = await azureHarness();
  const container = `vhds-${++containers}`;
  // The storage client's types do not mention `tlsOptions`; its pipeline takes them all the same.
  const options = { tlsOptions: { ca: azurite.ca }, retryOptions: { maxTries: 1 } };
  const service = new BlobServiceClient(azurite.url, new StorageSharedKeyCredential(ACCOUNT, KEY), options);
  await service.createContainer(container);
  open = (tagsOwner = "slipway") =>
    harness.open({
      ...{ container, tagsOwner, storageAccount: ACCOUNT },
      endpoints: { ...harness.options.endpoints, blob: `${relay.url}/${ACCOUNT}` },
    });
});
afterEach(() => harness.close());

test("what is read back is what was sent, and a second upload sends nothing", async () => {
  const cloud = open();
  const disk = vhdDisk(SPEC, NON_ZERO, "disk");
  const staged = await cloud.upload(disk, SPEC, memoryJournal(), call);
  expect(await readAll(cloud, staged, disk)).toEqual(await digestsOf(disk, call));
  expect((await cloud.find(SPEC, "eastus", call)).staged).toEqual(staged);
  const again = vhdDisk(SPEC, NON_ZERO, "disk");
  expect(await open().upload(again, SPEC, memoryJournal(), call)).toEqual(staged);
  expect(again.yielded.size).toBe(0);
});

test("an interrupted upload is shown as half-made and continued by another process", async () => {
  const journal = memoryJournal();
  const stop = new AbortController();
  const disk = tapped(vhdDisk(SPEC, NON_ZERO, "disk"), async (count) => {
    if (count <= 4) return;
    while (journal.ackedCount === 0) await new Promise((done) => setTimeout(done, 1));
    stop.abort();
  });
  await refused("cancelled", open().upload(disk, SPEC, journal, quietCall(stop.signal)));
  const cloud = open();
  const [half] = await Array.fromAsync(cloud.list([], call));
  expect(half).toMatchObject({ kind: "staged-disk", key: SPEC.diskKey, complete: false });
  const acked = journal.ackedCount;
  const rest = vhdDisk(SPEC, NON_ZERO, "disk");
  const staged = await cloud.upload(rest, SPEC, journal, call);
  expect(rest.yielded.size).toBe(NON_ZERO.length + 1 - acked);
  expect(await readAll(cloud, staged, rest)).toEqual(await digestsOf(rest, call));
});

test("a corrupt source leaves nothing, and the right one is taken afterwards", async () => {
  const cloud = open();
  const journal = memoryJournal();
  await refused("corrupt", cloud.upload(corruptAfter(vhdDisk(SPEC, [3], "wrong"), "all"), SPEC, journal, call));
  expect(await Array.fromAsync(cloud.list([], call))).toEqual([]);
  const disk = vhdDisk(SPEC, NON_ZERO, "disk");
  const staged = await cloud.upload(disk, SPEC, journal, call);
  expect(await readAll(cloud, staged, disk)).toEqual(await digestsOf(disk, call));
});

test("a writer whose blob was made anew is fenced off", async () => {
  const cloud = open();
  const journal = memoryJournal();
  let turn = 0;
  const disk = tapped(vhdDisk(SPEC, NON_ZERO, "disk"), async () => {
    if (++turn !== 4) return;
    while (journal.ackedCount < 3) await new Promise((done) => setTimeout(done, 1));
    await open().upload(vhdDisk(SPEC, [0], "disk"), SPEC, memoryJournal(), call);
  });
  await refused("conflict", cloud.upload(disk, SPEC, journal, call));
});

test("another owner's blob is neither taken nor removed; ours goes, twice", async () => {
  const theirs = open("CoreOS");
  const staged = await theirs.upload(vhdDisk(SPEC, [1], "theirs"), SPEC, memoryJournal(), call);
  const cloud = open();
  await refused("already-exists", cloud.upload(vhdDisk(SPEC, [0], "disk"), SPEC, memoryJournal(), call));
  expect(await Array.fromAsync(cloud.list([], call))).toEqual([]);
  for (let time = 0; time < 2; time++) await theirs.tidy(staged, SPEC, call);
  expect(await Array.fromAsync(theirs.list([], call))).toEqual([]);
});

async function readAll(cloud: Cloud, staged: StagedDisk, disk: BlockSource): Promise<string[]> {
  const digests: string[] = [];
  const all = Array.from({ length: blockCount(disk.bytes) }, (_, index) => index);
  for await (const { index, sha256 } of cloud.readBack(staged, all, call)) {
    digests[index] = Buffer.from(sha256).toString("hex");
  }
  return digests;
}

async function refused(code: string, promise: Promise<unknown>): Promise<void> {
  const error = await promise.then(
    () => new Error("no error"),
    (thrown: unknown) => thrown,
  );
  if (codeOf(error) !== code) throw new Error(`expected ${code}: ${error}`, { cause: error });
}
