/**
 * One decode for several writers. Each reads as if it were alone; together they pull at the pace of the slowest, unless
 * a pace says whom they need not wait for.
 */
import { SlipwayError } from "../lib/errors.ts";
import type { Block, BlockSource, ReadOptions } from "./block-source.ts";

/** Whom the others do not wait for. */
export interface SharedPace {
  /**
   * A reader that holds so many blocks, while half of the others hold a quarter of that or less, keeps them waiting. To
   * be smaller than the number of blocks the source hands out before one is released, or nobody is ever behind.
   */
  readonly behindBlocks: number;
  /**
   * How long a reader may go on keeping the others waiting before it is left behind, and how long those that are ready
   * wait for those that have not begun. Milliseconds.
   */
  readonly patienceMs: number;
}

/** What a reader gets that was left behind. It may read again: it goes on with all who were left behind with it. */
export class FellBehind extends SlipwayError {
  constructor() {
    super("unavailable", "It was slower than the others and was left behind; it is caught up after them.");
    this.name = "FellBehind";
  }
}

/** Runs `body`, and again whenever its reader was left behind: each time with fewer others, at last alone. */
export async function catchingUp<T>(body: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await body();
    } catch (error) {
      if (!(error instanceof FellBehind)) throw error;
    }
  }
}

/**
 * `count` sources that share one read of `source`.
 *
 * The read begins when every one of them has begun to read, or has said by `close()` that it will not. One that stops,
 * fails or closes leaves the others alone; when none is left the read ends. A block's memory is free again when all who
 * wanted it have released it. Who reads a second time after a finished read does not wait for anybody.
 * With a `pace`, who does not begin in time is left for a second read, and who falls behind gets `FellBehind`.
 * Closing them does not close `source`.
 */
export function shareDisk(source: BlockSource, count: number, pace?: SharedPace): BlockSource[] {
  const undecided = new Set<Reader>();
  let waiting: Reader[] = [];
  let running = false;
  let late: NodeJS.Timeout | undefined;

  function startWhenReady(): void {
    if (running || waiting.length === 0) return;
    if (undecided.size === 0) start();
    else if (pace !== undefined) late ??= setTimeout(start, pace.patienceMs);
  }

  function start(): void {
    clearTimeout(late);
    late = undefined;
    if (running || waiting.length === 0) return;
    running = true;
    const readers = waiting;
    waiting = [];
    void pump(source, readers, pace).finally(() => {
      running = false;
      startWhenReady();
    });
  }

  return Array.from({ length: count }, () => {
    let present: Reader | undefined;
    // Stands for this source in `undecided` until it reads or closes for the first time.
    const place = new Reader({ signal: new AbortController().signal, log: silentLog });
    undecided.add(place);
    return {
      bytes: source.bytes,
      access: source.access,
      ...(source.packed === undefined ? {} : { packed: source.packed }),
      async *read(options: ReadOptions) {
        const reader = new Reader(options);
        present = reader;
        undecided.delete(place);
        waiting.push(reader);
        startWhenReady();
        try {
          yield* reader.blocks();
        } finally {
          waiting = waiting.filter((other) => other !== reader);
          reader.leave();
        }
      },
      async close() {
        undecided.delete(place);
        present?.leave();
        startWhenReady();
      },
    };
  });
}

const silentLog: ReadOptions["log"] = { debug() {}, info() {}, warn() {}, error() {} };

/** Reads once, and gives every block to those who want it. Never throws: readers get the error. */
async function pump(source: BlockSource, readers: readonly Reader[], pace?: SharedPace): Promise<void> {
  const stop = new AbortController();
  const present = () => readers.filter((reader) => !reader.gone);
  const laggards = pace && watchLaggards(present, pace);
  for (const reader of readers) {
    reader.onLeave = () => {
      if (present().length === 0) stop.abort();
    };
  }
  try {
    if (present().length === 0) return;
    const blocks = source.read({
      signal: stop.signal,
      log: readers[0]!.options.log,
      wanted: (index) => readers.some((reader) => reader.wants(index)),
      knownUnits: knownToAll(readers),
      onUnit: (unit, digest) => {
        for (const reader of present()) reader.push(() => reader.options.onUnit?.(unit, digest));
      },
      onZero: (index) => {
        for (const reader of present()) if (reader.wants(index)) reader.options.onZero?.(index);
      },
      onProgress: (progress) => {
        for (const reader of present()) reader.options.onProgress?.(progress);
      },
    });
    for await (const block of blocks) {
      const takers = present().filter((reader) => reader.wants(block.index));
      let holders = takers.length;
      if (holders === 0) block.release();
      for (const taker of takers) {
        let released = false;
        const release = () => {
          if (released) return;
          released = true;
          taker.holding--;
          if (--holders === 0) block.release();
          laggards?.look();
        };
        taker.holding++;
        taker.push({ index: block.index, data: block.data, sha256: block.sha256, release });
      }
      laggards?.look();
    }
    for (const reader of present()) reader.end(undefined);
  } catch (error) {
    for (const reader of present()) reader.end(error);
  } finally {
    laggards?.close();
  }
}

