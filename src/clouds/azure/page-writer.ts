/**
 * Turns blocks that arrive in any order into page writes of up to 4 MiB, a bounded number of them under way.
 *
 * Blocks are copied into the writer's own buffers and given back at once, so that the decoder never waits for the
 * wire because neighbours are still to come. A group of eight neighbours goes out when it is whole, when nothing
 * was added to it for a moment, or when its buffer is needed: neighbours are worth waiting for, but not for long.
 */
import { BLOCK_BYTES, type Block } from "../../images/block-source.ts";
import type { Log } from "../../lib/call.ts";
import { codeOf, isTransient, SlipwayError } from "../../lib/errors.ts";
import { CloudError } from "../errors.ts";
import { AZURE_LIMITS } from "./options.ts";
import type { Window } from "./window.ts";

export interface PageWriterOptions {
  readonly window: Window;
  readonly inFlight: number;
  readonly retryMs: number;
  readonly signal: AbortSignal;
  readonly log: Log;
  /** Writes pages once. `offset` and length are whole numbers of 512. */
  put(offset: number, data: Uint8Array, signal: AbortSignal): Promise<void>;
  onAcked(index: number, sha256: Uint8Array, bytes: number): void;
  /** All blocks of a compressed unit of the source, and all before it, are acknowledged. */
  onUnit(unit: number, sha256: Uint8Array): void;
}

export interface PageWriter {
  /** Takes everything the source yields, and returns when all of it is acknowledged. @throws the first failure */
  drain(read: (signal: AbortSignal) => AsyncIterable<Block>): Promise<void>;
  /** The source has yielded all blocks of a unit. */
  unit(unit: number, sha256: Uint8Array): void;
}

const GROUP_BLOCKS = AZURE_LIMITS.pageWriteBytes / BLOCK_BYTES;
/** As many as the decoder has lanes: each lane fills one group at a time. With 8 in flight, 12 × 4 MiB of memory. */
const OPEN_GROUPS = 4;
/** Blocks of one lane follow each other within a few milliseconds. */
const LINGER_MS = 20;
const ATTEMPTS = 6;
const LONGEST_PAUSE_MS = 15_000;

interface Group {
  readonly first: number;
  readonly buffer: Uint8Array;
  readonly blocks: (Entry | undefined)[];
  filled: number;
  touched: number;
}

interface Entry {
  readonly index: number;
  readonly bytes: number;
  readonly sha256: Uint8Array;
  /** Order of arrival. */
  readonly turn: number;
}

