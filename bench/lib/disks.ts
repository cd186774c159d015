/** Disks to measure with: one that boots, where the tools for making it are installed, and made-up ones. */
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import {
  createReadStream,
  createWriteStream,
  existsSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { makeDisk } from "../../src/images/testing/make.ts";
import { GiB, MiB } from "../../src/lib/units.ts";
import { realCompose } from "../../test/interop/real-compose.ts";

export interface BenchDisk {
  readonly name: string;
  readonly path: string;
  readonly format: string;
  readonly bytes: number;
  readonly sha256: string;
  readonly virtualBytes: number;
}

export interface MadeUp {
  readonly name: string;
  readonly virtualMiB: number;
  /** Share of zeros, in pieces of 64 KiB. Default 0.6. */
  readonly zeros?: number;
  /** 4 KiB of every 64 KiB hold something, the rest is zero: many blocks, little in each. */
  readonly thin?: boolean;
  /** Only so many MiB at the beginning hold something. */
  readonly filledMiB?: number;
  /** Decoded bytes of an xz block; 0: one block for everything, as `xz` makes it without threads. */
  readonly blockMiB?: number;
  readonly preset?: number;
}

/** The compose's x86_64 disk; undefined where the tools that make it are not installed. */
export async function realDisk(): Promise<BenchDisk | undefined> {
  const compose = await realCompose().catch(() => undefined);
  if (compose === undefined) return undefined;
  const root = join(compose.directory, compose.id, "compose");
  const found = (await readdir(root, { recursive: true })).find((path) => /x86_64.*\.raw\.xz$/.test(path));
  if (found === undefined) return undefined;
  return described("real disk", join(root, found), "raw.xz", statSync(compose.disk).size);
}

/** Made in pieces, through xz: more than fits into memory may be asked for. */
export async function madeUpDisk(folder: string, made: MadeUp): Promise<BenchDisk> {
  const { name, virtualMiB, zeros = 0.6, thin, filledMiB = virtualMiB, blockMiB = 24, preset = 6 } = made;
  const path = join(folder, `${name.replaceAll(/[^a-z0-9]+/gi, "-")}.raw.xz`);
  const layout = blockMiB === 0 ? ["-T1"] : ["-T0", `--block-size=${blockMiB}MiB`];
  const xz = spawn("xz", [...layout, `-${preset}`, "-c"], { stdio: ["pipe", "pipe", "inherit"] });
  const written = pipeline(xz.stdout!, createWriteStream(path));
  for (let at = 0; at < virtualMiB; at += 16) {
    const bytes = Math.min(16, virtualMiB - at) * MiB;
    const piece = at < filledMiB ? makeDisk(bytes, { seed: at + 1, zeros: thin ? 0 : zeros }) : Buffer.alloc(bytes);
    if (thin) for (let hole = 4096; hole < bytes; hole += 65536) piece.fill(0, hole, hole + 61440);
    if (!xz.stdin!.write(piece)) await once(xz.stdin!, "drain");
  }
  xz.stdin!.end();
  await written;
  return described(name, path, "raw.xz", virtualMiB * MiB);
}

/** The same disk as Google takes it: one sparse disk.raw in a tar.gz. */
export async function archived(folder: string, disk: BenchDisk): Promise<BenchDisk> {
  const path = join(folder, `${disk.name.replaceAll(/[^a-z0-9]+/gi, "-")}.tar.gz`);
  const raw = join(folder, "disk.raw");
  const whole = Math.ceil(disk.virtualBytes / GiB) * GiB;
  const script = 'xz -dc "$1" | cp --sparse=always /dev/stdin "$2" && truncate -s "$3" "$2"';
  run("sh", [
    "-c",
    `${script} && tar -C "$4" --format=oldgnu -Sczf "$5" disk.raw`,
    "sh",
    disk.path,
    raw,
    String(whole),
    folder,
    path,
  ]);
  rmSync(raw);
  return described(disk.name, path, "tar.gz", whole);
}

function run(program: string, args: readonly string[]): void {
  const { status } = spawnSync(program, args, { stdio: ["ignore", "ignore", "inherit"] });
  if (status !== 0) throw new Error(`${program} ended with ${status}`);
}

async function described(name: string, path: string, format: string, virtualBytes: number): Promise<BenchDisk> {
  const { size, mtimeMs } = statSync(path);
  const known = `${path}.sha256-${mtimeMs}`;
  let sha256 = existsSync(known) ? readFileSync(known, "utf8") : "";
  if (sha256 === "") {
    const hash = createHash("sha256");
    await pipeline(createReadStream(path), hash);
    sha256 = hash.digest("hex");
    writeFileSync(known, sha256);
  }
  return { name, path, format, bytes: size, sha256, virtualBytes };
}
