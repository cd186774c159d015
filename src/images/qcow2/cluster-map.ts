/**
 * Where in a qcow2 file the guest's bytes lie: header and tables read, judged, and turned into one list in file order.
 *
 * Nothing in the tables is believed: what points out of the file, into the tables, or to where something else lies is
 * `corrupt`. That also makes loops impossible, and bounds the work by the disk's size and the memory by `MAX_CLUSTERS`.
 */
import type { CallContext } from "../../lib/call.ts";
import { SlipwayError } from "../../lib/errors.ts";
import type { ByteSource } from "../byte-source.ts";
import { HEADER_BYTES, parseQcowHeader, type QcowHeader } from "./header.ts";
import { readRegions, type SeenRegion } from "./regions.ts";

/** Clusters with data, ordered by where they lie in the file. Arrays of one length. */
export interface ClusterMap {
  readonly header: QcowHeader;
  readonly clusterBytes: number;
  /** Number of the cluster on the disk: its first byte / clusterBytes. */
  readonly guest: Uint32Array;
  /** First byte in the file. */
  readonly at: Float64Array;
  /** Bytes in the file. Where it is compressed, the last sector may belong to its neighbour as well. */
  readonly length: Uint32Array;
  /** 1 = compressed. */
  readonly compressed: Uint8Array;
  /** Header and tables, in file order. */
  readonly seen: readonly SeenRegion[];
}

/** 256 GiB at QEMU's 64 KiB, 2 GiB at 512 bytes; 17 bytes of memory each. */
const MAX_CLUSTERS = 2 ** 22;
const SECTOR = 512;

/** Entries of both tables: bits 9 … 55 are an offset, 63 says that nobody shares it, 62 (L2) that it is compressed. */
const OFFSET = 0x00ff_ffff_ffff_fe00n;
const COPIED = 1n << 63n;
const COMPRESSED = 1n << 62n;
const ZERO = 1n;

/**
 * @param most virtual bytes that are allowed
 * @throws SlipwayError as `parseQcowHeader`; `corrupt` for tables that cannot be, `unsupported` for too many clusters
 */
export async function readClusterMap(
  source: ByteSource,
  file: { readonly bytes: number; readonly ranged: boolean },
  most: number,
  call: CallContext,
): Promise<ClusterMap> {
  const { url } = source;
  if (file.bytes < HEADER_BYTES) throw wrong(url, `the file has only ${file.bytes} bytes`);
  let header: QcowHeader | undefined;
  const seen = await readRegions(source, file.ranged, [0], HEADER_BYTES, call, (_, data) => {
    header = parseQcowHeader(data, file.bytes, most, url);
  });
  const tables = new Tables(header!, file.bytes, url);
  if (header!.l1Entries > 0) {
    const l1Bytes = header!.l1Entries * 8;
    seen.push(
      ...(await readRegions(source, file.ranged, [header!.l1At], l1Bytes, call, (_, data) => tables.addL1(data))),
    );
  }
  const starts = tables.l2Starts();
  seen.push(
    ...(await readRegions(source, file.ranged, starts, tables.clusterBytes, call, (at, data) =>
      tables.addL2(at, data),
    )),
  );
  seen.sort((one, other) => one.at - other.at);
  return tables.finish(seen);
}

function wrong(url: string, what: string): SlipwayError {
  return new SlipwayError("corrupt", `The qcow2 file is damaged: ${what}.`, {
    subject: url,
    next: "Fetch or build the image anew; `qemu-img check FILE` tells more. Nothing was committed.",
  });
}

class Tables {
  readonly clusterBytes: number;
  readonly #header: QcowHeader;
  readonly #fileBytes: number;
  readonly #url: string;
  readonly #perTable: number;
  /** Where an L2 table lies → which L1 entry points there. */
  readonly #l2 = new Map<number, number>();
  readonly #reserved: bigint;
  #count = 0;
  #guest = new Uint32Array(1024);
  #at = new Float64Array(1024);
  #length = new Uint32Array(1024);
  #compressed = new Uint8Array(1024);

  constructor(header: QcowHeader, fileBytes: number, url: string) {
    this.#header = header;
    this.#fileBytes = fileBytes;
    this.#url = url;
    this.clusterBytes = 2 ** header.clusterBits;
    this.#perTable = this.clusterBytes / 8;
    // Version 2 knows no zero clusters.
    this.#reserved = ~(OFFSET | COPIED | COMPRESSED | (header.version === 3 ? ZERO : 0n));
  }

