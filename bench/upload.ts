/**
 * What an upload takes, against the two things it cannot be faster than, in the same run and on the same core:
 * decoding alone (`xz -dc -T0 > /dev/null`) and the wire alone (a bare client that sends requests made beforehand).
 *
 * The simulated cloud has the other core to itself: receiving and checking the bytes is work that a real cloud does
 * elsewhere (docs/decisions/0005-the-server-apart.md). The rows "shared" say what happens when both share both. Rows with
 * "real" limits have the scenario `real-limits` before the cloud; what the limits alone take is reckoned, as the bare
 * client does not know how to be refused.
 *
 *   node bench/upload.ts [DISK ...]      default: all of them; names as the rows have them
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { MiB } from "../src/lib/units.ts";
import type { BenchCloudName, Variant } from "./lib/clouds.ts";
import { archived, type BenchDisk, madeUpDisk, realDisk } from "./lib/disks.ts";
import { askChild, CLIENT_CORE, canPin, SERVER_CORE, timed } from "./lib/pinned.ts";
import { startServer } from "./lib/server.ts";
import type { Measured, Task } from "./lib/upload-client.ts";

const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 3);
const client = fileURLToPath(new URL("./lib/upload-client.ts", import.meta.url));

/**
 * What the limits of `rehearsal/scenarios/real-limits.yaml` alone let an upload take, in seconds: requests beyond the
 * first second's at so many a second, or bytes at so many a second.
 */
const LIMIT_SECONDS: Record<BenchCloudName, (bytes: number) => number> = {
  aws: (bytes) => Math.max(0, bytes / (512 * 1024) - 1000) / 1000,
  azure: (bytes) => bytes / (60 * MiB),
  gcp: (bytes) => Math.max(0, bytes / (4 * MiB) - 1000) / 1000,
};

await compare(process.argv.slice(2));

async function compare(asked: readonly string[]): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "slipway-bench-"));
  try {
    const real = await realDisk();
    const wanted = (name: string) => asked.length === 0 || asked.includes(name);
    const makers: Record<string, () => Promise<BenchDisk>> = {
      "real disk": async () => real ?? madeUpDisk(folder, { name: "made-up disk", virtualMiB: 2048 }),
      "single block": () => madeUpDisk(folder, { name: "single block", virtualMiB: 1024, blockMiB: 0, preset: 9 }),
      "0 % zeros": () => madeUpDisk(folder, { name: "0 % zeros", virtualMiB: 1024, zeros: 0 }),
      "4 KiB sparse": () => madeUpDisk(folder, { name: "4 KiB sparse", virtualMiB: 1024, thin: true }),
      "20 GiB sparse": () => madeUpDisk(folder, { name: "20 GiB sparse", virtualMiB: 20480, filledMiB: 2048 }),
    };
    for (const [name, make] of Object.entries(makers)) {
      if (!wanted(name)) continue;
      const disk = await make();
      const rows = [];
      rows.push(await row(disk, "aws", { zeros: "skip" }, true));
      if (name !== "20 GiB sparse") rows.push(await row(disk, "aws", { zeros: "write" }, true));
      rows.push(await row(disk, "azure", { zeros: "skip" }, true));
      // Sent as it is: what it cannot be faster than is reading and hashing the file.
      if (name !== "20 GiB sparse") rows.push(await row(await archived(folder, disk), "gcp", { zeros: "skip" }, true));
      if (name === "real disk") {
        rows.push(await row(disk, "aws", { zeros: "skip" }, true, "real"));
        rows.push(await row(disk, "aws", { zeros: "write" }, true, "real"));
        rows.push(await row(disk, "azure", { zeros: "skip" }, true, "real"));
        rows.push(await row(await archived(folder, disk), "gcp", { zeros: "skip" }, true, "real"));
        rows.push(await row(disk, "aws", { zeros: "skip" }, false));
      }
      const figures = { virtualMiB: disk.virtualBytes / MiB, fileMiB: Math.round(disk.bytes / MiB) };
      console.log(JSON.stringify({ what: `upload, ${disk.name}`, ...figures, rounds: ROUNDS, rows }));
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Best of the rounds: what was in the way of the others was not ours. */
async function row(
  disk: BenchDisk,
  cloud: BenchCloudName,
  variant: Variant,
  apart: boolean,
  limits: "none" | "real" = "none",
) {
  const clientCore = apart ? CLIENT_CORE : undefined;
  const best = { decode: Number.POSITIVE_INFINITY, wire: Number.POSITIVE_INFINITY };
  let upload: Measured | undefined;
  for (let round = 0; round < ROUNDS; round++) {
    // A server of its own for each: nothing that is there already makes the next one faster.
    await using server = await startServer(apart ? SERVER_CORE : undefined);
    const task: Omit<Task, "what"> = { cloud, variant, disk, clouds: server.clouds };
    const decode = disk.format === "tar.gz" ? ["sha256sum", disk.path] : ["xz", "-dc", "-T0", disk.path];
    best.decode = Math.min(best.decode, await timed(clientCore, decode));
    const wire = await askChild<Measured>(clientCore, client, { what: "wire", ...task });
    best.wire = Math.min(best.wire, wire.seconds);
    await using limited = limits === "none" ? undefined : await startServer(SERVER_CORE, "real-limits");
    const there = limited?.clouds ?? server.clouds;
    const one = await askChild<Measured>(clientCore, client, { what: "upload", ...task, clouds: there });
    if (upload === undefined || one.seconds < upload.seconds) upload = one;
  }
  const { seconds, cpuSeconds, sentBytes, nonZeroBytes, peakMemoryMiB } = upload!;
  const limitSeconds = limits === "none" ? 0 : LIMIT_SECONDS[cloud](sentBytes);
  return {
    cloud,
    zeros: variant.zeros === "write" ? "written" : "skipped",
    limits,
    cores: apart && canPin ? "apart" : "shared",
    seconds: rounded(seconds),
    decodeSeconds: rounded(best.decode),
    wireSeconds: rounded(best.wire),
    limitSeconds: rounded(limitSeconds),
    ratio: rounded(seconds / Math.max(best.decode, best.wire, limitSeconds)),
    cpuSeconds: rounded(cpuSeconds),
    sentMiB: Math.round(sentBytes / MiB),
    sentToNonZero: rounded(sentBytes / nonZeroBytes),
    peakMemoryMiB,
  };
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}
