/**
 * How fast a disk comes out of its xz file: our reader, every block released at once, against `xz -dc -T0 > /dev/null`
 * on the same file in the same run. Prints one JSON line; the ratio is what counts, seconds are the machine's.
 *
 *   node bench/decode.ts [MIB] [BLOCK_MIB] [PRESET]        default 2048 MiB, 60 % zeros, blocks of 24 MiB, xz -6
 */
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createReadStream, createWriteStream, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";
import { type DiskArtifact, openDisk } from "../src/images/open-disk.ts";
import { makeDisk } from "../src/images/testing/make.ts";
import { quietCall } from "../src/lib/call.ts";
import { MiB } from "../src/lib/units.ts";

const ROUNDS = 3;

if (process.argv[2] === "--read") await readOnce(JSON.parse(process.argv[3]!) as DiskArtifact);
else await compare();

async function compare(): Promise<void> {
  const [virtualMiB = 2048, blockMiB = 24, preset = 6] = process.argv.slice(2).map(Number);
  const folder = mkdtempSync(join(tmpdir(), "slipway-bench-"));
  try {
    const path = join(folder, "disk.raw.xz");
    await makeFile(path, virtualMiB, blockMiB, preset);
    const hash = createHash("sha256");
    await pipeline(createReadStream(path), hash);
    const artifact = { url: path, bytes: statSync(path).size, sha256: hash.digest("hex"), format: "raw.xz" };

    const ours: { seconds: number; peakMemoryMiB: number }[] = [];
    const theirs: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      theirs.push(timeXz(path));
      // In a process of its own, so that its memory is the reader's and not that of making the disk.
      const self = fileURLToPath(import.meta.url);
      const child = spawnSync(process.execPath, [self, "--read", JSON.stringify(artifact)], { encoding: "utf8" });
      if (child.status !== 0) throw new Error(child.stderr);
      ours.push(JSON.parse(child.stdout));
    }
    const seconds = Math.min(...ours.map((round) => round.seconds));
    const xzSeconds = Math.min(...theirs);
    const line = {
      ...{ what: "decode", virtualMiB, fileMiB: Math.round(artifact.bytes / MiB), blockMiB, preset },
      ...{ seconds: Number(seconds.toFixed(2)), xzSeconds: Number(xzSeconds.toFixed(2)) },
      ratio: Number((seconds / xzSeconds).toFixed(2)),
      peakMemoryMiB: Math.max(...ours.map((round) => round.peakMemoryMiB)),
      node: process.version,
      xz: spawnSync("xz", ["--version"], { encoding: "utf8" }).stdout.split("\n")[0],
    };
    process.stdout.write(`${JSON.stringify(line)}\n`);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** In pieces through xz, whose one stream of many blocks is what it decodes in parallel itself. */
async function makeFile(path: string, virtualMiB: number, blockMiB: number, preset: number): Promise<void> {
  const xz = spawn("xz", ["-T0", `-${preset}`, `--block-size=${blockMiB}MiB`, "-c"], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const written = pipeline(xz.stdout, createWriteStream(path));
  for (let at = 0; at < virtualMiB; at += 16) {
    const piece = makeDisk(Math.min(16, virtualMiB - at) * MiB, { seed: at + 1 });
    if (!xz.stdin.write(piece)) await once(xz.stdin, "drain");
  }
  xz.stdin.end();
  await written;
}

function timeXz(path: string): number {
  const start = performance.now();
  const { status, error } = spawnSync("xz", ["-dc", "-T0", path], { stdio: ["ignore", "ignore", "inherit"] });
  if (error || status !== 0) throw error ?? new Error(`xz ended with ${status}`);
  return (performance.now() - start) / 1000;
}

async function readOnce(artifact: DiskArtifact): Promise<void> {
  const start = performance.now();
  const call = quietCall();
  const disk = await openDisk(artifact, { wants: "raw" }, call);
  for await (const block of disk.read(call)) block.release();
  await disk.close();
  const seconds = (performance.now() - start) / 1000;
  process.stdout.write(JSON.stringify({ seconds, peakMemoryMiB: Math.round(process.resourceUsage().maxRSS / 1024) }));
}
