/** Blocks that lie across two tasks: joined in the slot their first non-zero piece came in. */
import { hash } from "node:crypto";
import { BLOCK_BYTES } from "../block-source.ts";
import type { FromWorker, Geometry } from "./protocol.ts";
import type { Slots } from "./sink.ts";

type Piece = Extract<FromWorker, { type: "piece" }>;

interface Partial {
  slot: number;
  have: number;
  readonly units: Set<number>;
}

export interface JoinedBlock {
  readonly block: number;
  /** −1: all zero. */
  readonly slot: number;
  readonly bytes: number;
  readonly sha256: Uint8Array;
  /** What was to be said once this block was there. */
  readonly completed: readonly (() => void)[];
}

export class Pieces {
  readonly #geometry: Geometry;
  readonly #slots: Slots;
  readonly #open = new Map<number, Partial>();
  readonly #waiting = new Map<number, () => void>();

  constructor(geometry: Geometry, slots: Slots) {
    this.#geometry = geometry;
    this.#slots = slots;
  }

  /** The block, if this was its last piece. */
  add(unit: number, piece: Piece): JoinedBlock | undefined {
    const { contentEnd, diskEnd } = this.#geometry;
    const start = piece.block * BLOCK_BYTES;
    const partial: Partial = this.#open.get(piece.block) ?? { slot: -1, have: 0, units: new Set() };
    this.#open.set(piece.block, partial);
    partial.units.add(unit);
    partial.have += piece.bytes;
    if (piece.slot >= 0 && partial.slot < 0) {
      partial.slot = piece.slot;
      const view = this.#slots.view(piece.slot, 0, BLOCK_BYTES);
      view.fill(0, 0, piece.at).fill(0, piece.at + piece.bytes);
    } else if (piece.slot >= 0) {
      const from = this.#slots.view(piece.slot, piece.at, piece.at + piece.bytes);
      from.copy(this.#slots.view(partial.slot, piece.at, piece.at + piece.bytes));
      this.#slots.giveBack(piece.slot);
    }
    if (partial.have < Math.min(start + BLOCK_BYTES, contentEnd) - start) return undefined;

    this.#open.delete(piece.block);
    const bytes = Math.min(start + BLOCK_BYTES, diskEnd) - start;
    const { slot } = partial;
    const sha256 = slot < 0 ? new Uint8Array(0) : hash("sha256", this.#slots.view(slot, 0, bytes), "buffer");
    const completed = [...partial.units].flatMap((done) => {
      const tell = this.#waiting.get(done);
      if (!tell || this.#touches(done)) return [];
      this.#waiting.delete(done);
      return [tell];
    });
    return { block: piece.block, slot, bytes, sha256, completed };
  }

  /** Keeps `tell` until no open block has a piece of the unit; false if there is none already. */
  whenComplete(unit: number, tell: () => void): boolean {
    if (!this.#touches(unit)) return false;
    this.#waiting.set(unit, tell);
    return true;
  }

  #touches(unit: number): boolean {
    return [...this.#open.values()].some(({ units }) => units.has(unit));
  }
}
