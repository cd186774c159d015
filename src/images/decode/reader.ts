/**
 * Carries out a decode plan: fetches the file once and in order, hashes it, and lets worker threads decode its tasks.
 *
 * The reading thread never touches a decoded byte. It copies compressed bytes into input chunks and hands tasks to idle
 * workers; workers put blocks into shared slots. Both kinds of memory are counted, so a slow writer stops the workers,
 * and busy workers stop the download. Earlier tasks never wait for memory held by later ones (bytes come in order, slots
 * belong to no order), so this cannot lock up while blocks are released.
 */
import { createHash, type Hash } from "node:crypto";
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import type { CallContext } from "../../lib/call.ts";
import { SlipwayError } from "../../lib/errors.ts";
import { seconds } from "../../lib/units.ts";
import { BLOCK_BYTES, type Block, type ReadOptions } from "../block-source.ts";
import type { ByteSource } from "../byte-source.ts";
import { Pieces } from "./pieces.ts";
import type { DecodePlan, DecodeTask } from "./plan.ts";
import { BUSY, CHUNK_BYTES, type FromWorker, RELEASES, STOP, shareMemory, type ToWorker } from "./protocol.ts";
import { giveBack, slotsOf } from "./sink.ts";

export interface ReaderLimits {
  /** Worker threads. */
  readonly lanes: number;
  /** Blocks that may be decoded and not yet released. */
  readonly slots: number;
  /** Bytes fetched and not yet decoded. */
  readonly inputBytes: number;
}

export interface Decoded {
  /** The last bytes of the decoded file, when its last task was decoded and the plan asks for a trailer. */
  trailer: Buffer | undefined;
  /** Decoded bytes, in `count` mode. */
  bytes: number;
}

/**
 * @param wanted one byte a block, 0 = not wanted
 * @param result filled while reading; complete when the generator has ended
 */
export async function* decode(
  plan: DecodePlan,
  source: ByteSource,
  limits: ReaderLimits,
  wanted: Uint8Array,
  options: ReadOptions,
  result: Decoded,
): AsyncGenerator<Block> {
  const reading = new Reading(plan, source, limits, wanted, options, result);
  try {
    reading.start();
    for (;;) {
      const item = await reading.next();
      if (item === "end") return;
      if (typeof item === "function") item();
      else yield item;
    }
  } finally {
    await reading.stop();
  }
}

interface Lane {
  readonly worker: Worker;
  job: Job | undefined;
}

/** One task on its way: what was fetched of it, and who decodes it. */
interface Job {
  readonly unit: number;
  readonly task: DecodeTask;
  /** Messages for a worker, until one is idle. */
  waiting: ToWorker[];
  lane: Lane | undefined;
  /** Chunk that is being filled. */
  filling: { chunk: number; bytes: number } | undefined;
  eaten: number;
  digest: Uint8Array | undefined;
}

/** A block to yield, or something to say after the blocks before it were yielded. */
type Item = Block | (() => void);

class Reading {
  readonly #plan: DecodePlan;
  readonly #source: ByteSource;
  readonly #limits: ReaderLimits;
  readonly #wanted: Uint8Array;
  readonly #options: ReadOptions;
  readonly #result: Decoded;
  readonly #abort = new AbortController();
  readonly #memory;
  readonly #control: Int32Array;
  readonly #pieces: Pieces;
  readonly #lanes: Lane[] = [];
  readonly #jobs: Job[] = [];
  readonly #freeChunks: number[] = [];
  readonly #spans: Uint8Array[] = [];
  #spansTold = 0;
  #unfinished = 0;
  #fetched = false;
  #pump: Promise<void> = Promise.resolve();
  #items: Item[] = [];
  #failure: SlipwayError | undefined;
  #wakeReader = () => {};
  #wakePump = () => {};

