/**
 * A disk that really boots, all the way: made of Debian packages, packed as a compose by other people's tools, released
 * to the simulated clouds by the command line, read back out of one by its vendor's client, and booted.
 *
 * What it measures it prints, and keeps where SLIPWAY_BENCH_RESULTS says. No time is asserted: the machine decides it.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { mkdir, open, readdir } from "node:fs/promises";
import { availableParallelism, loadavg } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { expectOneImageEach, expectOneVersionEach } from "../release/clouds.ts";
import { type Finished, type Stage, setStage } from "../release/stage.ts";
import { boot } from "./boot.ts";
import { readSnapshot, snapshotOf } from "./read-snapshot.ts";
import { type RealCompose, realCompose } from "./real-compose.ts";
import { type Taken, watchProcess } from "./watch-process.ts";

const MiB = 1024 * 1024;
const X86 = "Fedora-Cloud-Base-AmazonEC2.x86_64-43-1.6";
const AMIS = ["Fedora-Cloud-Base-AmazonEC2.aarch64-43-1.6", X86];
const PARTNER = "444455556666";
const DEFINITIONS = ["Fedora-Cloud-43-Arm64", "Fedora-Cloud-43-x64"];

let compose: RealCompose;
let stage: Stage;
let temporary: string;
let released: Finished;
let seconds: number;
let taken: Taken;
let load: number;

beforeAll(async () => {
  compose = await realCompose();
  stage = await setStage({ compose, rehearsal: { blobDir: join(compose.directory, `clouds-${process.pid}`) } });
  // EBS direct reads no snapshot of a public image: these are offered to one other account.
  const config = JSON.parse(readFileSync(stage.config, "utf8"));
  config.targets.aws.offer = { accounts: [PARTNER] };
  // One image after the other for each cloud, so that an image's time is its own.
  config.limits = { concurrency: { aws: 1, azure: 1 } };
  writeFileSync(stage.config, JSON.stringify(config));

  temporary = join(stage.directory, "tmp");
  await mkdir(temporary, { mode: 0o777 });
  const before = process.env.TMPDIR;
  process.env.TMPDIR = temporary;
  try {
    const started = performance.now();
    const running = stage.start(["release", stage.compose, "--output", "json"]);
    const stop = watchProcess(running.process.pid!, {
      directories: [temporary, join(stage.directory, "data")],
      ignore: (path) => /postgres/.test(path),
    });
    released = await running.finished;
    seconds = (performance.now() - started) / 1000;
    load = loadavg()[0]!;
    taken = await stop();
  } finally {
    if (before === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = before;
  }
}, 40 * 60_000);

afterAll(async () => {
  await stage?.[Symbol.asyncDispose]();
  if (compose) execFileSync("rm", ["-rf", join(compose.directory, `clouds-${process.pid}`)]);
});

test("the whole compose is released: images offered or candidates as configured, messages sent", async () => {
  expect(released.stderr).not.toContain("error");
  expect(released.code).toBe(0);
  expect(JSON.parse(released.stdout).result).toBe("done");
  expectOneImageEach(stage, AMIS, { public: false });
  for (const image of stage.rehearsal.simulators.aws.state.images()) expect([...image.permissions]).toEqual([PARTNER]);
  expectOneVersionEach(stage, DEFINITIONS);

  const { images, containers } = JSON.parse((await stage.slipway(["images", "list", "--output", "json"])).stdout);
  // Nothing was made of the qcow2, for which no rule asks.
  expect(Object.keys(images).sort()).toEqual([...AMIS, ...DEFINITIONS.map((name) => `${name}/43.20251021.0`)].sort());
  expect(containers.map((one: { repository: string }) => one.repository).sort()).toEqual(["fedora", "fedora-minimal"]);

  const events = JSON.parse((await stage.slipway(["events", "list", "--sent", "--output", "json"])).stdout);
  const topic = "fedora_image_uploader.published.v1";
  const topics: string[] = events.map((event: { topic: string }) => event.topic).sort();
  expect(topics.filter((one) => one.includes(".attested."))).toHaveLength(6);
  expect(topics.filter((one) => !one.includes(".attested."))).toEqual([
    `${topic}.aws.rc.Cloud_Base.aarch64`,
    `${topic}.aws.rc.Cloud_Base.x86_64`,
    `${topic}.azure.rc.Cloud_Base.aarch64`,
    `${topic}.azure.rc.Cloud_Base.x86_64`,
    `${topic}.container.rc.fedora`,
    `${topic}.container.rc.fedora-minimal`,
  ]);
});

test("nothing of a disk was written to a file", () => {
  const large = [...taken.files].filter(([, bytes]) => bytes > MiB);
  expect(large).toEqual([]);
  // Files that were unlinked at once count here too. What is left is the process's own odds and ends.
  expect(taken.writtenBytes).toBeLessThan(16 * MiB);
});

test("the AMI's bytes, read back through EBS direct, are the disk's, and they boot", async () => {
  const path = join(stage.directory, "read-back.raw");
  const { size } = statSync(compose.disk);
  const blocks = await readSnapshot(stage.rehearsal, await snapshotOf(stage.rehearsal, X86), path, size);
  expect(blocks).toBeGreaterThan(0);
  expect(await firstDifference(path, compose.disk)).toBeUndefined();

  const { serial, off, seconds } = await boot(path, 180_000);
  expect(serial).toContain("DISK-BOOT-OK");
  expect(off).toBe(true);
  console.log(`the disk that was read back booted and turned itself off in ${seconds.toFixed(0)} s`);
}, 300_000);

test("what it took is told", async () => {
  const logs = await stage.slipway(["runs", "logs", "--last", "--output", "json"]);
  const uploads = logs.stdout
    .split("\n")
    .filter((line) => line.includes('"disk uploaded"'))
    .map((line) => JSON.parse(line).fields as Upload);
  expect(uploads.length).toBe(4);
  for (const upload of uploads) expect(upload.peakMemoryBytes).toBeGreaterThan(0);

  const files = new Map<number, number>();
  const directory = join(compose.directory, compose.id, "compose");
  const images = uploads.map((upload) => {
    const file = join(directory, upload.artifact);
    const { ino, size } = statSync(file);
    // Both architectures are one file by two names.
    const xzSeconds = files.get(ino) ?? timeXz(file);
    files.set(ino, xzSeconds);
    return {
      artifact: upload.artifact,
      fileMiB: Math.round(size / MiB),
      virtualMiB: Math.round(upload.virtualBytes / MiB),
      sentMiB: Math.round(upload.sentBytes / MiB),
      seconds: rounded(upload.seconds),
      xzSeconds: rounded(xzSeconds),
      ratio: rounded(upload.seconds / xzSeconds),
      peakMemoryMiB: Math.round(upload.peakMemoryBytes / MiB),
    };
  });
  const xzSeconds = images.reduce((total, image) => total + image.xzSeconds, 0);
  const result = {
    what: "real-disk",
    composeMiB: Math.round((await bytesUnder(directory)) / MiB),
    images,
    releaseSeconds: rounded(seconds),
    xzSeconds: rounded(xzSeconds),
    ratio: rounded(seconds / xzSeconds),
    peakMemoryMiB: Math.round(taken.peakBytes / MiB),
    databaseMemoryMiB: Math.round(taken.childrenPeakBytes / MiB),
    writtenMiB: rounded(taken.writtenBytes / MiB),
    databaseWrittenMiB: rounded(taken.childrenWrittenBytes / MiB),
    // Above the number of cores, something else was running, and the ratios say little.
    load: rounded(load),
    cores: availableParallelism(),
    node: process.version,
    xz: spawnSync("xz", ["--version"], { encoding: "utf8" }).stdout.split("\n")[0],
  };
  console.log(JSON.stringify(result, null, 2));
  const results = process.env.SLIPWAY_BENCH_RESULTS;
  if (results === undefined) return;
  mkdirSync(results, { recursive: true });
  writeFileSync(join(results, "real-disk.json"), `${JSON.stringify(result, null, 2)}\n`);
}, 300_000);

interface Upload {
  readonly artifact: string;
  readonly virtualBytes: number;
  readonly sentBytes: number;
  readonly seconds: number;
  readonly peakMemoryBytes: number;
}

function timeXz(path: string): number {
  const started = performance.now();
  execFileSync("xz", ["-dc", "-T0", path], { stdio: ["ignore", "ignore", "inherit"] });
  return (performance.now() - started) / 1000;
}

function rounded(value: number): number {
  return Number(value.toFixed(2));
}

/** Offset of the piece in which two files are not the same. */
async function firstDifference(one: string, other: string): Promise<number | undefined> {
  await using left = await open(one);
  await using right = await open(other);
  const [here, there] = [Buffer.alloc(8 * MiB), Buffer.alloc(8 * MiB)];
  for (let at = 0; ; ) {
    const read = await left.read(here, 0, here.length, at);
    const also = await right.read(there, 0, there.length, at);
    if (read.bytesRead !== also.bytesRead) return at;
    if (read.bytesRead === 0) return undefined;
    if (!here.subarray(0, read.bytesRead).equals(there.subarray(0, read.bytesRead))) return at;
    at += read.bytesRead;
  }
}

async function bytesUnder(directory: string): Promise<number> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .reduce((total, entry) => total + statSync(join(entry.parentPath, entry.name)).size, 0);
}
