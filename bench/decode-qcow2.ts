/**
 * How fast a disk comes out of its qcow2 file: our reader, every block hashed and released at once, against
 * `qemu-img convert` into nothing, which hashes nothing. One JSON line for each way to compress.
 *
 *   node bench/decode-qcow2.ts [MIB]        default 1024 MiB, 60 % zeros
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { closeSync, createReadStream, mkdtempSync, openSync, rmSync, statSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";
import { type DiskArtifact, openDisk } from "../src/images/open-disk.ts";
import { makeDisk } from "../src/images/testing/make.ts";
import { quietCall } from "../src/lib/call.ts";
import { MiB } from "../src/lib/units.ts";

const ROUNDS = 3;
const WAYS = { plain: [], deflate: ["-c"], zstd: ["-c", "-o", "compression_type=zstd"] };

if (process.argv[2] === "--read") await readOnce(JSON.parse(process.argv[3]!) as DiskArtifact);
else if (spawnSync("qemu-img", ["--version"]).error) console.log(JSON.stringify({ notRun: "qemu-img" }));
else await compare(Number(process.argv[2] ?? 1024));

async function compare(virtualMiB: number): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "slipway-bench-"));
  try {
    const raw = join(folder, "disk.raw");
    const file = openSync(raw, "w");
    for (let at = 0; at < virtualMiB; at += 16) {
      writeSync(file, makeDisk(Math.min(16, virtualMiB - at) * MiB, { seed: at + 1 }));
    }
    closeSync(file);
    const path = join(folder, "disk.qcow2");
    for (const [compression, options] of Object.entries(WAYS)) {
      run("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", ...options, raw, path]);
      const hash = createHash("sha256");
      await pipeline(createReadStream(path), hash);
      const artifact = { url: path, bytes: statSync(path).size, sha256: hash.digest("hex"), format: "qcow2" };
      const ours: { seconds: number; peakMemoryMiB: number }[] = [];
      const theirs: number[] = [];
      const nothing = ["-n", "--target-image-opts", `driver=null-co,size=${virtualMiB * MiB}`];
      for (let round = 0; round < ROUNDS; round++) {
        const start = performance.now();
        run("qemu-img", ["convert", "-f", "qcow2", ...nothing.slice(0, 1), path, ...nothing.slice(1)]);
        theirs.push((performance.now() - start) / 1000);
        const self = fileURLToPath(import.meta.url);
        ours.push(JSON.parse(run(process.execPath, [self, "--read", JSON.stringify(artifact)])));
      }
      const seconds = Math.min(...ours.map((round) => round.seconds));
      const qemuSeconds = Math.min(...theirs);
      const line = {
        ...{ what: "decode-qcow2", compression, virtualMiB, fileMiB: Math.round(artifact.bytes / MiB) },
        ...{ seconds: Number(seconds.toFixed(2)), qemuSeconds: Number(qemuSeconds.toFixed(2)) },
        ratio: Number((seconds / qemuSeconds).toFixed(2)),
        peakMemoryMiB: Math.max(...ours.map((round) => round.peakMemoryMiB)),
      };
      process.stdout.write(`${JSON.stringify(line)}\n`);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function run(program: string, args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: "utf8" });
  if (error || status !== 0) throw error ?? new Error(stderr);
  return stdout;
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
