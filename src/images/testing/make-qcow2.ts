/** qcow2 files as a test wants them: any version, cluster size and order of clusters, and any lie in the tables. */
import { constants, deflateRawSync, zstdCompressSync } from "node:zlib";
import { randomOf } from "./make.ts";

export interface QcowOptions {
  readonly version?: 2 | 3;
  /** 9 … 21. Default 16, as QEMU's. */
  readonly clusterBits?: number;
  readonly compress?: "deflate" | "zstd" | undefined;
  /** What becomes of a cluster of zeros: left out, marked as zero, marked as zero with a place kept, or stored. */
  readonly zeros?: "absent" | "zero" | "zero-allocated" | "stored";
  /** Clusters are laid down in an order of this seed. Default: the guest's order. */
  readonly shuffle?: number | undefined;
  /** Virtual bytes as the header says. Default: the disk's. */
  readonly bytes?: number;
}

export interface QcowFile {
  readonly file: Buffer;
  readonly clusterBytes: number;
  readonly l1At: number;
  /** Where the first L2 table lies. */
  readonly l2At: number;
  /** Where the first cluster that was laid down lies. */
  readonly dataAt: number;
}

const COPIED = 1n << 63n;
const COMPRESSED = 1n << 62n;

export const makeQcow2 = (disk: Buffer, options: QcowOptions = {}): Buffer => layOutQcow2(disk, options).file;

export function layOutQcow2(disk: Buffer, options: QcowOptions = {}): QcowFile {
  const { version = 3, clusterBits = 16, compress, zeros = "absent", bytes = disk.length } = options;
  const clusterBytes = 2 ** clusterBits;
  const clusters = Math.ceil(disk.length / clusterBytes);
  const perTable = clusterBytes / 8;
  const tables = Math.ceil(clusters / perTable);
  const l1At = 2 * clusterBytes;
  const l2At = l1At + Math.max(1, Math.ceil((tables * 8) / clusterBytes)) * clusterBytes;
  const dataAt = l2At + tables * clusterBytes;

  const head = Buffer.alloc(dataAt);
  writeHeader(head, { version, clusterBits, bytes, tables, l1At, refcountsAt: clusterBytes, compress });
  const parts: Buffer[] = [head];
  let at = dataAt;
  const lay = (data: Buffer) => {
    parts.push(data);
    at += data.length;
  };
  const toNextCluster = () => lay(Buffer.alloc((clusterBytes - (at % clusterBytes)) % clusterBytes));

  for (let table = 0; table < tables; table++) {
    head.writeBigUInt64BE(BigInt(l2At + table * clusterBytes) | COPIED, l1At + table * 8);
  }
  for (const guest of orderOf(clusters, options.shuffle)) {
    const data = Buffer.alloc(clusterBytes);
    disk.copy(data, 0, guest * clusterBytes);
    let entry = 0n;
    const empty = !data.some((byte) => byte !== 0);
    if (empty && zeros === "zero") entry = 1n;
    else if (empty && zeros === "zero-allocated") {
      toNextCluster();
      entry = BigInt(at) | COPIED | 1n;
      lay(Buffer.alloc(clusterBytes, 0xee));
    } else if (!empty || zeros === "stored") {
      const packed = compress === undefined ? data : packCluster(data, compress);
      if (packed.length < clusterBytes) {
        const sectors = Math.floor((at + packed.length - 1) / 512) - Math.floor(at / 512);
        entry = COMPRESSED | (BigInt(sectors) << BigInt(62 - (clusterBits - 8))) | BigInt(at);
        lay(packed);
      } else {
        toNextCluster();
        entry = BigInt(at) | COPIED;
        lay(data);
      }
    }
    head.writeBigUInt64BE(entry, l2At + guest * 8);
  }
  return { file: Buffer.concat(parts), clusterBytes, l1At, l2At, dataAt };
}

function packCluster(data: Buffer, kind: "deflate" | "zstd"): Buffer {
  if (kind === "deflate") return deflateRawSync(data, { windowBits: 12, level: 1 });
  return zstdCompressSync(data, { params: { [constants.ZSTD_c_checksumFlag]: data[0]! & 1 } });
}

interface Header {
  readonly version: 2 | 3;
  readonly clusterBits: number;
  readonly bytes: number;
  readonly tables: number;
  readonly l1At: number;
  readonly refcountsAt: number;
  readonly compress: QcowOptions["compress"];
}

function writeHeader(head: Buffer, header: Header): void {
  head.write("QFI\xfb", 0, "latin1");
  head.writeUInt32BE(header.version, 4);
  head.writeUInt32BE(header.clusterBits, 20);
  head.writeBigUInt64BE(BigInt(header.bytes), 24);
  head.writeUInt32BE(header.tables, 36);
  head.writeBigUInt64BE(BigInt(header.l1At), 40);
  head.writeBigUInt64BE(BigInt(header.refcountsAt), 48);
  head.writeUInt32BE(1, 56);
  if (header.version === 2) return;
  head.writeUInt32BE(4, 96);
  head.writeUInt32BE(112, 100);
  if (header.compress !== "zstd") return;
  head.writeBigUInt64BE(8n, 72);
  head[104] = 1;
}

function orderOf(count: number, seed: number | undefined): number[] {
  const order = Array.from({ length: count }, (_, index) => index);
  if (seed === undefined) return order;
  const random = randomOf(seed);
  for (let left = count - 1; left > 0; left--) {
    const other = Math.floor(random() * (left + 1));
    [order[left], order[other]] = [order[other]!, order[left]!];
  }
  return order;
}
