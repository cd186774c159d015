/** What Azure looks at before it makes a disk of a page blob: the fixed VHD's footer, and the size it promises. */
import type { PageData } from "./page-data.ts";

const FOOTER_BYTES = 512;
const MIB = 1024 * 1024;
const FIXED = 2;

/** @returns what is wrong with it, in Azure's words; undefined when it can be imported */
export async function vhdFault(data: PageData, uri: string): Promise<string | undefined> {
  const unsupported = `disk with blob ${uri} is not a supported VHD.`;
  if (data.bytes < FOOTER_BYTES + MIB)
    return `The specified ${unsupported} It is too small to hold a disk and its footer.`;
  const footer = await data.read(data.bytes - FOOTER_BYTES, FOOTER_BYTES);
  if (footer.toString("latin1", 0, 8) !== "conectix") {
    return `The specified cookie value in VHD footer indicates that ${unsupported} Disk is expected to have cookie value 'conectix'.`;
  }
  if (footer.readUInt32BE(60) !== FIXED) {
    return `The specified ${unsupported} Only fixed VHDs (disk type 2) can be imported; the footer says ${footer.readUInt32BE(60)}.`;
  }
  const checksum = footer.readUInt32BE(64);
  const sum = footer.reduce((total, byte, at) => (at >= 64 && at < 68 ? total : total + byte), 0);
  if (~sum >>> 0 !== checksum) return `The specified ${unsupported} The checksum of its footer is wrong.`;
  const size = footer.readBigUInt64BE(48);
  if (size % BigInt(MIB) !== 0n) {
    return `The VHD ${uri} has an unsupported virtual size of ${size} bytes. The size must be a whole number (in MBs).`;
  }
  if (size !== BigInt(data.bytes - FOOTER_BYTES)) {
    return `The VHD ${uri} has a virtual size of ${size} bytes, and the blob holds ${data.bytes - FOOTER_BYTES}.`;
  }
  return undefined;
}
