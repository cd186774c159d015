/** Where decoded bytes go, inside a worker: cut into blocks and put into shared slots, or only counted. */
import { hash } from "node:crypto";
import { SlipwayError } from "../../lib/errors.ts";
import { BLOCK_BYTES } from "../block-source.ts";
import {
  FIRST_SLOT,
  type FromWorker,
  type Geometry,
  RELEASES,
  type SharedMemory,
  STOP,
  type ToWorker,
} from "./protocol.ts";

export type Task = Extract<ToWorker, { type: "task" }>;

export interface Sink {
  /** Memory for what comes next; write some of it, then `commit`. Never empty: what lies beyond the end is refused. */
  space(): Buffer;
  commit(bytes: number): void;
  /** Copies. */
  write(data: Uint8Array): void;
  /** As if so many zeros had been written. */
  skip(bytes: number): void;
  /** All that belongs to the task was written. @throws SlipwayError `corrupt` if there was less than declared. */
  finish(): void;
  readonly decoded: number;
}

export type Post = (message: FromWorker) => void;

const ZEROS = Buffer.alloc(BLOCK_BYTES);
const TRAILER_BYTES = 512;

/** Thrown through the decoder when the reading thread has lost interest. */
export class Stopped extends Error {}

/**
 * Cuts one task's bytes into blocks. The decoder writes straight into a slot; a block of zeros leaves its slot free for
 * the next one, so zeros cost no copy and no message but a number.
 */
export function blockSink(task: Task, geometry: Geometry, memory: SharedMemory, slots: Slots, post: Post): Sink {
  const { from, to } = task;
  const { contentEnd, diskEnd, trailerAt = Number.POSITIVE_INFINITY } = geometry;
  const firstBlock = Math.floor(from / BLOCK_BYTES);
  const digests = Buffer.from(memory.digests);
  const overflow = Buffer.alloc(1);
  const trailer = Buffer.alloc(TRAILER_BYTES);
  let pos = from;
  let slot = -1;

  const blockAt = () => pos - (pos % BLOCK_BYTES);
  /** End of what this task writes into the present block. */
  const stopOf = (start: number) => Math.min(start + BLOCK_BYTES, contentEnd, to);

  function space(): Buffer {
    slots.check();
    if (pos >= to) return overflow;
    if (pos >= contentEnd) return trailer.subarray(pos - trailerAt, to - trailerAt);
    if (slot < 0) slot = slots.take();
    const start = blockAt();
    return slots.view(slot, pos - start, stopOf(start) - start);
  }

  function commit(bytes: number): void {
    if (bytes === 0) return;
    if (pos + bytes > to) throw new SlipwayError("corrupt", "It decodes to more bytes than declared.");
    if (pos >= contentEnd) {
      pos += bytes;
      return;
    }
    const start = blockAt();
    pos += bytes;
    if (pos === stopOf(start)) flush(start, pos);
  }

  function flush(start: number, stop: number): void {
    const begin = Math.max(from, start);
    if (stop > trailerAt) {
      const copyFrom = Math.max(begin, trailerAt);
      slots.view(slot, copyFrom - start, stop - start).copy(trailer, copyFrom - trailerAt);
    }
    const block = start / BLOCK_BYTES;
    if (task.wanted[block - firstBlock] === 0) return;
    const whole = begin === start && stop === Math.min(start + BLOCK_BYTES, contentEnd);
    const bytes = whole ? Math.min(start + BLOCK_BYTES, diskEnd) - start : stop - begin;
    const view = slots.view(slot, begin - start, begin - start + bytes);
    if (whole) view.fill(0, stop - start);
    const zero = view.equals(ZEROS.subarray(0, bytes));
    if (!whole) post({ type: "piece", block, slot: zero ? -1 : slot, at: begin - start, bytes });
    else if (zero) post({ type: "zero", block });
    else {
      digests.set(hash("sha256", view, "buffer"), slot * 32);
      post({ type: "block", block, slot, bytes });
    }
    if (!zero) slot = -1;
  }

  return {
    space,
    commit,
    write(data) {
      for (let at = 0; at < data.length; ) {
        const room = space();
        const part = data.subarray(at, at + room.length);
        room.set(part);
        commit(part.length);
        at += part.length;
      }
    },
    skip(bytes) {
      for (let left = bytes; left > 0; ) {
        const room = space();
        const part = Math.min(left, room.length);
        room.fill(0, 0, part);
        commit(part);
        left -= part;
      }
    },
    finish() {
      if (slot >= 0) slots.giveBack(slot);
      slot = -1;
      if (pos !== to)
        throw new SlipwayError("corrupt", `It decodes to ${pos - from} bytes, ${to - from} were declared.`);
      if (to > trailerAt) {
        const at = Math.max(0, from - trailerAt);
        post({ type: "trailer", at, bytes: Uint8Array.from(trailer.subarray(at)) });
      }
    },
    get decoded() {
      return pos - from;
    },
  };
}

/** Counts, and keeps the last bytes as the trailer. `task.to` is the most that is allowed. */
export function countSink(task: Task, slots: Slots, post: Post): Sink {
  const scratch = Buffer.allocUnsafeSlow(BLOCK_BYTES);
  let tail: Buffer = Buffer.alloc(0);
  let pos = 0;
  const commit = (bytes: number, data: Buffer = scratch) => {
    pos += bytes;
    if (pos > task.to) {
      throw new SlipwayError("invalid", `It decodes to more than the ${task.to} bytes that are allowed.`);
    }
    const fresh = data.subarray(Math.max(0, bytes - TRAILER_BYTES), bytes);
    tail = Buffer.concat([tail, fresh]).subarray(-TRAILER_BYTES);
  };
  return {
    space() {
      slots.check();
      return scratch;
    },
    commit,
    write: (data) => commit(data.length, Buffer.from(data.buffer, data.byteOffset, data.length)),
    skip: (bytes) => {
      for (let left = bytes; left > 0; left -= BLOCK_BYTES) commit(Math.min(left, BLOCK_BYTES), ZEROS);
    },
    finish: () => post({ type: "trailer", at: 0, bytes: Uint8Array.from(tail) }),
    get decoded() {
      return pos;
    },
  };
}

export interface Slots {
  /** @throws Stopped when the reading thread wants no more. */
  check(): void;
  /** Waits until a reader gives one back. @throws Stopped */
  take(): number;
  giveBack(slot: number): void;
  /** Bytes [from, to) of a slot. */
  view(slot: number, from: number, to: number): Buffer;
}

export function slotsOf(memory: SharedMemory): Slots {
  const control = new Int32Array(memory.control);
  const check = () => {
    if (Atomics.load(control, STOP) !== 0) throw new Stopped();
  };
  return {
    check,
    take() {
      for (;;) {
        const releases = Atomics.load(control, RELEASES);
        check();
        for (let slot = 0; slot < memory.slotCount; slot++) {
          if (Atomics.compareExchange(control, FIRST_SLOT + slot, 0, 1) === 0) return slot;
        }
        // The reader's own deadline ends a wait for a writer that never gives its blocks back: it stops us.
        Atomics.wait(control, RELEASES, releases);
      }
    },
    giveBack: (slot) => giveBack(control, slot),
    view: (slot, from, to) => Buffer.from(memory.slots, slot * BLOCK_BYTES + from, to - from),
  };
}

export function giveBack(control: Int32Array, slot: number): void {
  Atomics.store(control, FIRST_SLOT + slot, 0);
  Atomics.add(control, RELEASES, 1);
  Atomics.notify(control, RELEASES);
}