  addL1(table: Buffer): void {
    for (let index = 0; index < this.#header.l1Entries; index++) {
      const entry = table.readBigUInt64BE(index * 8);
      if ((entry & OFFSET) === 0n) {
        if (entry !== 0n) throw wrong(this.#url, `L1 entry ${index} is 0x${entry.toString(16)}`);
        continue;
      }
      if ((entry & ~(OFFSET | COPIED)) !== 0n) throw wrong(this.#url, `L1 entry ${index} is 0x${entry.toString(16)}`);
      const at = Number(entry & OFFSET);
      if (at % this.clusterBytes !== 0 || at + this.clusterBytes > this.#fileBytes) {
        throw wrong(this.#url, `L1 entry ${index} points to byte ${at} of ${this.#fileBytes}`);
      }
      if (this.#l2.has(at)) throw wrong(this.#url, `two L1 entries point to byte ${at}`);
      this.#l2.set(at, index);
    }
  }

  l2Starts(): number[] {
    return [...this.#l2.keys()].sort((one, other) => one - other);
  }

  addL2(at: number, table: Buffer): void {
    const firstGuest = this.#l2.get(at)! * this.#perTable;
    const guests = Math.min(this.#perTable, Math.ceil(this.#header.bytes / this.clusterBytes) - firstGuest);
    for (let index = 0; index < guests; index++) {
      // Most entries of most tables are empty: looked at without making a BigInt.
      const high = table.readUInt32BE(index * 8);
      const low = table.readUInt32BE(index * 8 + 4);
      if (high !== 0 || low !== 0) this.#addEntry(firstGuest + index, (BigInt(high) << 32n) | BigInt(low));
    }
  }

  #addEntry(guest: number, entry: bigint): void {
    if (entry & COMPRESSED) {
      const offsetBits = 62n - BigInt(this.#header.clusterBits - 8);
      const at = Number(entry & ((1n << offsetBits) - 1n));
      const sectors = Number((entry & (COMPRESSED - 1n)) >> offsetBits) + 1;
      const end = at - (at % SECTOR) + sectors * SECTOR;
      // The file may end inside the last sector: nobody fills it up.
      if (entry & COPIED || at < this.clusterBytes || at >= this.#fileBytes || end >= this.#fileBytes + SECTOR) {
        throw wrong(this.#url, `a compressed cluster from byte ${at} to ${end} of ${this.#fileBytes}`);
      }
      this.#push(guest, at, Math.min(end, this.#fileBytes) - at, 1);
      return;
    }
    if (entry & this.#reserved) throw wrong(this.#url, `the entry of cluster ${guest} is 0x${entry.toString(16)}`);
    const at = Number(entry & OFFSET);
    if (at % this.clusterBytes !== 0 || (at !== 0 && at < this.clusterBytes) || at >= this.#fileBytes) {
      throw wrong(this.#url, `cluster ${guest} lies at byte ${at} of ${this.#fileBytes}`);
    }
    if (entry & ZERO || at === 0) return;
    // What is missing at the end of the file reads as zeros, as in QEMU: it leaves the end of a last cluster unwritten.
    const needed = Math.min(this.clusterBytes, this.#header.bytes - guest * this.clusterBytes);
    this.#push(guest, at, Math.min(needed, this.#fileBytes - at), 0);
  }

  #push(guest: number, at: number, length: number, compressed: number): void {
    if (this.#count === MAX_CLUSTERS) {
      throw new SlipwayError("unsupported", `The qcow2 file has more than ${MAX_CLUSTERS} clusters with data.`, {
        subject: this.#url,
        next: "Convert it to larger clusters: qemu-img convert -O qcow2 -o cluster_size=64k OLD NEW.",
      });
    }
    if (this.#count === this.#guest.length) this.#grow();
    this.#guest[this.#count] = guest;
    this.#at[this.#count] = at;
    this.#length[this.#count] = length;
    this.#compressed[this.#count++] = compressed;
  }

  #grow(): void {
    const size = this.#guest.length * 2;
    const grown = <T extends { set(from: T): void }>(array: T, from: T): T => {
      array.set(from);
      return array;
    };
    this.#guest = grown(new Uint32Array(size), this.#guest);
    this.#at = grown(new Float64Array(size), this.#at);
    this.#length = grown(new Uint32Array(size), this.#length);
    this.#compressed = grown(new Uint8Array(size), this.#compressed);
  }

  /** Puts all into file order, and sees that nothing lies where something else does. */
  finish(seen: readonly SeenRegion[]): ClusterMap {
    const at = this.#at;
    const order = Uint32Array.from({ length: this.#count }, (_, index) => index);
    let sorted = true;
    for (let index = 1; index < this.#count && sorted; index++) sorted = at[index - 1]! <= at[index]!;
    if (!sorted) order.sort((one, other) => at[one]! - at[other]!);
    const map: ClusterMap = {
      ...{ header: this.#header, clusterBytes: this.clusterBytes, seen },
      guest: order.map((index) => this.#guest[index]!),
      at: Float64Array.from(order, (index) => at[index]!),
      length: order.map((index) => this.#length[index]!),
      compressed: Uint8Array.from(order, (index) => this.#compressed[index]!),
    };
    this.#checkOverlap(map);
    return map;
  }

  #checkOverlap({ at, length, compressed, seen }: ClusterMap): void {
    const { refcounts } = this.#header;
    const tables = [
      ...seen.map((region) => ({ at: region.at, end: region.end })),
      { at: refcounts[0], end: refcounts[1] },
    ].sort((one, other) => one.at - other.at);
    let last = -1;
    let end = 0;
    let shared = 0;
    let table = 0;
    const next = (start: number, stop: number, shares: boolean) => {
      // A compressed cluster begins in the sector in which the one before it ended, and after that one's beginning.
      if (start <= last || start < end - (shares ? shared : 0)) {
        throw wrong(this.#url, `two things lie at byte ${start}`);
      }
      last = start;
      end = Math.max(end, stop);
    };
    for (let index = 0; index < at.length; index++) {
      for (; table < tables.length && tables[table]!.at <= at[index]!; table++) {
        next(tables[table]!.at, tables[table]!.end, false);
        shared = 0;
      }
      next(at[index]!, at[index]! + length[index]!, compressed[index] === 1);
      shared = compressed[index] === 1 ? SECTOR - 1 : 0;
    }
    for (; table < tables.length; table++) next(tables[table]!.at, tables[table]!.end, false);
  }
}
