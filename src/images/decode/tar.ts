/**
 * A tar archive that holds one regular file, `disk.raw`, as Google's images are packed: plain or GNU sparse (the old
 * kind, type S). Anything else in it is refused: a second member, another name, a link, a map that does not add up.
 * @see https://www.gnu.org/software/tar/manual/html_node/Standard.html
 */
import { SlipwayError } from "../../lib/errors.ts";

export interface TarTarget {
  /** The disk's virtual bytes, known before the first of them comes. */
  begin(bytes: number): void;
  write(data: Uint8Array): void;
  skip(bytes: number): void;
}

const RECORD = 512;
const NAMES: readonly string[] = ["disk.raw", "./disk.raw"];
/** A sparse map grows by a record for every 21 holes; a disk in 4 KiB pieces would need more, an honest one does not. */
const MAX_EXTENTS = 1_000_000;
const MAX_PAX_BYTES = 64 * 1024;

interface Extent {
  readonly at: number;
  readonly bytes: number;
}

export class TarDisk {
  readonly #target: TarTarget;
  #state: "header" | "extents" | "pax" | "data" | "padding" | "end" = "header";
  #record: Buffer = Buffer.alloc(0);
  #pax = { left: 0, padding: 0, text: "" };
  #size: number | undefined;
  #extents: Extent[] = [];
  #virtual = 0;
  #stored = 0;
  #extent = 0;
  #left = 0;
  #pos = 0;
  #padding = 0;
  #endRecords = 0;
  #seen = false;
  #paxHeaders = 0;

  constructor(target: TarTarget) {
    this.#target = target;
  }

