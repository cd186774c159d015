/** Checksums of a whole from the checksums of its parts, without looking at a byte again. */

/** Reflected polynomials. `crc32` is gzip's, `crc32c` (Castagnoli) the one Cloud Storage keeps of every object. */
const POLYNOMIALS = { crc32: 0xedb88320, crc32c: 0x82f63b78 } as const;

export type CrcKind = keyof typeof POLYNOMIALS;

/**
 * The checksum of A followed by B. Takes the logarithm of B's length in steps.
 * A checksum is a remainder of polynomials: B's length moves A's remainder up, and B's is added.
 * @param bBytes length of B in bytes, below 2^53
 */
export function joinCrc(kind: CrcKind, a: number, b: number, bBytes: number): number {
  return (multiply(POLYNOMIALS[kind], moveBy(kind, bBytes), a) ^ b) >>> 0;
}

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIALS.crc32c : crc >>> 1;
  return crc >>> 0;
});

/** CRC-32C of bytes. About 300 MB/s; for the small, and for what only a test looks at. */
export function crc32c(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (let at = 0; at < data.length; at++) crc = (crc >>> 8) ^ TABLE[(crc ^ data[at]!) & 0xff]!;
  return (crc ^ 0xffffffff) >>> 0;
}

/** Powers x^(2^k) modulo the polynomial, made when first asked for. */
const squares = new Map<CrcKind, number[]>();

/** x^(8 · bytes) modulo the polynomial. */
function moveBy(kind: CrcKind, bytes: number): number {
  const polynomial = POLYNOMIALS[kind];
  const known = squares.get(kind) ?? [0x40000000];
  squares.set(kind, known);
  let power = 0x80000000;
  for (let left = bytes, exponent = 3; left > 0; left = Math.floor(left / 2), exponent++) {
    while (known.length <= exponent) known.push(multiply(polynomial, known.at(-1)!, known.at(-1)!));
    if (left % 2 === 1) power = multiply(polynomial, known[exponent]!, power);
  }
  return power;
}

/** a · b modulo the polynomial; the highest bit is x^0. */
function multiply(polynomial: number, a: number, b: number): number {
  let product = 0;
  let shifted = b;
  for (let bit = 31; bit >= 0; bit--) {
    if ((a >>> bit) & 1) product ^= shifted;
    shifted = shifted & 1 ? (shifted >>> 1) ^ polynomial : shifted >>> 1;
  }
  return product >>> 0;
}
