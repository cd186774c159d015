/** One upload, or its bytes without it, in a process of its own, so that memory and time are of nothing else. */
import type { Cloud, UploadContext } from "../../src/clouds/cloud.ts";
import { type BlockSource, virtualBytes } from "../../src/images/block-source.ts";
import { memoryJournal } from "../../src/images/journal.ts";
import { openDisk } from "../../src/images/open-disk.ts";
import { quietCall } from "../../src/lib/call.ts";
import type { ImageSpec } from "../../src/model.ts";
import { type BenchCloud, type BenchCloudName, CLOUDS, type Variant } from "./clouds.ts";
import type { BenchDisk } from "./disks.ts";
import type { Clouds } from "./server.ts";
import { sendBare } from "./wire.ts";

export interface Task {
  readonly what: "upload" | "wire";
  readonly cloud: BenchCloudName;
  readonly variant: Variant;
  readonly disk: BenchDisk;
  readonly clouds: Clouds;
  /** Stopped when this share of the disk has been sent, and gone on with by another driver with the same journal. */
  readonly stopAt?: number;
  /** Written to each of these from the source, side by side. Default: to one. */
  readonly regions?: readonly string[];
  /** Uploaded to the first of these, registered there and copied to the others. */
  readonly copies?: readonly string[];
}

export interface Measured {
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly sentBytes: number;
  readonly nonZeroBytes: number;
  readonly peakMemoryMiB: number;
  /** Of an upload that was stopped: what it took from there on. */
  readonly resumed?: { readonly seconds: number; readonly sentBytes: number; readonly decodedBytes: number };
}

await measure(JSON.parse(process.argv[2]!) as Task);

async function measure(task: Task): Promise<void> {
  const cloud: BenchCloud = CLOUDS[task.cloud];
  const { path, bytes, sha256, format } = task.disk;
  const call = quietCall();
  const disk = await openDisk(
    { url: path, bytes, sha256, format },
    { wants: cloud.wants, keep: cloud.keep, copied: cloud.copies },
    call,
  );
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
    const context = {
      ...call,
      onProgress: (progress: { sentBytes: number }) => {
        // The last word, that all is there, says nothing of how it came there.
        sentBytes = Math.max(sentBytes, progress.sentBytes);
      },
    };
    const spec = cloud.spec(virtualBytes(disk));
    if (task.stopAt !== undefined) {
      const all = { ...task, stopAt: task.stopAt };
      const resumed = await stoppedAndResumed(all, cloud, counted, spec, call, () => nonZeroBytes);
      await driver.close();
      await disk.close();
      const peakMemoryMiB = Math.round(process.resourceUsage().maxRSS / 1024);
      const seconds = (performance.now() - started) / 1000;
      const said: Measured = { seconds, cpuSeconds: cpuSince(cpu), sentBytes, nonZeroBytes, peakMemoryMiB, resumed };
      process.stdout.write(JSON.stringify(said));
      return;
    }
    if (task.copies !== undefined) await copied(driver, counted, spec, task.copies, context);
    else if (task.regions === undefined) await driver.upload(counted, spec, memoryJournal(), context);
    else await toRegions(driver, counted, spec, task.regions, context);
    result = { seconds: (performance.now() - started) / 1000, cpuSeconds: cpuSince(cpu), sentBytes };
    await driver.close();
  }
  await disk.close();
  const peakMemoryMiB = Math.round(process.resourceUsage().maxRSS / 1024);
  process.stdout.write(JSON.stringify({ ...result, nonZeroBytes, peakMemoryMiB } satisfies Measured));
}

async function stoppedAndResumed(
  task: Task & { readonly stopAt: number },
  cloud: BenchCloud,
  disk: BlockSource,
  spec: ImageSpec,
  call: UploadContext,
  decoded: () => number,
): Promise<NonNullable<Measured["resumed"]>> {
  const journal = memoryJournal();
  const stop = new AbortController();
  const first = await cloud.open(task.clouds, task.variant);
  const onProgress = ({ doneBytes, totalBytes }: { doneBytes: number; totalBytes: number }) => {
    if (doneBytes >= task.stopAt * totalBytes) stop.abort();
  };
  await first.upload(disk, spec, journal, { ...call, signal: stop.signal, onProgress }).catch(() => {});
  await first.close();
  const before = decoded();
  let sentBytes = 0;
  const second = await cloud.open(task.clouds, task.variant);
  const began = performance.now();
  await second.upload(disk, spec, journal, {
    ...call,
    onProgress: (progress) => {
      sentBytes = Math.max(sentBytes, progress.sentBytes);
    },
  });
  const seconds = (performance.now() - began) / 1000;
  await second.close();
  return { seconds, sentBytes, decodedBytes: decoded() - before };
}

async function toRegions(
  driver: Cloud,
  disk: BlockSource,
  spec: ImageSpec,
  regions: readonly string[],
  call: UploadContext,
): Promise<void> {
  const wanted = { ...spec, regions };
  const journalOf = async () => ({ ...memoryJournal(), async [Symbol.asyncDispose]() {} });
  for await (const outcome of driver.uploadEach!(disk, wanted, regions, journalOf as never, call)) {
    if ("error" in outcome) throw new Error(`${outcome.region}: ${outcome.error.message}`);
  }
}

async function copied(
  driver: Cloud,
  disk: BlockSource,
  spec: ImageSpec,
  regions: readonly string[],
  call: UploadContext,
): Promise<void> {
  const wanted = { ...spec, regions };
  const staged = await driver.upload(disk, wanted, memoryJournal(), call);
  const image = await driver.register(staged, wanted, call);
  for await (const outcome of driver.replicate(image, wanted, regions, call)) {
    if ("error" in outcome) throw new Error(`${outcome.region}: ${outcome.error.message}`);
  }
}

function cpuSince(before: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}
