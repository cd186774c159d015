/**
 * Disks made of nothing: sources for tests, with known contents, no file and no decoder behind them.
 */
import { createHash } from "node:crypto";
import { BLOCK_BYTES, type Block, type BlockSource, blockCount, type ReadOptions } from "../../images/block-source.ts";
import { SlipwayError } from "../../lib/errors.ts";

export interface FakeDisk extends BlockSource {
  /** Blocks that were yielded and not given back yet: 0 when a reader has done its duty. */
  held(): number;
  /** How often each block was yielded, over all reads. */
  readonly yielded: ReadonlyMap<number, number>;
}

/**
 * Slots the fake decoder has. A reader that keeps more blocks than this waits for itself, as with the real decoder,
 * whose slots have to fit into 256 MiB.
 */
const SLOTS = 32;

/**
 * A disk of `bytes` whose listed blocks hold noise that depends on `seed` and the index, and is zero elsewhere.
 * Blocks are yielded in a scrambled order, because a real decoder promises none.
 * @param tail replaces the disk's last bytes, for formats with a footer
 * @param forward in the disk's order instead, and telling of zeros on the way: what real decoders do, promised or not
 */
export function fakeDisk(
  bytes: number,
  nonZeroIndexes: readonly number[],
  seed = "disk",
  tail?: Uint8Array,
  forward = false,
): FakeDisk {
  const yielded = new Map<number, number>();
  const wantedOrder = [...new Set(nonZeroIndexes)].filter((index) => index < blockCount(bytes));
  if (tail && !wantedOrder.includes(blockCount(bytes) - 1)) wantedOrder.push(blockCount(bytes) - 1);
  wantedOrder.sort((a, b) => (forward ? a - b : scramble(a) - scramble(b)));

  let held = 0;
  let wake: (() => void) | undefined;

  function dataOf(index: number): Uint8Array {
    const start = index * BLOCK_BYTES;
    const data = nonZeroIndexes.includes(index)
      ? noise(Math.min(BLOCK_BYTES, bytes - start), `${seed}/${index}`)
      : new Uint8Array(Math.min(BLOCK_BYTES, bytes - start));
    if (tail && start + data.length === bytes) data.set(tail, data.length - tail.length);
    return data;
  }

  return {
    bytes,
    access: "random",
    yielded,
    held: () => held,
    async *read(options: ReadOptions): AsyncGenerator<Block> {
      let passed = 0;
      for (const index of wantedOrder) {
        if (forward) for (; passed < index; passed++) if (!wantedOrder.includes(passed)) options.onZero?.(passed);
        if (options.wanted && !options.wanted(index)) continue;
        while (held >= SLOTS) await Promise.race([new Promise<void>((go) => (wake = go)), aborted(options.signal)]);
        if (options.signal.aborted) throw new SlipwayError("cancelled", "Reading the disk was stopped.");
        const data = dataOf(index);
        held++;
        yielded.set(index, (yielded.get(index) ?? 0) + 1);
        let released = false;
        yield {
          index,
          data,
          sha256: createHash("sha256").update(data).digest(),
          release() {
            if (released) throw new Error(`block ${index} was released twice`);
            released = true;
            held--;
            // What a reader still sends after giving the slot back has been overwritten, as in the real decoder.
            data.fill(0xdd);
            wake?.();
          },
        };
      }
      options.onProgress?.({ bytesRead: bytes, bytesTotal: bytes });
    },
    async close() {},
  };
}

/** The same disk, but `onBlock` runs before each block is handed over, and may throw or abort. Counts from 1. */
export function tapped(
  disk: BlockSource,
  onBlock: (count: number, index: number) => void | Promise<void>,
): BlockSource {
  return {
    bytes: disk.bytes,
    access: disk.access,
    close: () => disk.close(),
    async *read(options) {
      let count = 0;
      for await (const block of disk.read(options)) {
        count++;
        try {
          await onBlock(count, block.index);
        } catch (error) {
          block.release();
          throw error;
        }
        yield block;
      }
    },
  };
}

/** A disk whose file proves to be wrong after `blocks` blocks were handed over, or at its very end. */
export function corruptAfter(disk: BlockSource, blocks: number | "all"): BlockSource {
  const wrong = () => new SlipwayError("corrupt", "The file does not have the SHA-256 its metadata names.");
  if (blocks !== "all") {
    return tapped(disk, (count) => {
      if (count > blocks) throw wrong();
    });
  }
  return {
    bytes: disk.bytes,
    access: disk.access,
    close: () => disk.close(),
    async *read(options) {
      yield* disk.read(options);
      throw wrong();
    },
  };
}

/** SHA-256 of every block of a disk, zero ones included, as `readBack` shall report them. */
export async function digestsOf(disk: BlockSource, call: ReadOptions): Promise<string[]> {
  const count = blockCount(disk.bytes);
  const digests = Array.from({ length: count }, (_, index) => {
    const bytes = Math.min(BLOCK_BYTES, disk.bytes - index * BLOCK_BYTES);
    return createHash("sha256").update(new Uint8Array(bytes)).digest("hex");
  });
  for await (const block of disk.read({ signal: call.signal, log: call.log })) {
    digests[block.index] = Buffer.from(block.sha256).toString("hex");
    block.release();
  }
  return digests;
}

function noise(bytes: number, seed: string): Uint8Array {
  const words = new Uint32Array(Math.ceil(bytes / 4));
  let state = createHash("sha256").update(seed).digest().readUInt32LE(0) | 1;
  for (let i = 0; i < words.length; i++) {
    // xorshift32: incompressible enough, and every run makes the same bytes.
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return new Uint8Array(words.buffer, 0, bytes);
}

function scramble(index: number): number {
  return Math.imul(index + 1, 2654435761) >>> 0;
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
