/**
 * The 512 bytes at the end of a fixed VHD. Written apart from Slipway's own reader and writer on purpose: a simulator
 * or a sample that shared them would agree with every mistake in them.
 * @see https://learn.microsoft.com/windows/win32/vstor/about-vhd
 */
import { randomBytes } from "node:crypto";

/** @param id 16 bytes; the same id gives the same footer */
export function vhdFooter(bytes: number, id: Buffer = randomBytes(16)): Buffer {
  const footer = Buffer.alloc(512);
  footer.write("conectix", 0, "latin1");
  footer.writeUInt32BE(2, 8);
  footer.writeUInt32BE(0x00010000, 12);
  footer.fill(0xff, 16, 24);
  footer.writeUInt32BE(0x2d3a1f00, 24);
  footer.write("win ", 28, "latin1");
  footer.writeUInt32BE(0x00060003, 32);
  footer.write("Wi2k", 36, "latin1");
  footer.writeBigUInt64BE(BigInt(bytes), 40);
  footer.writeBigUInt64BE(BigInt(bytes), 48);
  const [cylinders, heads, sectors] = geometry(bytes);
  footer.writeUInt16BE(cylinders, 56);
  footer[58] = heads;
  footer[59] = sectors;
  footer.writeUInt32BE(2, 60);
  id.copy(footer, 68);
  const sum = footer.reduce((total, byte) => total + byte, 0);
  footer.writeUInt32BE(~sum >>> 0, 64);
  return footer;
}

/** The appendix of the VHD specification, "CHS calculation". */
function geometry(bytes: number): [number, number, number] {
  const total = Math.min(Math.floor(bytes / 512), 65535 * 16 * 255);
  if (total >= 65535 * 16 * 63) return [Math.floor(total / 255 / 16), 16, 255];
  let sectors = 17;
  let heads = Math.max(4, Math.ceil(total / 17 / 1024));
  if (total / 17 >= heads * 1024 || heads > 16) [sectors, heads] = [31, 16];
  if (total / sectors >= heads * 1024) [sectors, heads] = [63, 16];
  return [Math.floor(total / sectors / heads), heads, sectors];
}
