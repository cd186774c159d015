/**
 * What stands around a disk's bytes in the archive Google asks for: `tar --format=oldgnu -S` with one `disk.raw`.
 * Holes are not in the archive; a map at its front says where what follows belongs.
 * @see https://cloud.google.com/compute/docs/import/import-existing-image
 * @see https://www.gnu.org/software/tar/manual/html_node/Standard.html
 */
export interface Extent {
  /** Offset in the disk, bytes; a multiple of 512. */
  readonly at: number;
  /** A multiple of 512, so that no padding follows the data. > 0 */
  readonly bytes: number;
}

const RECORD = 512;
/** GNU tar writes whole blocks of 20 records. */
const BLOCKING = 20 * RECORD;
const IN_HEADER = 4;
const IN_EXTENSION = 21;
const ENTRY = 24;

/** Header and map. `extents` in ascending order, neither overlapping nor beyond `diskBytes`. The same bytes every time. */
export function sparseTarHead(diskBytes: number, extents: readonly Extent[]): Buffer {
  checkExtents(diskBytes, extents);
  const end = extents.at(-1);
  // As GNU tar does: a hole at the end is told by an extent without bytes.
  const map = end && end.at + end.bytes === diskBytes ? extents : [...extents, { at: diskBytes, bytes: 0 }];
  const extensions = Math.ceil(Math.max(0, map.length - IN_HEADER) / IN_EXTENSION);
  const head = Buffer.alloc((1 + extensions) * RECORD);
  head.write("disk.raw", 0, "latin1");
  number(head, 0o644, 100, 8);
  number(head, 0, 108, 8);
  number(head, 0, 116, 8);
  number(head, storedBytes(extents), 124, 12);
  // No time: the same disk makes the same archive.
  number(head, 0, 136, 12);
  head.write("S", 156, "latin1");
  head.write("ustar  \0", 257, "latin1");
  head.write("root", 265, "latin1");
  head.write("root", 297, "latin1");
  writeMap(head, 386, map.slice(0, IN_HEADER));
  head[482] = extensions > 0 ? 1 : 0;
  number(head, diskBytes, 483, 12);
  for (let extension = 0; extension < extensions; extension++) {
    const record = head.subarray((1 + extension) * RECORD, (2 + extension) * RECORD);
    const from = IN_HEADER + extension * IN_EXTENSION;
    writeMap(record, 0, map.slice(from, from + IN_EXTENSION));
    record[504] = extension < extensions - 1 ? 1 : 0;
  }
  head.fill(" ", 148, 156);
  const sum = head.subarray(0, RECORD).reduce((total, byte) => total + byte, 0);
  head.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return head;
}

/** The archive's end: two empty records and what fills the last block. */
export function sparseTarTail(headBytes: number, extents: readonly Extent[]): Buffer {
  const bytes = headBytes + storedBytes(extents) + 2 * RECORD;
  return Buffer.alloc(2 * RECORD + ((BLOCKING - (bytes % BLOCKING)) % BLOCKING));
}

function storedBytes(extents: readonly Extent[]): number {
  return extents.reduce((sum, extent) => sum + extent.bytes, 0);
}

function checkExtents(diskBytes: number, extents: readonly Extent[]): void {
  let end = 0;
  for (const { at, bytes } of extents) {
    if (at < end || bytes <= 0 || at % RECORD !== 0 || bytes % RECORD !== 0 || at + bytes > diskBytes) {
      throw new RangeError(`extent of ${bytes} bytes at ${at} does not follow ${end} in a disk of ${diskBytes}`);
    }
    end = at + bytes;
  }
}

function writeMap(record: Buffer, from: number, map: readonly { at: number; bytes: number }[]): void {
  map.forEach(({ at, bytes }, position) => {
    number(record, at, from + position * ENTRY, 12);
    number(record, bytes, from + position * ENTRY + 12, 12);
  });
}

/** Octal digits and a NUL; base 256 with the first bit set for what these cannot say (8 GiB and more in 12 bytes). */
function number(record: Buffer, value: number, at: number, width: number): void {
  const digits = value.toString(8);
  if (digits.length < width) {
    record.write(`${digits.padStart(width - 1, "0")}\0`, at, "latin1");
    return;
  }
  let left = value;
  for (let byte = width - 1; byte > 0; byte--) {
    record[at + byte] = left % 256;
    left = Math.floor(left / 256);
  }
  record[at] = 0x80;
}
