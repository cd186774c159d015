/** Says when all that was wanted of a part of the file has been yielded, and sees that the part is what it once was. */
import type { Hash } from "node:crypto";
import { SlipwayError } from "../../lib/errors.ts";
import { MiB } from "../../lib/units.ts";
import type { ReadOptions } from "../block-source.ts";

/**
 * Bytes of the file that are one unit. Its digest is that of the file *up to its end*: that costs no second hash, and
 * proves the bytes before it as well.
 */
const UNIT_BYTES = 16 * MiB;

export class UnitReports {
  readonly #options: ReadOptions;
  readonly #url: string;
  readonly #fileBytes: number;
  /** Clusters that lie in the unit and are not yielded yet. */
  readonly #missing: Uint32Array;
  readonly #wanted: Uint8Array;
  readonly #digests = new Map<number, Uint8Array>();

  constructor(fileBytes: number, options: ReadOptions, url: string) {
    this.#options = options;
    this.#url = url;
    this.#fileBytes = fileBytes;
    this.#missing = new Uint32Array(Math.ceil(fileBytes / UNIT_BYTES));
    this.#wanted = new Uint8Array(this.#missing.length);
  }

  expect(at: number, end: number): void {
    for (const unit of unitsOf(at, end)) {
      this.#missing[unit]!++;
      this.#wanted[unit] = 1;
    }
  }

  arrived(at: number, end: number): void {
    for (const unit of unitsOf(at, end)) {
      this.#missing[unit]!--;
      this.#tellIfDone(unit);
    }
  }

  /** Hashes what passes. `later` puts a report behind the blocks that were found before. */
  hash(whole: Hash, chunk: Buffer, pos: number, later: (tell: () => void) => void): void {
    for (let at = 0; at < chunk.length; ) {
      const unit = Math.floor((pos + at) / UNIT_BYTES);
      const end = Math.min((unit + 1) * UNIT_BYTES, this.#fileBytes);
      const part = chunk.subarray(at, end - pos);
      whole.update(part);
      at += part.length;
      if (pos + at < end) return;
      const digest = whole.copy().digest();
      const known = this.#options.knownUnits?.get(unit);
      if (known && !digest.equals(known)) {
        throw new SlipwayError("corrupt", "The file is not the one an earlier attempt read.", {
          subject: this.#url,
          next: "What was sent came from other bytes. Start the upload anew, from the beginning.",
        });
      }
      later(() => {
        this.#digests.set(unit, digest);
        this.#tellIfDone(unit);
      });
    }
  }

  #tellIfDone(unit: number): void {
    const digest = this.#digests.get(unit);
    if (!digest || this.#missing[unit] !== 0 || this.#wanted[unit] === 0) return;
    this.#wanted[unit] = 0;
    this.#options.onUnit?.(unit, digest);
  }
}

/** A cluster is no longer than a unit, so it lies in one or in two. */
function unitsOf(at: number, end: number): number[] {
  const first = Math.floor(at / UNIT_BYTES);
  const last = Math.floor((end - 1) / UNIT_BYTES);
  return first === last ? [first] : [first, last];
}
