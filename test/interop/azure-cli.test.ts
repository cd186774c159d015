/** The Azure command line, unchanged, against simulated page blobs: with the account's key, and with what that key signed. */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Rehearsal, startRehearsal } from "../../rehearsal/src/index.ts";

const tools = resolve(process.env.SLIPWAY_INTEROP_DIR ?? join(import.meta.dirname, "../../.interop"));
const program = join(tools, "azure-cli/bin/az");
const present = existsSync(program);
if (!present && process.env.CI === "true") throw new Error(`not there: ${program}`);

const MIB = 2 ** 20;

describe.skipIf(!present)("az finds the simulated storage account to be Azure's", () => {
  let rehearsal: Rehearsal;
  let directory: string;
  // Five MiB of data, eight of zeros, and an odd number of pages behind them.
  const disk = Buffer.concat([randomBytes(5 * MIB), Buffer.alloc(8 * MIB), randomBytes(3 * 512)]);

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "azure-cli-"));
    rehearsal = await startRehearsal({ blobDir: join(directory, "blobs") });
    writeFileSync(join(directory, "ca.crt"), rehearsal.caPem);
    writeFileSync(join(directory, "disk.vhd"), disk);
  });
  afterAll(async () => {
    await rehearsal?.close();
    rmSync(directory, { recursive: true, force: true });
  });

  function account(login: string): string {
    const { storageAccount } = rehearsal.credentials.azure;
    return `DefaultEndpointsProtocol=https;AccountName=${storageAccount};${login};BlobEndpoint=${rehearsal.urls.azure.blob}`;
  }
  const withKey = (key = rehearsal.credentials.azure.storageKey) => account(`AccountKey=${key}`);

  function run(connection: string, ...args: string[]) {
    const env = {
      ...{ PATH: process.env.PATH, HOME: directory, AZURE_CONFIG_DIR: join(directory, "azure") },
      ...{ AZURE_CORE_COLLECT_TELEMETRY: "false", AZURE_CORE_ONLY_SHOW_ERRORS: "true", AZURE_CORE_OUTPUT: "json" },
      ...{ AZURE_STORAGE_CONNECTION_STRING: connection, REQUESTS_CA_BUNDLE: join(directory, "ca.crt") },
    };
    return new Promise<{ code: number | string | null; stdout: string; stderr: string }>((done) => {
      const options = { env, cwd: directory, timeout: 90_000 };
      execFile(program, ["storage", ...args], options, (error, stdout, stderr) =>
        done({ code: error ? (error.code ?? null) : 0, stdout, stderr }),
      );
    });
  }
  async function az(connection: string, ...args: string[]) {
    const { code, stdout, stderr } = await run(connection, ...args);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    return stdout.trim() === "" ? undefined : JSON.parse(stdout);
  }

  const upload = ["blob", "upload", "--type", "page", "-c", "vhds", "-f", "disk.vhd", "--no-progress"];

  test("it uploads a page blob without its zeros, finds, lists, reads back and deletes it", async () => {
    const key = withKey();
    await az(key, ...upload, "-n", "a b/disk.vhd", "--metadata", "build=1");
    const blob = ["-c", "vhds", "-n", "a b/disk.vhd"];
    const shown = await az(key, "blob", "show", ...blob);
    expect(shown).toMatchObject({ metadata: { build: "1" }, properties: { contentLength: disk.length } });
    // It sends pieces of 4 MiB, and none that is all zeros.
    expect(shown.properties.pageRanges.map(({ start, end }: Record<string, number>) => [start, end])).toEqual([
      [0, 8 * MIB - 1],
      [12 * MIB, disk.length - 1],
    ]);
    expect(await az(key, "blob", "list", "-c", "vhds", "--query", "[].name")).toEqual(["a b/disk.vhd"]);
    await az(key, "blob", "download", ...blob, "-f", "back.vhd", "--no-progress", "--query", "name");
    expect(readFileSync(join(directory, "back.vhd")).equals(disk)).toBe(true);
    expect((await run(key, ...upload, "-n", "a b/disk.vhd")).stderr).toContain("BlobAlreadyExists");
    await az(key, "blob", "delete", ...blob);
    expect(await az(key, "blob", "exists", ...blob)).toEqual({ exists: false });
  });

  test("another key is refused", async () => {
    const { code, stderr } = await run(withKey(Buffer.alloc(64).toString("base64")), ...upload, "-n", "disk.vhd");
    expect([code, stderr]).toEqual([1, expect.stringContaining("Authentication failure")]);
  });

  test("a signature for a container lets its bearer do what it names, until it ends", async () => {
    const make = async (...args: string[]) =>
      account(`SharedAccessSignature=${await az(withKey(), "container", "generate-sas", "-n", "vhds", ...args)}`);
    const tomorrow = new Date(Date.now() + 86_400_000).toISOString().replace(/:\d\d\..*/, "Z");
    const writer = await make("--permissions", "cwl", "--expiry", tomorrow);
    await az(writer, ...upload, "-n", "signed.vhd");
    expect(await az(writer, "blob", "list", "-c", "vhds", "--query", "[].name")).toEqual(["signed.vhd"]);
    const blob = ["-c", "vhds", "-n", "signed.vhd"];
    expect((await run(writer, "blob", "delete", ...blob)).stderr).toContain("You do not have the required permissions");
    const reader = await make("--permissions", "r", "--expiry", tomorrow);
    await az(reader, "blob", "download", ...blob, "-f", "signed.vhd", "--no-progress", "--query", "name");
    expect(readFileSync(join(directory, "signed.vhd")).equals(disk)).toBe(true);
    const ended = await make("--permissions", "r", "--expiry", "2024-01-01");
    expect((await run(ended, "blob", "show", ...blob)).code).not.toBe(0);
  });
});