/**
 * Leaves behind who keeps the others waiting for longer than the pace allows. Being behind ends only when half of what
 * was held has been given back: a reader that gives back a block now and then is as slow as one that gives back none.
 */
function watchLaggards(present: () => Reader[], { behindBlocks, patienceMs }: SharedPace) {
  const behind = new Map<Reader, NodeJS.Timeout>();

  function look(): void {
    const readers = present();
    let quick = 0;
    for (const reader of readers) if (reader.holding <= behindBlocks / 4) quick++;
    for (const reader of readers) {
      const timer = behind.get(reader);
      if (timer === undefined) {
        if (reader.holding < behindBlocks || quick === 0 || quick * 2 < readers.length - 1) continue;
        behind.set(
          reader,
          setTimeout(() => leaveBehind(reader), patienceMs),
        );
      } else if (reader.holding < behindBlocks / 2) {
        clearTimeout(timer);
        behind.delete(reader);
      }
    }
  }

  function leaveBehind(reader: Reader): void {
    behind.delete(reader);
    // The others may have left meanwhile: who is alone keeps nobody waiting.
    if (present().length < 2) return;
    reader.end(new FellBehind());
    reader.leave();
  }

  return {
    look,
    close() {
      for (const timer of behind.values()) clearTimeout(timer);
      behind.clear();
    },
  };
}

/** One who remembers another digest than the rest saw another file: only a fresh start helps, so nobody goes on. */
function knownToAll(readers: readonly Reader[]): Map<number, Uint8Array> {
  const known = new Map<number, Uint8Array>();
  for (const reader of readers) {
    for (const [unit, digest] of reader.options.knownUnits ?? []) {
      const other = known.get(unit);
      if (other && Buffer.compare(other, digest) !== 0) {
        throw new SlipwayError("corrupt", "Two interrupted uploads of this disk read different files.", {
          next: "Start those uploads anew, from the beginning.",
        });
      }
      known.set(unit, digest);
    }
  }
  return known;
}

class Reader {
  readonly options: ReadOptions;
  gone = false;
  /** Blocks it was given and has not released. */
  holding = 0;
  onLeave = () => {};
  readonly #answers = new Map<number, boolean>();
  #items: (Block | (() => void))[] = [];
  #ended = false;
  #error: unknown;
  #wake = () => {};

  constructor(options: ReadOptions) {
    this.options = options;
  }

  /** Asked once a block: the answer may change when the block is acknowledged. */
  wants(index: number): boolean {
    if (this.gone) return false;
    const { wanted } = this.options;
    if (!wanted) return true;
    const answer = this.#answers.get(index) ?? wanted(index);
    this.#answers.set(index, answer);
    return answer;
  }

  push(item: Block | (() => void)): void {
    this.#items.push(item);
    this.#wake();
  }

  end(error: unknown): void {
    this.#ended = true;
    this.#error = error;
    this.#wake();
  }

  async *blocks(): AsyncGenerator<Block> {
    const { signal } = this.options;
    const cancel = () => {
      this.end(new SlipwayError("cancelled", "Reading was stopped.", { cause: signal.reason }));
      this.leave();
    };
    signal.addEventListener("abort", cancel);
    if (signal.aborted) cancel();
    try {
      for (;;) {
        const item = this.#items.shift();
        if (typeof item === "function") item();
        else if (item) yield item;
        else if (this.#error !== undefined) throw this.#error;
        else if (this.#ended) return;
        else {
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
        }
      }
    } finally {
      signal.removeEventListener("abort", cancel);
    }
  }

  /** Gives back what was not handed out; blocks that were are still to be released by who has them. */
  leave(): void {
    if (this.gone) return;
    this.gone = true;
    for (const item of this.#items.splice(0)) if (typeof item !== "function") item.release();
    if (!this.#ended) this.end(new SlipwayError("cancelled", "The disk was closed while it was read."));
    this.onLeave();
  }
}
