/**
 * The registry driver against a registry that is not ours (docker-registry), and both it and our simulator against a
 * client that is not ours (skopeo). Debian packages: docker-registry, skopeo, xz-utils.
 */
import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createRegistrySimulator } from "../../rehearsal/src/registry/index.ts";
import { openContainer } from "../../src/images/archives/open-container.ts";
import { ociLayout, tar } from "../../src/images/archives/testing/make-archive.ts";
import { quietCall } from "../../src/lib/call.ts";
import { openRegistry } from "../../src/registries/distribution.ts";
import type { IndexEntry, Registry } from "../../src/registries/registry.ts";
import { describeRegistry, type RegistryHarness } from "../../src/registries/testing/contract.ts";
import { describeReferrers } from "../../src/registries/testing/referrers-contract.ts";

const run = promisify(execFile);
const call = quietCall();
const missing = ["docker-registry", "skopeo", "xz"].filter((program) => spawnSync("which", [program]).status !== 0);
if (missing.length > 0 && process.env.CI) throw new Error(`not installed: ${missing.join(", ")}`);

/** docker-registry on a free port, its data in a directory of its own. */
async function startDockerRegistry() {
  const directory = mkdtempSync(join(tmpdir(), "slipway-registry-"));
  const config = join(directory, "config.yml");
  const settings = { rootdirectory: join(directory, "data") };
  // JSON is YAML.
  writeFileSync(
    config,
    JSON.stringify({
      ...{ version: 0.1, log: { level: "info", accesslog: { disabled: true } } },
      storage: { filesystem: settings, delete: { enabled: true } },
      http: { addr: "127.0.0.1:0" },
    }),
  );
  const server: ChildProcess = spawn("docker-registry", ["serve", config], { stdio: ["ignore", "ignore", "pipe"] });
  const port = await new Promise<string>((resolve, reject) => {
    let said = "";
    server.stderr!.on("data", (chunk: Buffer) => {
      said += chunk;
      const match = /listening on 127\.0\.0\.1:(\d+)/.exec(said);
      if (match) resolve(match[1]!);
    });
    server.once("exit", () => reject(new Error(said)));
  });
  return {
    host: `127.0.0.1:${port}`,
    async close() {
      const gone = new Promise((resolve) => server.once("exit", resolve));
      server.kill();
      await gone;
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

async function startSimulator() {
  const credentials = { username: "robot", password: "secret" };
  const server = createServer(createRegistrySimulator({ credentials, tokenAuth: true }).handler);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

if (missing.length === 0) {
  describeRegistry("docker-registry", startHarness);
  // It has no referrers API: this is the fallback tag.
  describeReferrers("docker-registry", startHarness);
}

async function startHarness(): Promise<RegistryHarness> {
  const server = await startDockerRegistry();
  const open = (prefix: string) =>
    openRegistry({ url: `${server.host}/${prefix}`, insecure: true, retryDelaysMs: [1, 1], settleMs: 5 });
  return { open: () => open("fedora"), neighbour: () => open("elsewhere"), close: server.close };
}

for (const [name, start] of [
  ["docker-registry", startDockerRegistry],
  ["the simulator", startSimulator],
] as const) {
  describe.skipIf(missing.length > 0)(`skopeo and ${name}`, () => {
    let server: { host: string; close(): Promise<void> };
    let registry: Registry;
    const root = mkdtempSync(join(tmpdir(), "slipway-skopeo-"));
    const skopeo = async (...args: string[]) => (await run("skopeo", args, { maxBuffer: 2 ** 24 })).stdout;
    const from = ["--src-tls-verify=false", "--src-creds=robot:secret"];
    const to = ["--dest-tls-verify=false", "--dest-creds=robot:secret"];
    const at = ["--tls-verify=false", "--creds=robot:secret"];

    beforeAll(async () => {
      server = await start();
      const credentials = { username: "robot", password: "secret" };
      registry = openRegistry({ url: server.host, insecure: true, credentials, settleMs: 5 });
    });
    afterAll(async () => {
      await registry?.close();
      await server?.close();
      rmSync(root, { recursive: true, force: true });
    });

    /** An OCI layout as a directory, and out of it whatever skopeo makes. */
    function layout(architecture: string): string {
      const directory = join(root, `layout-${architecture}`);
      const layer = tar([{ name: "etc/hello", data: `for ${architecture}\n`.repeat(100_000) }]);
      const digest = createHash("sha256").update(layer).digest("hex");
      const config = { rootfs: { type: "layers", diff_ids: [`sha256:${digest}`] }, config: {}, history: [] };
      for (const { name, data, type } of ociLayout({ architecture, layers: [layer], config })) {
        if (type === "5") continue;
        mkdirSync(dirname(join(directory, name)), { recursive: true });
        writeFileSync(join(directory, name), data!);
      }
      return directory;
    }

    async function push(path: string, format: string, arch: string, repository: string): Promise<IndexEntry> {
      const sha256 = createHash("sha256").update(readFileSync(path)).digest("hex");
      const artifact = { url: path, bytes: statSync(path).size, sha256, format, arch };
      const image = await openContainer(artifact, {}, call);
      try {
        const { digest, mediaType, bytes, platform } = await registry.push(repository, image, call);
        expect((await registry.push(repository, image, call)).sentBytes).toBe(0);
        return { digest, mediaType, bytes, platform };
      } finally {
        await image.close();
      }
    }

    test("ociarchives of two architectures, pushed by us: skopeo inspects and copies them", async () => {
      const entries = [];
      for (const [arch, architecture] of [
        ["x86_64", "amd64"],
        ["aarch64", "arm64"],
      ] as const) {
        const archive = join(root, `${arch}.oci.tar`);
        await run("tar", ["-C", layout(architecture), "-cf", archive, "."]);
        entries.push(await push(archive, "ociarchive", arch, "fedora"));
      }
      const { digest } = await registry.joinIndex("fedora", entries, ["43", "latest"], { keepOthers: true }, call);
      const reference = `docker://${server.host}/fedora:latest`;
      const seen = JSON.parse(await skopeo("inspect", ...at, "--override-arch=arm64", reference));
      expect(seen.Architecture).toBe("arm64");
      expect(seen.RepoTags.sort()).toEqual(["43", "latest"]);
      const raw = await skopeo("inspect", ...at, "--raw", reference);
      expect(`sha256:${createHash("sha256").update(raw).digest("hex")}`).toBe(digest);
      await skopeo("copy", "--all", "--preserve-digests", ...from, reference, `dir:${join(root, "copied")}`);
    });

    test("a docker-archive in xz, pushed by us: what skopeo pushes of it has the same configuration and layers", async () => {
      const archive = join(root, "docker.tar");
      await skopeo("copy", `oci:${layout("amd64")}`, `docker-archive:${archive}:fedora:43`);
      await skopeo("copy", ...to, `docker-archive:${archive}`, `docker://${server.host}/by-skopeo:43`);
      await run("xz", [archive]);
      const entry = await push(`${archive}.xz`, "tar.xz", "x86_64", "by-us");
      const { digest } = await registry.joinIndex("by-us", [entry], ["43"], { keepOthers: true }, call);
      expect((await registry.find("by-us", "43", call))?.digest).toBe(digest);
      const theirs = JSON.parse(await skopeo("inspect", ...at, "--raw", `docker://${server.host}/by-skopeo:43`));
      const ours = JSON.parse(await skopeo("inspect", ...at, "--raw", `docker://${server.host}/by-us@${entry.digest}`));
      expect(ours.config).toEqual(theirs.config);
      expect(ours.mediaType).toBe(theirs.mediaType);
      expect(ours.layers.map((layer: { mediaType: string }) => layer.mediaType)).toEqual(
        theirs.layers.map((layer: { mediaType: string }) => layer.mediaType),
      );
      await skopeo("copy", ...from, `docker://${server.host}/by-us:43`, `dir:${join(root, "docker-copied")}`);
    });

    test("what skopeo pushed is copied by us, whole", async () => {
      const source = `docker://${server.host}/source:1`;
      await skopeo("copy", ...to, `oci:${layout("amd64")}`, source);
      const digest = await registry.copy(registry, { repository: "source", reference: "1" }, "target", ["2"], call);
      const raw = await skopeo("inspect", ...at, "--raw", `docker://${server.host}/target:2`);
      expect(`sha256:${createHash("sha256").update(raw).digest("hex")}`).toBe(digest);
    });
  });
}
