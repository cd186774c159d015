/**
 * What an upload takes, against the two things it cannot be faster than, in the same run and on the same core:
 * decoding alone (`xz -dc -T0 > /dev/null`) and the wire alone (a bare client that sends requests made beforehand).
 *
 * The simulated cloud has the other core to itself: receiving and checking the bytes is work that a real cloud does
 * elsewhere (docs/decisions/0005-the-server-apart.md). The rows "shared" say what happens when both share both.
 *
 *   node bench/upload.ts [DISK ...]      default: all of them; names as the rows have them
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { memoryJournal } from "../src/images/journal.ts";
import { openDisk } from "../src/images/open-disk.ts";
import { quietCall } from "../src/lib/call.ts";
import { MiB } from "../src/lib/units.ts";
import { type BenchCloudName, CLOUDS, type Variant } from "./lib/clouds.ts";
import { type BenchDisk, madeUpDisk, realDisk } from "./lib/disks.ts";
import { askChild, CLIENT_CORE, canPin, SERVER_CORE, timed } from "./lib/pinned.ts";
import { type Clouds, startServer } from "./lib/server.ts";
import { sendBare } from "./lib/wire.ts";

interface Task {
  readonly what: "upload" | "wire";
  readonly cloud: BenchCloudName;
  readonly variant: Variant;
  readonly disk: BenchDisk;
  readonly clouds: Clouds;
}

interface Measured {
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly sentBytes: number;
  readonly nonZeroBytes: number;
  readonly peakMemoryMiB: number;
}

const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 3);
const self = fileURLToPath(import.meta.url);

if (process.argv[2]?.startsWith("{")) await measure(JSON.parse(process.argv[2]) as Task);
else await compare(process.argv.slice(2));

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
      if (name === "real disk") rows.push(await row(disk, "aws", { zeros: "skip" }, false));
      const figures = { virtualMiB: disk.virtualBytes / MiB, fileMiB: Math.round(disk.bytes / MiB) };
      console.log(JSON.stringify({ what: `upload, ${disk.name}`, ...figures, rounds: ROUNDS, rows }));
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Best of the rounds: what was in the way of the others was not ours. */
async function row(disk: BenchDisk, cloud: BenchCloudName, variant: Variant, apart: boolean) {
  const clientCore = apart ? CLIENT_CORE : undefined;
  const best = { decode: Number.POSITIVE_INFINITY, wire: Number.POSITIVE_INFINITY };
  let upload: Measured | undefined;
  for (let round = 0; round < ROUNDS; round++) {
    // A server of its own for each: nothing that is there already makes the next one faster.
    await using server = await startServer(apart ? SERVER_CORE : undefined);
    const task = { cloud, variant, disk, clouds: server.clouds };
    best.decode = Math.min(best.decode, await timed(clientCore, ["xz", "-dc", "-T0", disk.path]));
    const wire = await askChild<Measured>(clientCore, self, { what: "wire", ...task });
    best.wire = Math.min(best.wire, wire.seconds);
    const one = await askChild<Measured>(clientCore, self, { what: "upload", ...task });
    if (upload === undefined || one.seconds < upload.seconds) upload = one;
  }
  const { seconds, cpuSeconds, sentBytes, nonZeroBytes, peakMemoryMiB } = upload!;
  return {
    cloud,
    zeros: variant.zeros === "write" ? "written" : "skipped",
    cores: apart && canPin ? "apart" : "shared",
    seconds: rounded(seconds),
    decodeSeconds: rounded(best.decode),
    wireSeconds: rounded(best.wire),
    ratio: rounded(seconds / Math.max(best.decode, best.wire)),
    cpuSeconds: rounded(cpuSeconds),
    sentMiB: Math.round(sentBytes / MiB),
    sentToNonZero: rounded(sentBytes / nonZeroBytes),
    peakMemoryMiB,
  };
}

async function measure(task: Task): Promise<void> {
  const cloud = CLOUDS[task.cloud];
  const { path, bytes, sha256, format } = task.disk;
  const call = quietCall();
  const disk = await openDisk({ url: path, bytes, sha256, format }, { wants: cloud.wants }, call);
  let nonZeroBytes = 0;
  let result: Omit<Measured, "peakMemoryMiB" | "nonZeroBytes">;
  if (task.what === "wire") {
    const blocks = new Map<number, { data: Uint8Array; sha256: Uint8Array }>();
    for await (const block of disk.read(call)) {
      blocks.set(block.index, { data: Uint8Array.from(block.data), sha256: Uint8Array.from(block.sha256) });
      block.release();
    }
    const requests = await cloud.bare(task.clouds, blocks, disk.bytes, task.variant);
    const cpu = process.cpuUsage();
    const [first, ...rest] = requests;
    const send = (what: typeof requests, connections: number) =>
      sendBare(cloud.server(task.clouds), task.clouds.caPem, connections, what);
    // Azure's first request makes the blob that the others write to.
    const seconds = (await send([first!], 1)) + (await send(rest, cloud.connections));
    const sentBytes = requests.reduce((sum, { body }) => sum + body.length, 0);
    result = { seconds, cpuSeconds: cpuSince(cpu), sentBytes };
  } else {
    const driver = await cloud.open(task.clouds, task.variant);
    let sentBytes = 0;
    const started = performance.now();
    const cpu = process.cpuUsage();
    const counted = {
      ...disk,
      async *read(options: Parameters<typeof disk.read>[0]) {
        for await (const block of disk.read(options)) {
          nonZeroBytes += block.data.length;
          yield block;
        }
      },
    };
    await driver.upload(counted, cloud.spec(disk.bytes), memoryJournal(), {
      ...call,
      onProgress: (progress) => {
        // The last word, that all is there, says nothing of how it came there.
        sentBytes = Math.max(sentBytes, progress.sentBytes);
      },
    });
    result = { seconds: (performance.now() - started) / 1000, cpuSeconds: cpuSince(cpu), sentBytes };
    await driver.close();
  }
  await disk.close();
  const peakMemoryMiB = Math.round(process.resourceUsage().maxRSS / 1024);
  process.stdout.write(JSON.stringify({ ...result, nonZeroBytes, peakMemoryMiB } satisfies Measured));
}

function cpuSince(before: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}