  constructor(
    plan: DecodePlan,
    source: ByteSource,
    limits: ReaderLimits,
    wanted: Uint8Array,
    options: ReadOptions,
    result: Decoded,
  ) {
    this.#plan = plan;
    this.#source = source;
    this.#limits = limits;
    this.#wanted = wanted;
    this.#options = options;
    this.#result = result;
    const chunks = Math.max(2 * limits.lanes, Math.ceil(limits.inputBytes / CHUNK_BYTES));
    this.#memory = shareMemory(limits.slots, chunks);
    this.#control = new Int32Array(this.#memory.control);
    for (let chunk = chunks - 1; chunk >= 0; chunk--) this.#freeChunks.push(chunk);
    this.#pieces = new Pieces(plan.geometry, slotsOf(this.#memory));
    active.add(this.#control);
  }

  start(): void {
    const { signal } = this.#options;
    const cancel = () => {
      this.#fail(
        new SlipwayError("cancelled", "Reading was stopped.", { subject: this.#plan.url, cause: signal.reason }),
      );
    };
    signal.addEventListener("abort", cancel, { signal: this.#abort.signal });
    if (signal.aborted) cancel();
    else this.#pump = this.#fetch({ ...this.#options, signal: this.#abort.signal }).catch((error) => this.#fail(error));
  }

  async next(): Promise<Item | "end"> {
    for (;;) {
      if (this.#failure) throw this.#failure;
      const item = this.#items.shift();
      if (item) return item;
      if (this.#fetched && this.#unfinished === 0) return "end";
      await new Promise<void>((resolve) => {
        this.#wakeReader = resolve;
      });
    }
  }

  async stop(): Promise<void> {
    askToStop(this.#control);
    this.#abort.abort();
    this.#wakePump();
    await this.#pump;
    // Workers look up after every block, so this takes milliseconds. Who is not back then hangs and is ended anyway.
    const deadline = Date.now() + seconds(30);
    for (let busy = 1; busy !== 0 && Date.now() < deadline; ) {
      busy = Atomics.load(this.#control, BUSY);
      if (busy !== 0) await Atomics.waitAsync(this.#control, BUSY, busy, seconds(1)).value;
    }
    await Promise.all(this.#lanes.map(({ worker }) => worker.terminate()));
    active.delete(this.#control);
  }

  #fail(error: unknown): void {
    if (this.#failure) return;
    this.#failure =
      error instanceof SlipwayError
        ? error
        : new SlipwayError("unknown", `The disk cannot be read: ${error instanceof Error ? error.message : error}`, {
            subject: this.#plan.url,
            cause: error,
          });
    this.#abort.abort();
    this.#wakeReader();
    this.#wakePump();
  }

  #corrupt(message: string, next: string): SlipwayError {
    return new SlipwayError("corrupt", message, { subject: this.#plan.url, next });
  }

  /** Walks through the file: every byte is hashed, and goes to the task it belongs to, if that is wanted. */
  async #fetch(call: CallContext): Promise<void> {
    const { start, end, tasks, sha256, unitBytes } = this.#plan;
    const whole = sha256 === undefined ? undefined : createHash("sha256");
    const parts = partsOf(this.#plan);
    let part = parts.shift();
    let partHash = createHash("sha256");
    let spanHash = createHash("sha256");
    let job: Job | undefined;
    let pos = start;
    let spanEnd = unitBytes === "task" ? Number.POSITIVE_INFINITY : start + unitBytes;

    for await (const data of this.#source.stream(start, call, end)) {
      whole?.update(data);
      for (let at = 0; at < data.length; ) {
        if (!part) throw new Error("bytes after the last part");
        const stop = Math.min(part.end, spanEnd, end);
        const bytes = data.subarray(at, at + stop - pos);
        at += bytes.length;
        if (unitBytes === "task") partHash.update(bytes);
        else spanHash.update(bytes);
        if (part.task !== undefined) {
          const task = tasks[part.task]!;
          if (pos === task.start && this.#isWanted(task)) job = this.#open(part.task, task);
          if (job) await this.#feed(job, bytes);
        }
        pos += bytes.length;
        if (pos === spanEnd || (pos === end && unitBytes !== "task")) {
          this.#spanRead(spanHash);
          spanHash = createHash("sha256");
          spanEnd += unitBytes === "task" ? 0 : unitBytes;
        }
        if (pos === part.end) {
          if (unitBytes === "task") this.#partRead(part, partHash.digest(), job);
          partHash = createHash("sha256");
          if (job) this.#close(job);
          job = undefined;
          part = parts.shift();
        }
      }
      this.#options.onProgress?.({ bytesRead: pos - start, bytesTotal: end - start });
    }
    if (pos !== end || parts.length > 0) throw new Error("parts are missing");
    const digest = whole?.digest("hex");
    if (digest !== sha256) {
      throw this.#corrupt(
        `The file's SHA-256 is ${digest}, the metadata says ${sha256}.`,
        "The file or its metadata is wrong. Fetch or build it anew; nothing was committed.",
      );
    }
    this.#fetched = true;
    this.#wakeReader();
  }

  #isWanted(task: DecodeTask): boolean {
    if (this.#plan.unitBytes !== "task" || this.#plan.sha256 === undefined) return true;
    const first = Math.floor(task.from / BLOCK_BYTES);
    const end = Math.ceil(Math.min(task.to, this.#plan.geometry.contentEnd) / BLOCK_BYTES);
    return this.#wanted.subarray(first, end).some((flag) => flag !== 0);
  }

  #partRead(part: Part, digest: Uint8Array, job: Job | undefined): void {
    if (part.task === undefined) {
      if (part.sha256 && !sameBytes(part.sha256, digest)) throw this.#changed();
      return;
    }
    this.#compare(part.task, digest);
    if (job) job.digest = digest;
  }

  #spanRead(hash: Hash): void {
    const digest = hash.digest();
    this.#compare(this.#spans.length, digest);
    this.#spans.push(digest);
  }

  #compare(unit: number, digest: Uint8Array): void {
    const known = this.#options.knownUnits?.get(unit);
    if (known && !sameBytes(known, digest)) throw this.#changed();
  }

  #changed(): SlipwayError {
    return this.#corrupt(
      "The file is not the one an earlier attempt read.",
      "What was sent came from other bytes. Start the upload anew, from the beginning.",
    );
  }

  #open(unit: number, task: DecodeTask): Job {
    const first = Math.floor(task.from / BLOCK_BYTES);
    const message: ToWorker = {
      type: "task",
      from: task.from,
      to: task.to,
      wanted: this.#wanted.slice(first, Math.ceil(task.to / BLOCK_BYTES)),
      ...(task.prefix ? { prefix: task.prefix } : {}),
      ...(task.suffix ? { suffix: task.suffix } : {}),
      ...(task.blockStarts ? { blockStarts: task.blockStarts } : {}),
    };
    const job: Job = {
      ...{ unit, task, waiting: [message], lane: undefined },
      ...{ filling: undefined, eaten: 0, digest: undefined },
    };
    this.#jobs.push(job);
    this.#unfinished++;
    this.#dispatch();
    return job;
  }

  async #feed(job: Job, bytes: Buffer): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      job.filling ??= { chunk: await this.#takeChunk(), bytes: 0 };
      const part = bytes.subarray(at, at + CHUNK_BYTES - job.filling.bytes);
      new Uint8Array(this.#memory.inputs).set(part, job.filling.chunk * CHUNK_BYTES + job.filling.bytes);
      job.filling.bytes += part.length;
      at += part.length;
      if (job.filling.bytes === CHUNK_BYTES) this.#sendChunk(job);
    }
  }

  async #takeChunk(): Promise<number> {
    for (;;) {
      if (this.#abort.signal.aborted) throw new Error("stopped");
      const chunk = this.#freeChunks.pop();
      if (chunk !== undefined) return chunk;
      await new Promise<void>((resolve) => {
        this.#wakePump = resolve;
      });
    }
  }

  #sendChunk(job: Job): void {
    if (job.filling) this.#tell(job, { type: "chunk", ...job.filling });
    job.filling = undefined;
  }

  #close(job: Job): void {
    this.#sendChunk(job);
    this.#tell(job, { type: "end" });
  }

  #tell(job: Job, message: ToWorker): void {
    if (job.lane) job.lane.worker.postMessage(message);
    else job.waiting.push(message);
  }

  /** Gives the earliest tasks to idle workers; starts workers as long as there may be more. */
  #dispatch(): void {
    while (this.#jobs.length > 0) {
      let lane = this.#lanes.find(({ job }) => job === undefined);
      if (!lane) {
        if (this.#lanes.length >= this.#limits.lanes) return;
        lane = this.#startLane();
      }
      const job = this.#jobs.shift()!;
      lane.job = job;
      job.lane = lane;
      for (const message of job.waiting) lane.worker.postMessage(message);
      job.waiting = [];
    }
  }

  #startLane(): Lane {
    const { codec, tar, mode, geometry, url } = this.#plan;
    // The compiled worker is .js, the source is .ts: whichever this file is.
    const file = new URL(`./worker${import.meta.url.endsWith(".ts") ? ".ts" : ".js"}`, import.meta.url);
    const worker = new Worker(file, {
      workerData: { codec, tar, mode, geometry, memory: this.#memory, url },
      // Flags of the process (loaders, inspectors, test runners) are none of a worker's business.
      execArgv: [],
      // A worker holds next to nothing of its own: what it decodes lies outside of its heap.
      resourceLimits: { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 8 },
    });
    const lane: Lane = { worker, job: undefined };
    worker.on("message", (message: FromWorker) => this.#onMessage(lane, message));
    worker.on("error", (error) => this.#fail(error));
    once(worker, "exit").then(
      () => this.#fail(new Error("a worker thread ended")),
      () => {},
    );
    this.#lanes.push(lane);
    return lane;
  }

  #onMessage(lane: Lane, message: FromWorker): void {
    if (this.#failure || this.#abort.signal.aborted) return;
    const job = lane.job!;
    switch (message.type) {
      case "block":
        this.#push(this.#blockIn(message.slot, message.block, message.bytes));
        return;
      case "zero":
        this.#options.onZero?.(message.block);
        return;
      case "piece": {
        const whole = this.#pieces.add(job.unit, message);
        if (!whole) return;
        if (whole.slot < 0) this.#options.onZero?.(whole.block);
        else this.#push(this.#blockIn(whole.slot, whole.block, whole.bytes, whole.sha256));
        for (const told of whole.completed) this.#push(told);
        return;
      }
      case "eaten":
        job.eaten += message.bytes;
        this.#freeChunks.push(message.chunk);
        this.#wakePump();
        this.#tellSpans(job.eaten);
        return;
      case "trailer":
        this.#result.trailer ??= Buffer.alloc(message.at + message.bytes.length);
        if (this.#result.trailer.length < message.at + message.bytes.length) {
          this.#result.trailer = Buffer.concat([this.#result.trailer], message.at + message.bytes.length);
        }
        this.#result.trailer.set(message.bytes, message.at);
        return;
      case "done":
        this.#onDone(lane, job, message.decoded);
        return;
      case "error":
        this.#fail(
          new SlipwayError(message.code, message.message, {
            subject: this.#plan.url,
            next: message.next ?? "Fetch or build the file anew; nothing was committed.",
          }),
        );
    }
  }

  #onDone(lane: Lane, job: Job, decoded: number): void {
    if (this.#plan.mode === "count") this.#result.bytes = decoded;
    // Its digest is there: the end of the task was sent after the last byte was hashed.
    const { unit, digest } = job;
    if (digest) {
      const tell = () => this.#options.onUnit?.(unit, digest);
      if (!this.#pieces.whenComplete(unit, tell)) this.#push(tell);
    }
    lane.job = undefined;
    this.#unfinished--;
    this.#dispatch();
    this.#wakeReader();
  }

  /** Spans whose bytes the decoder has taken: what came out of them was posted before. */
  #tellSpans(eaten: number): void {
    const { unitBytes, start, end } = this.#plan;
    if (unitBytes === "task") return;
    while (this.#spansTold < this.#spans.length) {
      const unit = this.#spansTold;
      if (eaten < Math.min((unit + 1) * unitBytes, end - start)) return;
      const digest = this.#spans[unit]!;
      this.#push(() => this.#options.onUnit?.(unit, digest));
      this.#spansTold++;
    }
  }

  #blockIn(slot: number, index: number, bytes: number, sha256?: Uint8Array): Block {
    let released = false;
    const control = this.#control;
    return {
      index,
      data: Buffer.from(this.#memory.slots, slot * BLOCK_BYTES, bytes),
      sha256: sha256 ?? Uint8Array.from(new Uint8Array(this.#memory.digests, slot * 32, 32)),
      release() {
        if (released) return;
        released = true;
        giveBack(control, slot);
      },
    };
  }

  #push(item: Item): void {
    this.#items.push(item);
    this.#wakeReader();
  }
}

/** Workers' memory of every reading under way, for a process that ends in the middle of one. */
const active = new Set<Int32Array>();

process.on("exit", () => {
  for (const control of active) {
    askToStop(control);
    for (let tries = 0; tries < 8; tries++) {
      const busy = Atomics.load(control, BUSY);
      if (busy !== 0) Atomics.wait(control, BUSY, busy, 250);
    }
  }
});

function askToStop(control: Int32Array): void {
  Atomics.store(control, STOP, 1);
  Atomics.add(control, RELEASES, 1);
  Atomics.notify(control, RELEASES);
}

interface Part {
  readonly end: number;
  readonly task: number | undefined;
  readonly sha256: Uint8Array | undefined;
}

/** Tasks and gaps in file order. */
function partsOf({ tasks, gaps }: DecodePlan): Part[] {
  return [
    ...tasks.map(({ end }, task) => ({ end, task, sha256: undefined })),
    ...gaps.map(({ end, sha256 }) => ({ end, task: undefined, sha256 })),
  ].sort((one, other) => one.end - other.end);
}

function sameBytes(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0;
}
