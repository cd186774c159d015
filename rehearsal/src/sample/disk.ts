/**
 * A disk for the demo: the shape of an operating-system image (a partition table, islands of data, mostly holes)
 * without being one. Deterministic, so that two demos upload the same bytes. What really boots is made by
 * test/interop/make-disk from a distribution's packages.
 */
import { createHash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";

const MiB = 1024 * 1024;

/** Writes a sparse raw disk of `bytes` of which about `dataBytes` are not zero. */
export async function makeSampleDisk(path: string, bytes: number, dataBytes: number, seed: string): Promise<void> {
  const file = await open(path, "w");
  try {
    await file.truncate(bytes);
    await file.write(protectiveMbr(bytes), 0, 512, 0);
    const islands = Math.max(1, Math.floor(dataBytes / MiB));
    const stride = Math.floor(bytes / MiB / islands);
    for (let island = 0; island < islands; island++) {
      await writeIsland(file, (1 + island * stride) * MiB, bytes, `${seed}/${island}`);
    }
  } finally {
    await file.close();
  }
}

/** One MiB that compresses about 2:1, as program text does: blocks of noise, each written twice. */
async function writeIsland(file: FileHandle, offset: number, end: number, seed: string): Promise<void> {
  if (offset + MiB > end) return;
  const data = Buffer.alloc(MiB);
  let noise = createHash("sha512").update(seed).digest();
  for (let at = 0; at < MiB; at += 2 * noise.length) {
    noise = createHash("sha512").update(noise).digest();
    noise.copy(data, at);
    noise.copy(data, at + noise.length);
  }
  await file.write(data, 0, data.length, offset);
}

/** Says to old tools that the whole disk belongs to a GPT (UEFI specification, 5.2.3). */
function protectiveMbr(bytes: number): Buffer {
  const sector = Buffer.alloc(512);
  sector[446 + 4] = 0xee;
  sector.writeUInt32LE(1, 446 + 8);
  sector.writeUInt32LE(Math.min(bytes / 512 - 1, 0xffffffff), 446 + 12);
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}
