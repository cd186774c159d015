/** The two checksums that Cloud Storage has of an object: CRC-32C of every one, MD5 of those that were not composed. */
import { createHash } from "node:crypto";

/** CRC-32C's polynomial, lowest bit first. */
const POLYNOMIAL = 0x82f63b78;

const TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
  return crc;
});

export interface Sums {
  /** The next bytes. */
  add(data: Uint8Array): void;
  /** Of all bytes so far. May be asked once. */
  end(): { readonly crc32c: number; readonly md5: string };
}

export function createSums(): Sums {
  const md5 = createHash("md5");
  let crc = -1;
  return {
    add(data) {
      md5.update(data);
      let value = crc;
      for (let at = 0; at < data.length; at++) value = (value >>> 8) ^ TABLE[(value ^ data[at]!) & 0xff]!;
      crc = value;
    },
    end: () => ({ crc32c: ~crc >>> 0, md5: md5.digest("base64") }),
  };
}

/** Big endian, base64: as the service writes it. */
export function crc32cText(crc: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(crc);
  return bytes.toString("base64");
}

/**
 * The CRC-32C of two pieces behind each other, from theirs: reading a composed object of many gigabytes again is spared.
 * Zeros behind the first multiply it, taken as a polynomial, by x to their count of bits.
 */
export function joinCrc32c(first: number, second: number, secondBytes: number): number {
  let shifted = first;
  // x⁸, the shift by one byte; squared, by two, four and so on.
  let power = 0x80000000 >>> 8;
  for (let left = secondBytes; left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) shifted = multiply(shifted, power);
    power = multiply(power, power);
  }
  return (shifted ^ second) >>> 0;
}

/** Two polynomials modulo CRC-32C's, the highest power in the lowest bit. */
function multiply(a: number, b: number): number {
  let product = 0;
  let factor = b;
  for (let bit = 31; bit >= 0; bit--) {
    if ((a >>> bit) & 1) product ^= factor;
    factor = factor & 1 ? (factor >>> 1) ^ POLYNOMIAL : factor >>> 1;
  }
  return product >>> 0;
}
