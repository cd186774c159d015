import { expect, test } from "vitest";
import { BLOCK_BYTES } from "../../images/block-source.ts";
import { silent } from "../../lib/call.ts";
import { MiB } from "../../lib/units.ts";
import { CloudError } from "../errors.ts";
import { fakeDisk } from "../testing/disks.ts";
import { type PageWriter, pageWriter } from "./page-writer.ts";
import { adaptiveWindow } from "./window.ts";

const busy = () => new CloudError("throttled", "busy", { cloud: "azure", operation: "Put Page" });

interface Scene {
  readonly writer: PageWriter;
  readonly writes: { offset: number; bytes: number; first: number }[];
  readonly acked: number[];
  readonly units: number[];
  most: number;
}

function scene(put: (offset: number) => Promise<void> = async () => {}, inFlight = 4): Scene {
  const writes: Scene["writes"] = [];
  const acked: number[] = [];
  const units: number[] = [];
  let now = 0;
  const made: Scene = {
    writes,
    acked,
    units,
    most: 0,
    writer: pageWriter({
      window: adaptiveWindow(inFlight),
      inFlight,
      retryMs: 1,
      signal: new AbortController().signal,
      log: silent,
      async put(offset, data) {
        now++;
        made.most = Math.max(made.most, now);
        try {
          await put(offset);
          writes.push({ offset, bytes: data.length, first: data[0]! });
        } finally {
          now--;
        }
      },
      onAcked: (index) => acked.push(index),
      onUnit: (unit) => units.push(unit),
    }),
  };
  return made;
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index);

test("neighbours of one group are one write, each block is acknowledged once, none is kept", async () => {
  const disk = fakeDisk(64 * MiB, range(0, 128));
  const { writer, writes, acked } = scene();
  await writer.drain((signal) => disk.read({ signal, log: silent }));
  expect(acked.sort((a, b) => a - b)).toEqual(range(0, 128));
  expect(writes.reduce((sum, write) => sum + write.bytes, 0)).toBe(64 * MiB);
  expect(Math.max(...writes.map((write) => write.bytes))).toBeLessThanOrEqual(4 * MiB);
  expect(disk.held()).toBe(0);
  // The fake decoder overwrites what was given back: 0xdd would be its mark.
  const firsts = new Set(writes.map((write) => write.first));
  expect(firsts.size).toBeGreaterThan(1);
});

test("no more writes are under way than allowed, however fast the source is", async () => {
  const disk = fakeDisk(32 * MiB, range(0, 64));
  const made = scene(() => new Promise((resolve) => setTimeout(resolve, 1)), 3);
  await made.writer.drain((signal) => disk.read({ signal, log: silent }));
  expect(made.most).toBeLessThanOrEqual(3);
});

test("a source that pauses has its blocks sent meanwhile", async () => {
  const disk = fakeDisk(8 * MiB, [0, 9]);
  const { writer, acked } = scene();
  await writer.drain(async function* (signal) {
    for await (const block of disk.read({ signal, log: silent })) {
      const before = acked.length;
      yield block;
      while (acked.length === before) await new Promise((resolve) => setTimeout(resolve, 1));
    }
  });
  expect(acked).toHaveLength(2);
});

test("a unit is told of only when all blocks before its end are acknowledged", async () => {
  let release = () => {};
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  const disk = fakeDisk(2 * BLOCK_BYTES, [0, 1]);
  const { writer, units, acked } = scene(() => gate);
  const done = writer.drain(async function* (signal) {
    yield* disk.read({ signal, log: silent });
    writer.unit(7, new Uint8Array(32));
    expect(units).toEqual([]);
    release();
  });
  await done;
  expect(acked).toHaveLength(2);
  expect(units).toEqual([7]);
});

test("a busy answer is repeated, a refusal ends the read at once with the refusal itself", async () => {
  let failures = 2;
  const patient = scene(async () => {
    if (failures-- > 0) throw busy();
  });
  await patient.writer.drain((signal) => fakeDisk(BLOCK_BYTES, [0]).read({ signal, log: silent }));
  expect(patient.acked).toEqual([0]);

  const refused = scene(async () => {
    throw new CloudError("forbidden", "no", { cloud: "azure", operation: "Put Page" });
  });
  const disk = fakeDisk(64 * MiB, range(0, 128));
  await expect(refused.writer.drain((signal) => disk.read({ signal, log: silent }))).rejects.toMatchObject({
    code: "forbidden",
  });
  expect(disk.held()).toBe(0);
});
