// Runs every interop suite whose server is here, and says of each other one why it did not run. With CI=true a missing
// server is a failure: a suite that is skipped can pass for one that is green.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join, resolve } from "node:path";

const here = import.meta.dirname;
const tools = resolve(process.env.SLIPWAY_INTEROP_DIR ?? join(here, "../../.interop"));
const onPath = (program) => () =>
  (process.env.PATH ?? "")
    .split(":")
    .concat("/usr/sbin", "/sbin", "/usr/bin")
    .some((directory) => existsSync(join(directory, program)))
    ? undefined
    : `${program} is not installed`;
const inTools = (path) => () => (existsSync(join(tools, path)) ? undefined : `${path} is not installed`);

/** Suite → what it needs. A suite without an entry is a mistake, found below. */
const RABBITMQ = [
  () => (existsSync("/usr/lib/rabbitmq/bin/rabbitmq-server") ? undefined : "rabbitmq-server is not installed"),
  onPath("openssl"),
  inTools("python/bin/fedora-messaging"),
];

const NEEDS = {
  "disk-full.test.ts": [() => (process.getuid?.() === 0 ? undefined : "only root may mount a small file system")],
  "qcow2.test.ts": [onPath("qemu-img"), onPath("qemu-io")],
  "bus-release.test.ts": RABBITMQ,
  "chaos-events.test.ts": RABBITMQ,
  "playbooks.test.ts": [onPath("ansible-playbook"), onPath("ansible-runner"), onPath("ansible-vault"), onPath("ssh")],
  "publishing.test.ts": RABBITMQ,
  "rabbitmq.test.ts": RABBITMQ,
  "shadow.test.ts": RABBITMQ,
  "takeover.test.ts": [onPath("ansible-playbook")],
  "registry.test.ts": [onPath("docker-registry"), onPath("skopeo")],
  "registry-clients.test.ts": [
    onPath("podman"),
    inTools("go/bin/crane"),
    inTools("go/bin/oras"),
    () => (process.getuid?.() === 0 ? undefined : "podman's store is made for root here"),
  ],
  "attestation.test.ts": [inTools("python/bin/python3")],
  "fake-gcs.test.ts": [inTools("go/bin/fake-gcs-server")],
  "front.test.ts": [inTools("python/bin/moto_server"), onPath("docker-registry")],
  "moto.test.ts": [inTools("python/bin/moto_server")],
  "boto3.test.ts": [inTools("python/bin/python3")],
  "aws-cli.test.ts": [inTools("python/bin/aws")],
  "azure-cli.test.ts": [inTools("azure-cli/bin/az")],
  "azure-python.test.ts": [inTools("python/bin/python3")],
  "google.test.ts": [inTools("python/bin/python3")],
  "gsutil.test.ts": [inTools("gsutil/bin/gsutil")],
  "azurite.test.ts": [inTools("npm/node_modules/.bin/azurite-blob")],
  "real-disk.test.ts": [
    ...["qemu-system-x86_64", "qemu-img", "skopeo", "xz"].map(onPath),
    ...["mmdebstrap", "mke2fs", "mkfs.vfat", "mcopy", "sfdisk"].map(onPath),
    () => (existsSync("/usr/share/OVMF/OVMF_CODE_4M.fd") ? undefined : "ovmf is not installed"),
    () => (process.getuid() === 0 ? undefined : "making a disk of packages wants root"),
  ],
};

const suites = readdirSync(here).filter((name) => name.endsWith(".test.ts"));
const ready = [];
let missing = 0;
for (const suite of suites) {
  const needs = NEEDS[suite];
  if (needs === undefined) throw new Error(`test/interop/run.mjs does not say what ${suite} needs`);
  const reasons = needs.map((look) => look()).filter((reason) => reason !== undefined);
  if (reasons.length === 0) ready.push(join("test/interop", suite));
  else {
    missing++;
    console.log(`not run: ${suite}: ${reasons.join(", ")} (test/interop/setup installs it)`);
  }
}
if (missing > 0 && process.env.CI === "true") {
  console.error("CI runs every suite; a missing server is a failure.");
  process.exit(1);
}
if (ready.length === 0) process.exit(0);
const result = spawnSync("vitest", ["run", "--config", "test/interop/vitest.config.ts", ...ready], {
  stdio: "inherit",
  cwd: resolve(here, "../.."),
  env: { ...process.env, SLIPWAY_INTEROP_DIR: tools },
});
process.exit(result.status ?? 1);
