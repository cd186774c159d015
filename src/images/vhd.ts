/**
 * The 512-byte footer that makes a raw disk a fixed VHD, the one kind of VHD Azure takes.
 * @see https://learn.microsoft.com/windows/win32/vstor/about-vhd (the format specification, "Hard Disk Footer Format")
 */
import { SlipwayError } from "../lib/errors.ts";
import { MiB } from "../lib/units.ts";

export const VHD_FOOTER_BYTES = 512;

const CHECKSUM_AT = 64;
const FIXED = 2;

export interface VhdFooter {
  readonly kind: "fixed" | "dynamic" | "differencing" | "other";
  /** Virtual bytes, the footer not counted. */
  readonly bytes: number;
  /** 16 bytes. */
  readonly uuid: Uint8Array;
}

/**
 * Bytes of zero padding that make a raw disk acceptable to Azure: its virtual size is a whole number of MiB, the footer
 * comes after it and does not count.
 * @see https://learn.microsoft.com/azure/virtual-machines/linux/create-upload-generic
 */
export function vhdPadding(rawBytes: number): number {
  return (MiB - (rawBytes % MiB)) % MiB;
}

/**
 * The footer of a fixed VHD. The same input gives the same bytes, so that a resumed upload sends the same disk.
 * @param bytes virtual bytes, a whole number of MiB
 * @param uuid 16 bytes
 */
export function buildVhdFooter(bytes: number, uuid: Uint8Array): Buffer {
  const footer = Buffer.alloc(VHD_FOOTER_BYTES);
  footer.write("conectix", 0, "latin1");
  footer.writeUInt32BE(2, 8); // features: the reserved bit, always set
  footer.writeUInt32BE(0x0001_0000, 12); // version 1.0
  footer.fill(0xff, 16, 24); // data offset: a fixed disk has no further header
  footer.writeUInt32BE(0, 24); // seconds since 2000: constant, for the sake of equal bytes
  footer.write("win ", 28, "latin1"); // with `vpc ` qemu-img rounds the size to the geometry
  footer.writeUInt32BE(0x000a_0000, 32);
  footer.write("Wi2k", 36, "latin1");
  footer.writeBigUInt64BE(BigInt(bytes), 40);
  footer.writeBigUInt64BE(BigInt(bytes), 48);
  const { cylinders, heads, sectors } = geometryOf(bytes);
  footer.writeUInt16BE(cylinders, 56);
  footer.writeUInt8(heads, 58);
  footer.writeUInt8(sectors, 59);
  footer.writeUInt32BE(FIXED, 60);
  footer.set(uuid.subarray(0, 16), 68);
  footer.writeUInt32BE(checksumOf(footer), CHECKSUM_AT);
  return footer;
}

/** @throws SlipwayError `corrupt` when these are not a footer's bytes. */
export function parseVhdFooter(footer: Buffer, url: string): VhdFooter {
  const wrong = (what: string) =>
    new SlipwayError("corrupt", `The file does not end in a VHD footer: ${what}.`, {
      subject: url,
      next: "The metadata calls it a fixed VHD. Build the image anew, or correct its format.",
    });
  if (footer.length !== VHD_FOOTER_BYTES || footer.toString("latin1", 0, 8) !== "conectix") {
    throw wrong("the mark `conectix` is missing");
  }
  if (footer.readUInt32BE(CHECKSUM_AT) !== checksumOf(footer)) throw wrong("its checksum is wrong");
  const type = footer.readUInt32BE(60);
  return {
    kind: type === FIXED ? "fixed" : type === 3 ? "dynamic" : type === 4 ? "differencing" : "other",
    bytes: Number(footer.readBigUInt64BE(48)),
    uuid: Uint8Array.from(footer.subarray(68, 84)),
  };
}

/**
 * Holds the rules of a VHD that a cloud takes: fixed, whole MiB, and as long as it says.
 * @param fileBytes decoded bytes, the footer included
 * @throws SlipwayError `corrupt` if it is no VHD or its size lies, `invalid` if it is one that no cloud takes
 */
export function checkVhd(footer: Buffer, fileBytes: number, url: string): void {
  const vhd = parseVhdFooter(footer, url);
  const next = "Build the image as a fixed VHD of a whole number of MiB (qemu-img: subformat=fixed,force_size=on).";
  if (vhd.kind !== "fixed")
    throw new SlipwayError("invalid", `The VHD is ${vhd.kind}, not fixed.`, { subject: url, next });
  if (vhd.bytes !== fileBytes - VHD_FOOTER_BYTES) {
    throw new SlipwayError(
      "corrupt",
      `The VHD says it holds ${vhd.bytes} bytes, and holds ${fileBytes - VHD_FOOTER_BYTES}.`,
      { subject: url, next },
    );
  }
  if (vhd.bytes % MiB !== 0) {
    throw new SlipwayError("invalid", `The VHD holds ${vhd.bytes} bytes, which is not a whole number of MiB.`, {
      subject: url,
      next,
    });
  }
}

function checksumOf(footer: Buffer): number {
  let sum = 0;
  for (let at = 0; at < VHD_FOOTER_BYTES; at++) {
    if (at < CHECKSUM_AT || at >= CHECKSUM_AT + 4) sum += footer[at]!;
  }
  return ~sum >>> 0;
}

/** Cylinders, heads and sectors as the specification's appendix computes them. Nobody boots by them any more. */
function geometryOf(bytes: number): { cylinders: number; heads: number; sectors: number } {
  const total = Math.min(Math.floor(bytes / 512), 65535 * 16 * 255);
  let heads = 16;
  let sectors = 255;
  if (total < 65535 * 16 * 63) {
    sectors = 17;
    heads = Math.max(4, Math.floor((Math.floor(total / 17) + 1023) / 1024));
    if (Math.floor(total / 17) >= heads * 1024 || heads > 16) {
      sectors = 31;
      heads = 16;
    }
    if (Math.floor(total / sectors) >= heads * 1024) {
      sectors = 63;
      heads = 16;
    }
  }
  return { cylinders: Math.floor(Math.floor(total / sectors) / heads), heads, sectors };
}
