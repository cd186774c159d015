/** qcow2 files that QEMU wrote, in every way it writes them, read by us. Debian package: qemu-utils. */
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { BLOCK_BYTES } from "../../src/images/block-source.ts";
import { openDisk } from "../../src/images/open-disk.ts";
import { makeDisk } from "../../src/images/testing/make.ts";
import { quietCall } from "../../src/lib/call.ts";
import { MiB } from "../../src/lib/units.ts";

const call = quietCall();
const missing = spawnSync("which", ["qemu-img"]).status !== 0;
if (missing && process.env.CI) throw new Error("not installed: qemu-img");

describe.skipIf(missing)("qemu-img", () => {
  const folder = mkdtempSync(join(tmpdir(), "slipway-qemu-"));
  const raw = join(folder, "disk.raw");
  // Its last sectors are not a whole cluster of any size.
  const disk = makeDisk(70 * MiB + 3 * 512, { zeros: 0.5, seed: 12 });
  beforeAll(() => writeFileSync(raw, disk));
  afterAll(() => rmSync(folder, { recursive: true }));

  const image = (...args: string[]) => execFileSync("qemu-img", args, { encoding: "utf8" });

  async function read(path: string): Promise<Buffer> {
    const file = readFileSync(path);
    const sha256 = createHash("sha256").update(file).digest("hex");
    const source = await openDisk({ url: path, bytes: file.length, sha256, format: "qcow2" }, { wants: "raw" }, call);
    const back = Buffer.alloc(source.bytes);
    for await (const block of source.read(call)) {
      back.set(block.data, block.index * BLOCK_BYTES);
      block.release();
    }
    await source.close();
    return back;
  }

  const options = [
    ["-o", "compat=0.10"],
    ["-o", "compat=1.1"],
    ["-c"],
    ["-c", "-o", "compat=0.10"],
    ["-c", "-o", "compression_type=zstd"],
    ["-c", "-W", "-m", "16", "-o", "compression_type=zstd"],
    ["-W", "-m", "16"],
    ["-S", "0"],
    ["-o", "preallocation=metadata"],
    ["-o", "preallocation=full"],
    ["-o", "lazy_refcounts=on"],
    ["-o", "refcount_bits=1"],
    ...[512, 4096, 32_768, 1_048_576, 2_097_152].flatMap((size) => [
      ["-o", `cluster_size=${size}`],
      ["-c", "-o", `cluster_size=${size}`],
      ["-c", "-o", `compression_type=zstd,cluster_size=${size}`],
    ]),
  ].map((args) => ({ name: args.join(" "), args }));

  test.each(options)("convert $name", async ({ args }) => {
    const path = join(folder, "disk.qcow2");
    image("convert", "-f", "raw", "-O", "qcow2", ...args, raw, path);
    expect((await read(path)).equals(disk)).toBe(true);
    rmSync(path);
  });

  test("a disk that was written to in no order, discarded and written as zeros", async () => {
    const path = join(folder, "worn.qcow2");
    const flat = join(folder, "worn.raw");
    image("create", "-f", "qcow2", path, "64M");
    const commands: string[] = [];
    for (let step = 0; step < 160; step++) {
      const at = ((step * 37) % 64) * 1024 + ((step * 13) % 16) * 64;
      commands.push("-c", `write -P ${(step % 250) + 1} ${at}k ${4 + (step % 96)}k`);
      if (step % 5 === 0) commands.push("-c", `write -z ${((step * 11) % 64) * 1024}k 256k`);
      if (step % 7 === 0) commands.push("-c", `discard ${((step * 19) % 64) * 1024}k 192k`);
    }
    execFileSync("qemu-io", ["-f", "qcow2", ...commands, path], { stdio: "ignore" });
    image("snapshot", "-c", "before", path);
    execFileSync("qemu-io", ["-f", "qcow2", "-c", "write -P 77 3M 2M", path], { stdio: "ignore" });
    image("convert", "-f", "qcow2", "-O", "raw", path, flat);
    expect((await read(path)).equals(readFileSync(flat))).toBe(true);
  });

  test.each([
    { name: "a backing file", args: ["-b", raw, "-F", "raw"], code: "unsupported" },
    { name: "subclusters", args: ["-o", "extended_l2=on", "-o", "size=64M"], code: "unsupported" },
    { name: "an external data file", args: ["-o", `data_file=${join(folder, "x")},size=64M`], code: "unsupported" },
  ])("$name is refused", async ({ args, code }) => {
    const path = join(folder, "refused.qcow2");
    image("create", "-q", "-f", "qcow2", ...args, path);
    await expect(read(path)).rejects.toMatchObject({ code });
  });
});
