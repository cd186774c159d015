/**
 * The storage services' "structured body" (XSM/1.0): content cut into segments, each followed by its CRC-64, the whole
 * by one more. Newer storage SDKs send and ask for it when told to use CRC-64. Numbers are little endian.
 *
 *     version u8 = 1 · whole length u64 · flags u16 (1 = CRC-64) · segments u16
 *     per segment: number u16 from 1 · length u64 · content · crc64 of the content
 *     crc64 of all content
 */
import { crc64 } from "./crc64.ts";

const HEADER_BYTES = 13;
const SEGMENT_HEADER_BYTES = 10;
const CRC_BYTES = 8;

/** @returns the content, or what is wrong: `layout` or `crc` */
export function decodeStructured(body: Buffer): Buffer | "layout" | "crc" {
  if (body.length < HEADER_BYTES + CRC_BYTES || body[0] !== 1) return "layout";
  if (body.readBigUInt64LE(1) !== BigInt(body.length) || body.readUInt16LE(9) !== 1) return "layout";
  const segments = body.readUInt16LE(11);
  const pieces: Buffer[] = [];
  let at = HEADER_BYTES;
  for (let number = 1; number <= segments; number++) {
    if (at + SEGMENT_HEADER_BYTES > body.length || body.readUInt16LE(at) !== number) return "layout";
    const length = Number(body.readBigUInt64LE(at + 2));
    const start = at + SEGMENT_HEADER_BYTES;
    if (start + length + CRC_BYTES > body.length) return "layout";
    const content = body.subarray(start, start + length);
    at = start + length + CRC_BYTES;
    if (!crc64(content).equals(body.subarray(at - CRC_BYTES, at))) return "crc";
    pieces.push(content);
  }
  if (at + CRC_BYTES !== body.length) return "layout";
  const content = pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces);
  return crc64(content).equals(body.subarray(at)) ? content : "crc";
}

/** One segment is enough for what the simulator answers in this form (≤ 4 MiB). */
export function encodeStructured(content: Buffer): Buffer {
  const crc = crc64(content);
  const header = Buffer.alloc(HEADER_BYTES + SEGMENT_HEADER_BYTES);
  header[0] = 1;
  header.writeBigUInt64LE(BigInt(header.length + content.length + 2 * CRC_BYTES), 1);
  header.writeUInt16LE(1, 9);
  header.writeUInt16LE(1, 11);
  header.writeUInt16LE(1, HEADER_BYTES);
  header.writeBigUInt64LE(BigInt(content.length), HEADER_BYTES + 2);
  return Buffer.concat([header, content, crc, crc]);
}