  push(data: Buffer): void {
    for (let at = 0; at < data.length; ) {
      if (this.#state === "data") {
        const part = data.subarray(at, at + this.#left);
        this.#target.write(part);
        at += part.length;
        this.#pos += part.length;
        this.#left -= part.length;
        if (this.#left === 0) this.#nextExtent();
      } else if (this.#state === "padding") {
        const part = data.subarray(at, at + this.#padding);
        if (part.some((byte) => byte !== 0)) throw wrong("there are bytes where padding belongs");
        at += part.length;
        this.#padding -= part.length;
        if (this.#padding === 0) this.#state = "end";
      } else {
        const part = data.subarray(at, at + RECORD - this.#record.length);
        this.#record = this.#record.length === 0 ? part : Buffer.concat([this.#record, part]);
        at += part.length;
        if (this.#record.length < RECORD) continue;
        const record = this.#record;
        this.#record = Buffer.alloc(0);
        this.#onRecord(record);
      }
    }
    // A part of a record refers to memory that is used again.
    this.#record = Buffer.from(this.#record);
  }

  end(): void {
    if (!this.#seen) throw wrong("it holds no disk.raw");
    if (this.#state !== "end" || this.#record.length > 0 || this.#endRecords === 0) throw wrong("it is cut off");
  }

  #onRecord(record: Buffer): void {
    if (this.#state === "end") {
      if (record.some((byte) => byte !== 0)) throw wrong("there is something after disk.raw, perhaps a second member");
      this.#endRecords++;
    } else if (this.#state === "header") this.#onHeader(record);
    else if (this.#state === "extents") this.#onExtents(record, 21, 504);
    else this.#onPax(record);
  }

  #onHeader(header: Buffer): void {
    if (header.every((byte) => byte === 0)) throw wrong("it holds no disk.raw");
    let sum = 0;
    for (let at = 0; at < RECORD; at++) sum += at >= 148 && at < 156 ? 32 : header[at]!;
    if (sum !== numberAt(header, 148, 8)) throw wrong("a header's checksum is wrong");
    const type = String.fromCharCode(header[156]!);
    const size = numberAt(header, 124, 12);
    if (type === "x") {
      if (++this.#paxHeaders > 4) throw wrong("it has too many extended headers");
      if (size > MAX_PAX_BYTES) throw wrong("an extended header is too long");
      this.#pax = { left: size, padding: 0, text: "" };
      this.#state = size > 0 ? "pax" : "header";
      return;
    }

    const name = textAt(header, 0, 100);
    const prefix = header.toString("latin1", 257, 263) === "ustar\0" ? textAt(header, 345, 155) : "";
    if (!NAMES.includes(name) || prefix !== "") {
      throw wrong(`its member is ${JSON.stringify(prefix ? `${prefix}/${name}` : name)}, not disk.raw`);
    }
    if (type !== "0" && type !== "\0" && type !== "S") throw wrong(`disk.raw is no regular file (type ${type})`);
    this.#stored = this.#size ?? size;
    if (type === "S") {
      this.#virtual = numberAt(header, 483, 12);
      this.#onExtents(header, 4, 482, 386);
      return;
    }
    this.#virtual = this.#stored;
    this.#extents = [{ at: 0, bytes: this.#stored }];
    this.#begin();
  }

  /** @param more where the flag is that says another record of extents follows */
  #onExtents(record: Buffer, slots: number, more: number, from = 0): void {
    for (let slot = 0; slot < slots; slot++) {
      const entry = from + slot * 24;
      if (record[entry] === 0) break;
      const extent = { at: numberAt(record, entry, 12), bytes: numberAt(record, entry + 12, 12) };
      const last = this.#extents.at(-1);
      if (extent.at < (last ? last.at + last.bytes : 0) || extent.at + extent.bytes > this.#virtual) {
        throw wrong("its sparse map overlaps itself or leaves the disk");
      }
      if (this.#extents.push(extent) > MAX_EXTENTS) throw wrong("its sparse map is too long");
    }
    if (record[more] !== 0) {
      this.#state = "extents";
      return;
    }
    const mapped = this.#extents.reduce((sum, extent) => sum + extent.bytes, 0);
    if (mapped !== this.#stored) throw wrong(`its sparse map names ${mapped} bytes, ${this.#stored} are stored`);
    this.#begin();
  }

  /** Of the extended header only the size is honoured: it is how a file of 8 GiB or more says so. */
  #onPax(record: Buffer): void {
    const part = record.subarray(0, this.#pax.left);
    this.#pax.text += part.toString("utf8");
    this.#pax.left -= part.length;
    if (this.#pax.left > 0) return;
    this.#state = "header";
    let text = this.#pax.text;
    while (text.length > 0) {
      const match = /^(\d{1,5}) ([^=]{1,200})=/.exec(text);
      const length = Number(match?.[1] ?? 0);
      if (!match || length <= match[0].length || length > text.length) throw wrong("an extended header is broken");
      const value = text.slice(match[0].length, length - 1);
      if (match[2] === "size") {
        if (!/^\d{1,15}$/.test(value)) throw wrong("an extended header has an absurd size");
        this.#size = Number(value);
      } else if (match[2] === "path" || match[2] === "linkpath") {
        throw wrong("an extended header gives disk.raw another name");
      } else if (match[2]!.startsWith("GNU.sparse")) {
        throw new SlipwayError(
          "unsupported",
          "The tar archive is sparse in the PAX way; only the old GNU way is read.",
          {
            next: "Pack it with `tar --format=oldgnu -S`.",
          },
        );
      }
      text = text.slice(length);
    }
  }

  #begin(): void {
    this.#seen = true;
    this.#padding = (RECORD - (this.#stored % RECORD)) % RECORD;
    this.#target.begin(this.#virtual);
    this.#extent = -1;
    this.#nextExtent();
  }

  /** Jumps over the hole before the next extent that has bytes, or over the last hole. */
  #nextExtent(): void {
    do this.#extent++;
    while (this.#extents[this.#extent]?.bytes === 0);
    const extent = this.#extents[this.#extent];
    const next = extent?.at ?? this.#virtual;
    this.#target.skip(next - this.#pos);
    this.#pos = next;
    this.#left = extent?.bytes ?? 0;
    this.#state = extent ? "data" : this.#padding > 0 ? "padding" : "end";
  }
}

function textAt(record: Buffer, at: number, bytes: number): string {
  const field = record.subarray(at, at + bytes);
  const end = field.indexOf(0);
  return field.toString("latin1", 0, end < 0 ? bytes : end);
}

/** Octal digits, or base 256 when the first bit is set (GNU, for sizes of 8 GiB and more). */
function numberAt(record: Buffer, at: number, bytes: number): number {
  let value = 0;
  if (record[at]! & 0x80) {
    for (let byte = 0; byte < bytes; byte++) {
      value = value * 256 + (byte === 0 ? record[at]! & 0x7f : record[at + byte]!);
    }
  } else {
    const text = textAt(record, at, bytes).trim();
    if (!/^[0-7]*$/.test(text)) throw wrong("a number in it is broken");
    value = text === "" ? 0 : Number.parseInt(text, 8);
  }
  if (!Number.isSafeInteger(value)) throw wrong("a number in it is absurd");
  return value;
}

function wrong(what: string): SlipwayError {
  return new SlipwayError("corrupt", `The tar archive is not one disk.raw: ${what}.`, {
    next: "Pack exactly one regular file named disk.raw: `tar --format=oldgnu -Sczf disk.tar.gz disk.raw`.",
  });
}
