/**
 * What another region costs when every region is written from the source: the disk is decoded and hashed once, so all that
 * is added is a put for each block. CPU time of our process, on its own core; the simulated cloud has the other. What a
 * put costs at least on this machine is said by the bare client, which only writes requests made beforehand.
 *
 * The row "copied" is the other way, CopyImage: our part of it is the home region's upload and a call for each of the
 * others. Written from the source is the quicker one wherever AWS takes longer for its copies than `copiesMayTakeSeconds`.
 *
 *   node bench/direct.ts
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { AWS_REGIONS } from "@slipway/rehearsal";
import { MiB } from "../src/lib/units.ts";
import { type BenchDisk, madeUpDisk } from "./lib/disks.ts";
import { askChild, CLIENT_CORE, canPin, SERVER_CORE } from "./lib/pinned.ts";
import { startServer } from "./lib/server.ts";
import type { Measured } from "./lib/upload-client.ts";

const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 2);
const client = fileURLToPath(new URL("./lib/upload-client.ts", import.meta.url));
const BLOCK = 512 * 1024;
const HOME = "us-east-1";
const OTHERS = AWS_REGIONS.filter((region) => ![HOME, "il-central-1", "me-central-1", "eu-south-2"].includes(region));

const folder = mkdtempSync(join(tmpdir(), "slipway-bench-"));
try {
  const disk = await madeUpDisk(folder, { name: "256 MiB without zeros", virtualMiB: 256, zeros: 0, preset: 0 });
  const blocks = disk.virtualBytes / BLOCK;
  const rows = [];
  let one: Measured | undefined;
  for (const count of [1, 8, 22]) {
    const regions = [HOME, ...OTHERS.slice(0, count - 1)];
    let best: Measured | undefined;
    for (let round = 0; round < ROUNDS; round++) {
      await using server = await startServer(SERVER_CORE);
      const task = { what: "upload", cloud: "aws", variant: { zeros: "skip" }, disk, clouds: server.clouds, regions };
      const measured = await askChild<Measured>(CLIENT_CORE, client, task);
      if (best === undefined || measured.cpuSeconds < best.cpuSeconds) best = measured;
    }
    one ??= best;
    const extraPuts = (count - 1) * blocks;
    const extra = best!.cpuSeconds - one!.cpuSeconds;
    rows.push({
      regions: count,
      seconds: rounded(best!.seconds),
      cpuSeconds: rounded(best!.cpuSeconds),
      // Handed out by the decoder: each block once, however many regions take it.
      blocksDecoded: Math.round(best!.nonZeroBytes / BLOCK),
      cpuMsPerExtraPut: extraPuts === 0 ? "" : rounded((extra * 1000) / extraPuts),
      peakMemoryMiB: best!.peakMemoryMiB,
    });
  }
  const bare = await bareMsPerPut(disk, blocks);
  const direct = rows.at(-1)!;
  const copied = await copyToAll(disk);
  const compared = {
    ...{ what: "replicate: direct against copy", regions: 22, virtualMiB: disk.virtualBytes / MiB },
    ...{ directSeconds: direct.seconds, directCpuSeconds: direct.cpuSeconds },
    ...{ copySeconds: rounded(copied.seconds), copyCpuSeconds: rounded(copied.cpuSeconds) },
    copiesMayTakeSeconds: rounded(Math.max(0, direct.seconds - copied.seconds)),
  };
  console.log(JSON.stringify(compared));
  const what = "replicate: direct, written from the source";
  console.log(
    JSON.stringify({
      what,
      virtualMiB: disk.virtualBytes / MiB,
      cores: canPin ? "apart" : "shared",
      rounds: ROUNDS,
      bareCpuMsPerPut: rounded(bare),
      rows,
    }),
  );
} finally {
  rmSync(folder, { recursive: true });
}

/** CPU time of the bare client for each put, its best round. */
async function bareMsPerPut(disk: BenchDisk, puts: number): Promise<number> {
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) {
    await using server = await startServer(SERVER_CORE);
    const task = { what: "wire", cloud: "aws", variant: { zeros: "skip" }, disk, clouds: server.clouds };
    best = Math.min(best, (await askChild<Measured>(CLIENT_CORE, client, task)).cpuSeconds);
  }
  return (best * 1000) / puts;
}

/** The home region's upload, an AMI of it, and CopyImage into the others, which takes no time at the simulated AWS. */
async function copyToAll(disk: BenchDisk): Promise<Measured> {
  await using server = await startServer(SERVER_CORE);
  const task = { what: "upload", cloud: "aws", variant: { zeros: "skip" }, disk, clouds: server.clouds };
  // Awaited here: the server ends with this function.
  return await askChild<Measured>(CLIENT_CORE, client, { ...task, copies: [HOME, ...OTHERS] });
}

function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}
