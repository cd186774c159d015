import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { quietCall } from "../lib/call.ts";
import { codeOf, SlipwayError } from "../lib/errors.ts";
import { BLOCK_BYTES, type Block, type BlockSource, type ReadOptions } from "./block-source.ts";
import { catchingUp, shareDisk } from "./shared-source.ts";

const call = quietCall();
const TOTAL = 10;
const SLOTS = 4;

/** A disk of ten blocks that holds back when four are not released, and counts its reads. */
function fakeDisk(failAt = Number.POSITIVE_INFINITY) {
  const state = { reads: 0, yielded: [] as number[], held: 0, stopped: false };
  let wake = () => {};
  const source: BlockSource = {
    bytes: TOTAL * BLOCK_BYTES,
    access: "random",
    async *read(options: ReadOptions): AsyncGenerator<Block> {
      state.reads++;
      options.signal.addEventListener("abort", () => wake());
      try {
        for (let index = 0; index < TOTAL; index++) {
          if (!(options.wanted?.(index) ?? true)) continue;
          while (state.held >= SLOTS && !options.signal.aborted) {
            await new Promise<void>((resolve) => {
              wake = resolve;
            });
          }
          if (options.signal.aborted) throw new SlipwayError("cancelled", "stopped");
          if (index === failAt) throw new SlipwayError("corrupt", "bad bytes");
          state.yielded.push(index);
          state.held++;
          const data = Buffer.alloc(16, index + 1);
          yield {
            ...{ index, data, sha256: createHash("sha256").update(data).digest() },
            release() {
              state.held--;
              wake();
            },
          };
          options.onUnit?.(index, Buffer.from([index]));
        }
      } finally {
        state.stopped = true;
      }
    },
    async close() {},
  };
  return { source, state };
}

async function drain(reader: BlockSource, options: Partial<ReadOptions> = {}, stopAfter = TOTAL): Promise<number[]> {
  const seen: number[] = [];
  for await (const block of reader.read({ ...call, ...options })) {
    seen.push(block.index);
    block.release();
    if (seen.length === stopAfter) break;
  }
  await reader.close();
  return seen;
}

const everything = Array.from({ length: TOTAL }, (_, index) => index);

describe("readers of one disk", () => {
  test("share one read, and each gets what it wants", async () => {
    const { source, state } = fakeDisk();
    const [one, two, three] = shareDisk(source, 3);
    const results = await Promise.all([
      drain(one!),
      drain(two!, { wanted: (index) => index % 2 === 0 }),
      drain(three!, { wanted: () => false }),
    ]);
    expect(results).toEqual([everything, [0, 2, 4, 6, 8], []]);
    expect(state).toMatchObject({ reads: 1, held: 0 });
  });

  test("wait for all who have not said they stay out", async () => {
    const { source, state } = fakeDisk();
    const [one, two] = shareDisk(source, 2);
    const reading = drain(one!);
    await Promise.resolve();
    expect(state.reads).toBe(0);
    await two!.close();
    expect(await reading).toEqual(everything);
  });

  test("are not held up by one that stops, fails or closes", async () => {
    const { source, state } = fakeDisk();
    const [one, two, three] = shareDisk(source, 3);
    const failing = (async () => {
      for await (const block of two!.read(call)) {
        block.release();
        throw new Error("the cloud said no");
      }
    })();
    const [all, few] = await Promise.all([
      drain(one!),
      drain(three!, {}, 2),
      expect(failing).rejects.toThrow("said no"),
    ]);
    expect(all).toEqual(everything);
    expect(few).toEqual([0, 1]);
    expect(state.held).toBe(0);
  });

  test("all hear of an error, and of units", async () => {
    const { source } = fakeDisk(5);
    const readers = shareDisk(source, 2);
    const units: number[] = [];
    const errors = await Promise.all(
      readers.map((reader) =>
        drain(reader, { onUnit: (unit) => void units.push(unit) }).catch((error: unknown) => codeOf(error)),
      ),
    );
    expect(errors).toEqual(["corrupt", "corrupt"]);
    expect(units.toSorted()).toEqual([0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
  });

  test("end the read when none is left", async () => {
    const { source, state } = fakeDisk();
    const [one, two] = shareDisk(source, 2);
    const stop = new AbortController();
    const aborted = drain(one!, { signal: stop.signal }).catch((error: unknown) => codeOf(error));
    const stuck = (async () => {
      for await (const _ of two!.read(call)) stop.abort();
    })().catch((error: unknown) => codeOf(error));
    expect(await aborted).toBe("cancelled");
    await two!.close();
    expect(await stuck).toBe("cancelled");
    await expect.poll(() => state.stopped).toBe(true);
  });

  test("may read again", async () => {
    const { source, state } = fakeDisk();
    const [one, two] = shareDisk(source, 2);
    const both = async (reader: BlockSource) => [await drain(reader), await drain(reader)];
    expect(await Promise.all([both(one!), drain(two!)])).toEqual([[everything, everything], everything]);
    expect(state.reads).toBe(2);
  });

  test("that remember different files are refused", async () => {
    const { source } = fakeDisk();
    const readers = shareDisk(source, 2);
    const codes = await Promise.all(
      readers.map((reader, position) =>
        drain(reader, { knownUnits: new Map([[0, Buffer.from([position])]]) }).catch((error: unknown) => codeOf(error)),
      ),
    );
    expect(codes).toEqual(["corrupt", "corrupt"]);
  });
});

describe("readers that need not wait for each other", () => {
  const pace = { behindBlocks: 3, patienceMs: 5 };

  test("one that keeps its blocks is left behind, and reads the rest after the others", async () => {
    const { source, state } = fakeDisk();
    const [quick, other, slow] = shareDisk(source, 3, pace);
    const acked = new Set<number>();
    let attempts = 0;
    const caughtUp = catchingUp(async () => {
      const held: Block[] = [];
      attempts++;
      const wanted = (index: number) => !acked.has(index);
      try {
        for await (const block of slow!.read({ ...call, wanted })) {
          held.push(block);
          if (attempts > 1) {
            acked.add(held.pop()!.index);
            block.release();
          }
        }
      } finally {
        // What was given out is given back by who has it.
        for (const block of held) block.release();
      }
    });
    const results = await Promise.all([drain(quick!), drain(other!)]);
    await caughtUp;
    expect(results).toEqual([everything, everything]);
    expect([...acked]).toEqual(everything);
    expect({ attempts, reads: state.reads, held: state.held }).toEqual({ attempts: 2, reads: 2, held: 0 });
  });

  test("those that are ready do not wait for one that never begins", async () => {
    const { source, state } = fakeDisk();
    const [one, two, late] = shareDisk(source, 3, pace);
    expect(await Promise.all([drain(one!), drain(two!)])).toEqual([everything, everything]);
    expect(await drain(late!)).toEqual(everything);
    expect(state.reads).toBe(2);
  });

  test("all equally slow is nobody's fault", async () => {
    const { source, state } = fakeDisk();
    const [one, two] = shareDisk(source, 2, { behindBlocks: 3, patienceMs: 0 });
    const together = async (reader: BlockSource) => {
      let seen = 0;
      const held: Block[] = [];
      for await (const block of reader.read({ ...call })) {
        held.push(block);
        seen++;
        if (held.length < 4 && seen < TOTAL) continue;
        await new Promise((resolve) => setTimeout(resolve, 1));
        for (const one of held.splice(0)) one.release();
      }
      await reader.close();
      return seen;
    };
    expect(await Promise.all([together(one!), together(two!)])).toEqual([TOTAL, TOTAL]);
    expect(state.reads).toBe(1);
  });
});
