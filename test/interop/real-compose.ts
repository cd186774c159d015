/**
 * The real disk and the compose around it: made once by the scripts beside this file, kept among the interop tools
 * under the scripts' digest, so that only a change of theirs makes it anew.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { promisify } from "node:util";

export interface RealCompose {
  /** The raw disk that every image of the compose holds. */
  readonly disk: string;
  /** What holds <id>/compose/. */
  readonly directory: string;
  readonly id: string;
}

const ID = "Fedora-43-20251021.0";
const SCRIPTS = ["make-disk", "make-compose"].map((name) => join(import.meta.dirname, name));
const TOOLS = resolve(process.env.SLIPWAY_INTEROP_DIR ?? join(import.meta.dirname, "../../.interop"));

/** Minutes the first time, nothing after. */
export async function realCompose(): Promise<RealCompose> {
  const digest = createHash("sha256");
  for (const script of SCRIPTS) digest.update(readFileSync(script));
  const kept = join(TOOLS, "real-disk", digest.digest("hex").slice(0, 16));
  if (!existsSync(kept)) await make(kept);
  return { disk: join(kept, "disk.raw"), directory: kept, id: ID };
}

/** Beside its place first: half a compose is never found. */
async function make(kept: string): Promise<void> {
  await mkdir(join(kept, ".."), { recursive: true });
  const half = await mkdtemp(`${kept}-`);
  const run = promisify(execFile);
  const [makeDisk, makeCompose] = SCRIPTS as [string, string];
  try {
    await run(makeDisk, [join(half, "disk.raw")], { timeout: 15 * 60_000 });
    await run(makeCompose, [join(half, "disk.raw"), half, "--id", ID], { timeout: 20 * 60_000 });
    await rename(half, kept);
  } catch (error) {
    await rm(half, { recursive: true, force: true });
    throw error;
  }
}
