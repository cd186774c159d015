/**
 * Blocks in the making: memory for them, decompression beside the reading, and the queue a reader takes them from.
 *
 * Memory is counted in slots of one block. Half of them is for blocks that lack clusters, and the plan never has more
 * open than that; the rest is for those who read. So a reader that keeps blocks stops the work, and nothing else does.
 */
import { webcrypto } from "node:crypto";
import { SlipwayError } from "../../lib/errors.ts";
import { BLOCK_BYTES, type Block } from "../block-source.ts";
import { decompressCluster } from "./decompress.ts";

export interface BuilderOptions {
  readonly url: string;
  readonly compression: "deflate" | "zstd";
  readonly clusterBytes: number;
  /** Virtual bytes: what a cluster has beyond them is dropped. */
  readonly contentEnd: number;
  /** End of the last block. */
  readonly diskEnd: number;
  /** Blocks a reader may keep; as many may be in the making. */
  readonly slots: number;
  /** In how many clusters a block lies. */
  readonly clustersOf: (block: number) => number;
  readonly onZero: ((block: number) => void) | undefined;
  /** After the block was yielded, or was found to be zero. */
  readonly onDone: (block: number) => void;
}

interface OpenBlock {
  readonly slot: Buffer;
  missing: number;
}

const ZEROS = Buffer.alloc(BLOCK_BYTES);
/** Decompressions and digests at a time: libuv has four threads, and none should wait for the reading. */
const JOBS = 8;

export class BlockBuilder {
  readonly #options: BuilderOptions;
  readonly #open = new Map<number, OpenBlock>();
  readonly #free: Buffer[] = [];
  readonly #jobs = new Set<Promise<void>>();
  readonly #stop = new AbortController();
  readonly #items: (Block | (() => void))[] = [];
  #slotsLeft: number;
  #failure: unknown;
  #ended = false;
  #wakeReader = () => {};
  #wakeWork = () => {};

  constructor(options: BuilderOptions) {
    this.#options = options;
    this.#slotsLeft = 2 * options.slots;
  }

  /** Carries out `work`, which opens and fills blocks, and yields them as they become whole. */
  async *run(work: (signal: AbortSignal) => Promise<void>, outer: AbortSignal): AsyncGenerator<Block> {
    const cancel = () => {
      const { url: subject } = this.#options;
      this.#fail(new SlipwayError("cancelled", "Reading was stopped.", { subject, cause: outer.reason }));
    };
    outer.addEventListener("abort", cancel, { signal: this.#stop.signal });
    if (outer.aborted) cancel();
    const working = this.#work(work);
    try {
      for (;;) {
        if (this.#failure !== undefined) throw this.#failure;
        const item = this.#items.shift();
        if (typeof item === "function") item();
        else if (item) yield item;
        else if (this.#ended) return;
        else {
          await new Promise<void>((resolve) => {
            this.#wakeReader = resolve;
          });
        }
      }
    } finally {
      this.#stop.abort();
      this.#wakeWork();
      await working;
    }
  }

  /** Makes room for a block that is not open yet. Waits while readers keep too many. */
  async open(block: number): Promise<void> {
    if (this.#open.has(block)) return;
    while (this.#free.length === 0 && this.#slotsLeft === 0) {
      await new Promise<void>((resolve) => {
        this.#wakeWork = resolve;
        if (this.#stop.signal.aborted) resolve();
      });
      this.#stop.signal.throwIfAborted();
    }
    let slot = this.#free.pop();
    if (slot) slot.fill(0);
    else {
      slot = Buffer.alloc(BLOCK_BYTES);
      this.#slotsLeft--;
    }
    this.#open.set(block, { slot, missing: this.#options.clustersOf(block) });
  }

  /** Copies what of these bytes, which lie at `at` on the disk, belongs to the open block. */
  put(block: number, at: number, bytes: Buffer): void {
    const start = block * BLOCK_BYTES;
    const from = Math.max(at, start);
    const to = Math.min(at + bytes.length, start + BLOCK_BYTES, this.#options.contentEnd);
    if (to > from) bytes.copy(this.#open.get(block)!.slot, from - start, from - at, to - at);
  }

  /** One more cluster of the block is there; the last one sends it off. */
  clusterDone(block: number): void {
    const state = this.#open.get(block)!;
    if (--state.missing > 0) return;
    this.#open.delete(block);
    this.#start(() => this.#finish(block, state.slot));
  }

  /**
   * Decompresses a cluster and puts it into its blocks, which are open. Returns when that has begun.
   * @param cluster its number on the disk, and where it lies in the file
   */
  async decompress(cluster: { guest: number; at: number }, data: Buffer, blocks: readonly number[]): Promise<void> {
    const { compression, clusterBytes, url } = this.#options;
    this.#start(async () => {
      const decoded = await decompressCluster(compression, data, clusterBytes, { at: cluster.at, url });
      for (const block of blocks) {
        this.put(block, cluster.guest * clusterBytes, decoded);
        this.clusterDone(block);
      }
    });
    while (this.#jobs.size >= JOBS) await Promise.race(this.#jobs);
    this.#stop.signal.throwIfAborted();
  }

  /** Something to say once all blocks before it were yielded. */
  say(what: () => void): void {
    this.#items.push(what);
    this.#wakeReader();
  }

  async #work(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    try {
      if (!this.#stop.signal.aborted) await work(this.#stop.signal);
    } catch (error) {
      this.#fail(error);
    }
    while (this.#jobs.size > 0) await Promise.race(this.#jobs);
    this.#ended = true;
    this.#wakeReader();
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    this.#stop.abort();
    this.#wakeReader();
    this.#wakeWork();
  }

  #start(job: () => Promise<void>): void {
    const running: Promise<void> = job()
      .catch((error: unknown) => this.#fail(error))
      .finally(() => this.#jobs.delete(running));
    this.#jobs.add(running);
  }

  async #finish(block: number, slot: Buffer): Promise<void> {
    const bytes = Math.min(BLOCK_BYTES, this.#options.diskEnd - block * BLOCK_BYTES);
    const data = slot.subarray(0, bytes);
    let released = false;
    const release = () => {
      if (released) return;
      released = true;
      this.#free.push(slot);
      this.#wakeWork();
    };
    if (data.equals(ZEROS.subarray(0, bytes))) {
      release();
      this.#options.onZero?.(block);
    } else {
      const sha256 = new Uint8Array(await webcrypto.subtle.digest("SHA-256", data));
      this.#items.push({ index: block, data, sha256, release });
    }
    this.say(() => this.#options.onDone(block));
  }
}
