// Packs what would be shipped, unpacks it elsewhere and runs it there: type stripping hides what compiling breaks
// (workers found by URL, assets that are not copied, .ts imports that were not rewritten).
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const LOCAL = `
releases: { stable: [43] }
targets:
  here: { cloud: local, offer: public }
systems:
  sample:
    composes: { short: [Fedora] }
    images:
      - select: { type: [raw-xz], arch: [x86_64] }
        to: [here]
        name: "sample.{arch}-{version}-{build}"
`;

const root = resolve(import.meta.dirname, "..");
const work = mkdtempSync(join(tmpdir(), "slipway-package-"));

try {
  rmSync(join(root, "dist"), { recursive: true, force: true });
  run("tsc", ["-p", "tsconfig.build.json"], root);
  run("npm", ["pack", "--silent", "--pack-destination", work], root);
  const [archive] = readdirSync(work).filter((name) => name.endsWith(".tgz"));
  run("tar", ["-xzf", archive], work);
  const unpacked = join(work, "package");
  symlinkSync(join(root, "node_modules"), join(unpacked, "node_modules"));

  const slipway = (...args) => run(join(unpacked, "bin/slipway"), args, work);
  expect(slipway("--version"), /^\d+\.\d+\.\d+/);
  expect(slipway("config", "check"), /defaults are fine/);

  // A release from the package: workers decode, a disk lands in the local cloud.
  const compose = join(work, "compose");
  await sampleCompose(compose);
  writeFileSync(join(work, "slipway.yaml"), LOCAL);
  expect(slipway("plan", compose, "--offline", "--output", "text"), /1 images? to make|1 of 1 images to make/);
  expect(slipway("release", compose, "--output", "json"), /"result": "done"/);
  console.log("the package runs");
} finally {
  rmSync(work, { recursive: true, force: true, maxRetries: 5 });
}

async function sampleCompose(directory) {
  const { makeSampleCompose, makeSampleDisk } = await import("@slipway/rehearsal/sample");
  const disk = join(work, "disk.raw");
  await makeSampleDisk(disk, 8 * 1024 * 1024, 2 * 1024 * 1024, "package");
  const made = await makeSampleCompose({ disk, out: join(work, "composes"), arches: ["x86_64"] });
  mkdirSync(directory);
  cpSync(made.directory, directory, { recursive: true });
}

function run(program, args, cwd) {
  const ended = spawnSync(program, args, { cwd, encoding: "utf8", timeout: 120_000 });
  if (ended.status === 0) return ended.stdout;
  throw new Error(
    `${program} ${args.join(" ")} ended with ${ended.status ?? ended.signal}\n${ended.stdout}${ended.stderr}`,
  );
}

function expect(text, pattern) {
  if (!pattern.test(text)) throw new Error(`expected ${pattern}, got\n${text}`);
}