export function pageWriter(options: PageWriterOptions): PageWriter {
  const { window, retryMs, log } = options;
  const open = new Map<number, Group>();
  const spare: Uint8Array[] = [];
  const sending = new Set<Promise<void>>();
  const stop = new AbortController();
  const signal = AbortSignal.any([options.signal, stop.signal]);
  let buffers = OPEN_GROUPS + options.inFlight;
  let freed: (() => void) | undefined;
  let failure: { error: unknown } | undefined;

  // A unit is told of when every block that arrived before its end is acknowledged.
  let turns = 0;
  const outstanding = new Set<number>();
  const units: { readonly unit: number; readonly sha256: Uint8Array; readonly before: number }[] = [];

  function fail(error: unknown): void {
    failure ??= { error };
    stop.abort();
    freed?.();
  }

  async function takeBuffer(): Promise<Uint8Array> {
    for (;;) {
      if (failure) throw failure.error;
      const buffer = spare.pop();
      if (buffer) return buffer;
      if (buffers > 0) {
        buffers--;
        return new Uint8Array(AZURE_LIMITS.pageWriteBytes);
      }
      await new Promise<void>((resolve) => {
        freed = resolve;
      });
    }
  }

  async function add(block: Block): Promise<void> {
    try {
      const number = Math.floor(block.index / GROUP_BLOCKS);
      let group = open.get(number);
      if (!group) {
        if (open.size >= OPEN_GROUPS) dispatch(oldest());
        const buffer = await takeBuffer();
        group = { first: number * GROUP_BLOCKS, buffer, blocks: [], filled: 0, touched: 0 };
        open.set(number, group);
      }
      const slot = block.index - group.first;
      group.buffer.set(block.data, slot * BLOCK_BYTES);
      const turn = turns++;
      outstanding.add(turn);
      group.blocks[slot] = {
        index: block.index,
        bytes: block.data.length,
        sha256: Uint8Array.from(block.sha256),
        turn,
      };
      group.filled++;
      group.touched = performance.now();
      if (group.filled === GROUP_BLOCKS) dispatch(group);
    } finally {
      block.release();
    }
  }

  function oldest(): Group {
    return [...open.values()].reduce((a, b) => (b.touched < a.touched ? b : a));
  }

  /** Sends a group's runs of neighbours; its buffer is free again when all are through. */
  function dispatch(group: Group): void {
    open.delete(group.first / GROUP_BLOCKS);
    const task = Promise.all(runsOf(group).map((run) => send(group, run)))
      .then(() => {
        spare.push(group.buffer);
        freed?.();
      })
      .catch(fail)
      .finally(() => sending.delete(task));
    sending.add(task);
  }

  async function send(group: Group, run: readonly Entry[]): Promise<void> {
    const first = run[0]!;
    const bytes = run.reduce((sum, entry) => sum + entry.bytes, 0);
    const start = (first.index - group.first) * BLOCK_BYTES;
    const data = group.buffer.subarray(start, start + bytes);
    await putWithRetries(first.index * BLOCK_BYTES, data);
    for (const entry of run) {
      options.onAcked(entry.index, entry.sha256, entry.bytes);
      outstanding.delete(entry.turn);
    }
    tellUnits();
  }

  async function putWithRetries(offset: number, data: Uint8Array): Promise<void> {
    const began = performance.now();
    for (let attempt = 1; ; attempt++) {
      await window.enter(signal);
      const sent = performance.now();
      let outcome: "done" | "throttled" | "failed" = "failed";
      try {
        await options.put(offset, data, signal);
        outcome = "done";
        return;
      } catch (error) {
        if (codeOf(error) === "throttled") outcome = "throttled";
        if (!isTransient(error) || signal.aborted) throw error;
        if (attempt === ATTEMPTS) throw triedInVain(error, attempt, performance.now() - began);
        log.debug("page write failed, trying again", { offset, attempt, error });
      } finally {
        window.leave(outcome, performance.now() - sent);
      }
      await pause(Math.min(retryMs * 2 ** (attempt - 1), LONGEST_PAUSE_MS) * (0.5 + Math.random()), signal);
    }
  }

  function tellUnits(): void {
    const [first = turns] = outstanding;
    while (units.length > 0 && units[0]!.before <= first) {
      const { unit, sha256 } = units.shift()!;
      options.onUnit(unit, sha256);
    }
  }

  return {
    async drain(read) {
      const linger = setInterval(() => {
        const before = performance.now() - LINGER_MS;
        for (const group of [...open.values()]) if (group.touched < before) dispatch(group);
      }, LINGER_MS);
      try {
        for await (const block of read(signal)) {
          await add(block);
          if (failure) break;
        }
        for (const group of [...open.values()]) dispatch(group);
      } catch (error) {
        // When a write failed, the source was stopped because of it.
        fail(error);
      } finally {
        clearInterval(linger);
        while (sending.size > 0) await Promise.all(sending);
      }
      if (options.signal.aborted) {
        throw new SlipwayError("cancelled", "The upload was stopped; what was acknowledged is not sent again.");
      }
      if (failure) throw failure.error;
    },
    unit(unit, sha256) {
      units.push({ unit, sha256: Uint8Array.from(sha256), before: turns });
      tellUnits();
    },
  };
}

/** Neighbours that can go in one write. */
function runsOf(group: Group): Entry[][] {
  const runs: Entry[][] = [];
  let run: Entry[] | undefined;
  for (let slot = 0; slot < GROUP_BLOCKS; slot++) {
    const entry = group.blocks[slot];
    if (!entry) run = undefined;
    else if (run) run.push(entry);
    else {
      run = [entry];
      runs.push(run);
    }
  }
  return runs;
}

function triedInVain(error: unknown, attempts: number, ms: number): unknown {
  if (!(error instanceof CloudError)) return error;
  return new CloudError(error.code, error.message, {
    cloud: error.cloud,
    operation: error.operation,
    region: error.region,
    requestId: error.requestId,
    subject: error.subject,
    next: error.next,
    tried: `${attempts} attempts over ${Math.round(ms / 1000)} s`,
    cause: error.cause,
  });
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  await new Promise<void>((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal.addEventListener("abort", stop, { once: true });
  });
}
