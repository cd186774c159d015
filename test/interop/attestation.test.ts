/**
 * What a release attests, judged by verifiers that are not ours: a few lines of Python that know the specification, and
 * cosign as it is, for containers where they lie and for disk images by exported bundles. cosign takes six minutes of a
 * core to build, so it is tried where it is: `SLIPWAY_INTEROP_COSIGN=1 test/interop/setup` installs it.
 */
import { execFile } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Stage, setStage } from "../release/stage.ts";

const run = promisify(execFile);
const tools = resolve(process.env.SLIPWAY_INTEROP_DIR ?? join(import.meta.dirname, "../../.interop"));
const hasCosign = existsSync(join(tools, "go/bin/cosign"));
const AMI = "Fedora-Cloud-Base-AmazonEC2.x86_64-43-1.6";
const MINUTES = 60_000;

let stage: Stage;
let strangers: string;
let artifactSha256: string;
beforeAll(async () => {
  stage = await setStage({ arches: ["x86_64"], diskBytes: 8 * 1024 * 1024 });
  const released = await stage.slipway(["release", stage.compose, "--output", "json"]);
  expect(released).toMatchObject({ code: 0 });
  await stage.slipway(["images", "attest", "Fedora-43-20251021.0", "--export", exported()]);
  const { publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  strangers = join(stage.directory, "stranger.pub");
  await writeFile(strangers, publicKey.export({ type: "spki", format: "pem" }));
  const { payload } = JSON.parse(await readFile(exported(`${AMI}.intoto.json`), "utf8"));
  artifactSha256 = JSON.parse(Buffer.from(payload, "base64").toString()).subject[0].digest.sha256;
}, 5 * MINUTES);
afterAll(async () => {
  await stage?.[Symbol.asyncDispose]();
}, 2 * MINUTES);

const exported = (name = "") => join(stage.directory, "exported", name);
const ours = () => join(stage.directory, "attest.pub");

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function ended(program: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): Promise<Ended> {
  try {
    return { code: 0, ...(await run(program, args, { env, timeout: MINUTES })) };
  } catch (error) {
    const { code, stdout, stderr } = error as Ended;
    return { code, stdout, stderr };
  }
}

/** As a user who has logged in to the registry and has our public key. No transparency log is kept, and cosign is told. */
async function cosign(args: readonly string[]): Promise<Ended> {
  const home = join(stage.directory, "docker");
  await mkdir(home, { recursive: true });
  const { username, password } = stage.rehearsal.credentials.registry;
  const auth = Buffer.from(`${username}:${password}`).toString("base64");
  const host = new URL(stage.rehearsal.urls.registry).host;
  await writeFile(join(home, "config.json"), JSON.stringify({ auths: { [host]: { auth } } }));
  const env = { PATH: process.env.PATH, HOME: home, DOCKER_CONFIG: home };
  return ended(join(tools, "go/bin/cosign"), [...args, "--insecure-ignore-tlog=true"], env);
}

test.skipIf(!hasCosign)(
  "cosign verifies a container's attestation where it lies, and not for a stranger's key",
  async () => {
    const host = new URL(stage.rehearsal.urls.registry).host;
    const type = "urn:slipway:container-release:v1";
    const asked = ["verify-attestation", `${host}/fedora/fedora:latest`, "--type", type];
    const trust = ["--registry-cacert", join(stage.directory, "ca.crt")];
    const good = await cosign([...asked, ...trust, "--key", ours()]);
    expect(good.stderr).toContain("verified against the specified public key");
    expect(good.code).toBe(0);
    const { payload } = JSON.parse(good.stdout.trim().split("\n").at(-1)!);
    expect(JSON.parse(Buffer.from(payload, "base64").toString())).toMatchObject({
      predicate: { compose: { id: "Fedora-43-20251021.0" }, repository: "fedora" },
    });
    expect((await cosign([...asked, ...trust, "--key", strangers])).code).not.toBe(0);
  },
  MINUTES,
);

test.skipIf(!hasCosign)(
  "cosign verifies a disk image's bundle against the artifact's digest, and against no other",
  async () => {
    const asked = ["verify-blob-attestation", "--bundle", exported(`${AMI}.sigstore.json`), "--digestAlg", "sha256"];
    const type = ["--type", "urn:slipway:image-release:v1"];
    const good = await cosign([...asked, ...type, "--digest", artifactSha256, "--key", ours()]);
    expect(good, good.stderr).toMatchObject({ code: 0 });
    expect((await cosign([...asked, ...type, "--digest", artifactSha256, "--key", strangers])).code).not.toBe(0);
    expect((await cosign([...asked, ...type, "--digest", "0".repeat(64), "--key", ours()])).code).not.toBe(0);
  },
  MINUTES,
);

test(
  "a verifier written from the specification agrees, down to the ids",
  async () => {
    const python = join(tools, "python/bin/python3");
    const verifier = join(import.meta.dirname, "verify-envelope.py");
    const envelope = exported(`${AMI}.intoto.json`);
    const good = await ended(python, [verifier, ours(), artifactSha256, envelope]);
    expect(good, good.stderr).toMatchObject({ code: 0 });
    const listed = JSON.parse((await stage.slipway(["images", "show", AMI, "--output", "json"])).stdout);
    const regions: Record<string, { id: string }> = listed.images[AMI].aws.regions;
    expect(good.stdout.trim().split("\n").sort()).toEqual(
      Object.entries(regions)
        .map(([region, { id }]) => `aws ${region} ${id}`)
        .sort(),
    );
    expect(await ended(python, [verifier, strangers, artifactSha256, envelope])).toMatchObject({ code: 1 });
    expect(await ended(python, [verifier, ours(), "0".repeat(64), envelope])).toMatchObject({ code: 1 });
    const spoilt = exported("spoilt.json");
    const parsed = JSON.parse(await readFile(envelope, "utf8"));
    const payload = Buffer.from(parsed.payload, "base64").toString().replaceAll("ami-", "ami-f");
    await writeFile(spoilt, JSON.stringify({ ...parsed, payload: Buffer.from(payload).toString("base64") }));
    expect(await ended(python, [verifier, ours(), artifactSha256, spoilt])).toMatchObject({ code: 1 });
  },
  MINUTES,
);
