/**
 * The rehearsal's registry, over TLS and with tokens, as clients that are not ours find it: podman, crane and oras.
 * skopeo has its place in registry.test.ts. Debian package: podman; Go programs: crane, oras.
 */
import { execFile, spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Rehearsal, startRehearsal } from "../../rehearsal/src/index.ts";
import { tar } from "../../src/images/archives/testing/make-archive.ts";

const bin = join(resolve(process.env.SLIPWAY_INTEROP_DIR ?? join(import.meta.dirname, "../../.interop")), "go/bin");
const crane = join(bin, "crane");
const oras = join(bin, "oras");
const missing = [crane, oras].filter((path) => !existsSync(path));
if (spawnSync("which", ["podman"]).status !== 0) missing.push("podman");
if (process.getuid?.() !== 0) missing.push("root");
if (missing.length > 0 && process.env.CI === "true") throw new Error(`not there: ${missing.join(", ")}`);

describe.skipIf(missing.length > 0)("the rehearsal's registry", () => {
  let rehearsal: Rehearsal;
  let directory: string;
  let host: string;
  let ca: string;
  let env: NodeJS.ProcessEnv;
  const layer = tar([{ name: "etc/hello", data: "hello\n".repeat(100_000) }]);

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "registry-clients-"));
    rehearsal = await startRehearsal();
    host = new URL(rehearsal.urls.registry).host;
    mkdirSync(join(directory, "certs"));
    ca = join(directory, "certs/ca.crt");
    writeFileSync(ca, rehearsal.caPem);
    writeFileSync(join(directory, "layer.tar"), layer);
    const { username, password } = rehearsal.credentials.registry;
    const auth = Buffer.from(`${username}:${password}`).toString("base64");
    writeFileSync(join(directory, "config.json"), JSON.stringify({ auths: { [host]: { auth } } }));
    // Nothing of this machine's own: neither its credentials nor its authorities.
    env = { PATH: process.env.PATH, HOME: directory, DOCKER_CONFIG: directory, SSL_CERT_FILE: ca };
  });
  afterAll(async () => {
    await rehearsal?.close();
    rmSync(directory, { recursive: true, force: true });
  });

  const run = async (program: string, ...args: string[]) =>
    (await promisify(execFile)(program, args, { env, cwd: directory, maxBuffer: 2 ** 24 })).stdout.trim();
  const sha256 = (data: Buffer | string) => `sha256:${createHash("sha256").update(data).digest("hex")}`;

  test("podman pushes an image and a list of two, removes both and pulls them again", async () => {
    const stores = ["--root", join(directory, "store"), "--runroot", join(directory, "run")];
    const plain = ["--storage-driver", "vfs", "--events-backend", "none", "--cgroup-manager", "cgroupfs"];
    const podman = (...args: string[]) => run("podman", ...stores, ...plain, ...args);
    const trust = ["--cert-dir", join(directory, "certs"), "--authfile", join(directory, "config.json")];
    const { username, password } = rehearsal.credentials.registry;
    await podman("login", ...trust, "-u", username, "-p", password, host);

    const image = `${host}/by/podman`;
    const list = `${host}/by/podman-list`;
    for (const arch of ["amd64", "arm64"]) {
      await podman("import", "--quiet", "--os", "linux", "--arch", arch, "layer.tar", `${image}:${arch}`);
      await podman("push", "--quiet", ...trust, `${image}:${arch}`);
    }
    await podman("manifest", "create", list);
    for (const arch of ["amd64", "arm64"]) {
      await podman("manifest", "add", ...trust, "--arch", arch, list, `docker://${image}:${arch}`);
    }
    await podman("manifest", "push", "--quiet", "--all", ...trust, list, `docker://${list}:43`);
    await podman("manifest", "rm", list);
    await podman("rmi", "--all", "--force");

    await podman("pull", "--quiet", ...trust, "--arch", "arm64", `${list}:43`);
    const [pulled] = JSON.parse(await podman("image", "inspect", `${list}:43`));
    expect([pulled.Architecture, pulled.RootFS.Layers]).toEqual(["arm64", [sha256(layer)]]);
    await expect(podman("pull", "--quiet", ...trust, `${list}:44`)).rejects.toThrow(/manifest unknown/);
    await expect(
      podman("pull", "--quiet", "--cert-dir", join(directory, "certs"), "--creds=robot:wrong", `${list}:43`),
    ).rejects.toThrow(/wrong user name or password|invalid username\/password|unauthorized/i);
  });

  test("crane makes an image of a layer, joins, copies, checks, lists and deletes", async () => {
    const repository = `${host}/by/crane`;
    await run(crane, "append", "--oci-empty-base", "--new_layer", "layer.tar", "--new_tag", `${repository}:1`);
    const digest = await run(crane, "digest", `${repository}:1`);
    await run(crane, "validate", "--remote", `${repository}:1`);
    // Of another repository, so that what it mounts is not sent.
    await run(crane, "copy", `${repository}:1`, `${host}/by/crane-too:1`);
    expect(await run(crane, "digest", `${host}/by/crane-too:1`)).toBe(digest);
    await run(crane, "index", "append", "--manifest", `${repository}:1`, "--tag", `${repository}:list`);
    const list = await run(crane, "manifest", `${repository}:list`);
    expect(JSON.parse(list).manifests).toMatchObject([{ digest }]);
    expect((await run(crane, "ls", repository)).split("\n")).toEqual(["1", "list"]);
    expect((await run(crane, "catalog", host)).split("\n")).toEqual(
      expect.arrayContaining(["by/crane", "by/crane-too"]),
    );
    await run(crane, "export", `${host}/by/crane-too:1`, "exported.tar");
    expect(await run("tar", "-xOf", "exported.tar", "etc/hello")).toBe("hello\n".repeat(100_000).trim());
    await run(crane, "delete", `${host}/by/crane-too@${digest}`);
    await expect(run(crane, "manifest", `${host}/by/crane-too@${digest}`)).rejects.toThrow(/MANIFEST_UNKNOWN/);
  });

  test("oras pushes a file that is no image, attaches another to it, finds and pulls both", async () => {
    const trust = ["--ca-file", ca];
    const artifact = `${host}/by/oras:1`;
    const disk = randomBytes(3 * 2 ** 20);
    writeFileSync(join(directory, "disk.raw"), disk);
    writeFileSync(join(directory, "about.json"), "{}\n");
    const push = ["--artifact-type", "application/vnd.example.disk", "disk.raw:application/octet-stream"];
    await run(oras, "push", ...trust, artifact, ...push);
    const attach = ["--artifact-type", "application/vnd.example.about", "about.json:application/json"];
    await run(oras, "attach", ...trust, artifact, ...attach);
    const found = JSON.parse(await run(oras, "discover", ...trust, "--format", "json", artifact));
    expect(found.referrers).toMatchObject([{ artifactType: "application/vnd.example.about" }]);
    await run(oras, "pull", ...trust, "--output", "pulled", artifact);
    expect(readFileSync(join(directory, "pulled/disk.raw")).equals(disk)).toBe(true);
    await run(oras, "pull", ...trust, "--output", "pulled", found.referrers[0].reference);
    expect(readFileSync(join(directory, "pulled/about.json"), "utf8")).toBe("{}\n");
    await run(oras, "tag", ...trust, artifact, "2", "latest");
    expect((await run(oras, "repo", "tags", ...trust, `${host}/by/oras`)).split("\n")).toEqual(["1", "2", "latest"]);
    await run(oras, "copy", "--from-ca-file", ca, "--to-ca-file", ca, "--recursive", artifact, `${host}/by/oras-too:1`);
    const copied = JSON.parse(await run(oras, "discover", ...trust, "--format", "json", `${host}/by/oras-too:1`));
    expect(copied.referrers).toMatchObject([{ digest: found.referrers[0].digest }]);
  });
});
