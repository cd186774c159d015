/**
 * The first bytes of a qcow2 file: what it is, and whether it stands alone.
 *
 * Refused are files whose guest bytes are not all in them (backing file, external data file), that are encrypted, or
 * that say themselves that they are not sound. Snapshots and bitmaps inside are ignored: what counts is the active disk.
 * @see https://www.qemu.org/docs/master/interop/qcow2.html
 */
import { type ErrorCode, SlipwayError } from "../../lib/errors.ts";
import { MiB } from "../../lib/units.ts";

/** As much as is looked at. The smallest cluster: every qcow2 file is at least that long. */
export const HEADER_BYTES = 512;

export interface QcowHeader {
  readonly version: 2 | 3;
  /** 512 B … 2 MiB, a power of two. */
  readonly clusterBits: number;
  /** Virtual bytes of the disk. */
  readonly bytes: number;
  /** Where the table of tables lies, and how many entries of it the disk needs. */
  readonly l1At: number;
  readonly l1Entries: number;
  /** [start, end) of the table of reference counts: nothing else may lie there. */
  readonly refcounts: readonly [number, number];
  readonly compression: "deflate" | "zstd";
}

/** Bits of `incompatible_features`: who does not know one must not read the file. */
const DIRTY = 1n;
const CORRUPT = 2n;
const EXTERNAL_DATA = 4n;
const COMPRESSION_TYPE = 8n;
const EXTENDED_L2 = 16n;

/** QEMU's own limit for a table of tables (QCOW_MAX_L1_SIZE), and so for what a reader has to hold. */
const MAX_L1_BYTES = 32 * MiB;

/**
 * @param fileBytes length of the whole file
 * @param most virtual bytes that are allowed
 * @throws SlipwayError `corrupt`, `unsupported` (needs more than this file, or a feature not known here), `invalid`
 */
export function parseQcowHeader(header: Buffer, fileBytes: number, most: number, url: string): QcowHeader {
  const refuse = (code: ErrorCode, what: string, next: string) => new SlipwayError(code, what, { subject: url, next });
  const corrupt = (what: string) =>
    refuse("corrupt", `The qcow2 header is wrong: ${what}.`, "Fetch or build the image anew, or correct its format.");
  const alone = "Flatten it: qemu-img convert -O qcow2 OLD NEW.";

  if (header.length < HEADER_BYTES || header.readUInt32BE(0) !== 0x51_46_49_fb) throw corrupt("its mark is missing");
  const version = header.readUInt32BE(4);
  if (version !== 2 && version !== 3) {
    throw refuse("unsupported", `The qcow2 file is of version ${version}; 2 and 3 can be read.`, alone);
  }
  const features = version === 3 ? header.readBigUInt64BE(72) : 0n;
  const headerBytes = version === 3 ? header.readUInt32BE(100) : 72;
  if (version === 3 && (headerBytes < 104 || headerBytes % 8 !== 0)) throw corrupt(`it has ${headerBytes} bytes`);

  if (features & CORRUPT) {
    throw refuse("corrupt", "The qcow2 file is marked as corrupt by whoever wrote it last.", "Build the image anew.");
  }
  if (features & DIRTY) {
    const next = "Its writer was interrupted. Build it anew, or repair it: qemu-img check -r all FILE.";
    throw refuse("invalid", "The qcow2 file was not closed properly (dirty).", next);
  }
  if (features & EXTERNAL_DATA) throw refuse("unsupported", "The qcow2 file keeps its data in another file.", alone);
  if (features & EXTENDED_L2) {
    const next = "Convert it without: qemu-img convert -O qcow2 -o extended_l2=off OLD NEW.";
    throw refuse("unsupported", "The qcow2 file has subclusters (extended L2), which cannot be read.", next);
  }
  const unknown = features & ~(DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION_TYPE | EXTENDED_L2);
  if (unknown !== 0n) {
    throw refuse("unsupported", `The qcow2 file has features not known here (0x${unknown.toString(16)}).`, alone);
  }
  if (header.readBigUInt64BE(8) !== 0n || header.readUInt32BE(16) !== 0) {
    throw refuse("unsupported", "The qcow2 file holds only the differences to another file (backing file).", alone);
  }
  if (header.readUInt32BE(32) !== 0) throw refuse("unsupported", "The qcow2 file is encrypted.", alone);

  const compressionType = headerBytes > 104 ? header[104]! : 0;
  if (compressionType > 1) {
    throw refuse("unsupported", `The qcow2 file is compressed in way ${compressionType}, not known here.`, alone);
  }
  if ((compressionType !== 0) !== ((features & COMPRESSION_TYPE) !== 0n)) {
    throw corrupt("its compression type and the bit that announces one disagree");
  }

  const clusterBits = header.readUInt32BE(20);
  if (clusterBits < 9 || clusterBits > 21) throw corrupt(`clusters of 2^${clusterBits} bytes`);
  const clusterBytes = 2 ** clusterBits;
  const bytes = Number(header.readBigUInt64BE(24));
  if (bytes > most) {
    throw refuse(
      "invalid",
      `The disk has ${bytes} bytes; ${most} are allowed.`,
      "If it is meant to be that large, raise the limit for virtual disk sizes.",
    );
  }
  const l1Entries = Math.ceil(bytes / (clusterBytes * (clusterBytes / 8)));
  const l1Declared = header.readUInt32BE(36);
  const l1At = Number(header.readBigUInt64BE(40));
  if (l1Declared < l1Entries) throw corrupt(`its L1 table has ${l1Declared} entries, the disk needs ${l1Entries}`);
  if (l1Declared * 8 > MAX_L1_BYTES) throw corrupt(`an L1 table of ${l1Declared} entries`);
  if (l1At < clusterBytes || l1At % clusterBytes !== 0 || l1At + l1Declared * 8 > fileBytes) {
    throw corrupt(`an L1 table at byte ${l1At} of ${fileBytes}`);
  }
  const refcountsAt = Number(header.readBigUInt64BE(48));
  const refcountsEnd = refcountsAt + header.readUInt32BE(56) * clusterBytes;
  if (refcountsAt < clusterBytes || refcountsAt % clusterBytes !== 0 || refcountsAt >= fileBytes) {
    throw corrupt(`a refcount table at byte ${refcountsAt} of ${fileBytes}`);
  }
  return {
    ...{ version, clusterBits, bytes, l1At, l1Entries, refcounts: [refcountsAt, refcountsEnd] },
    compression: compressionType === 1 ? "zstd" : "deflate",
  };
}
