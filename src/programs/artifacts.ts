/**
 * Takes the files a program made out of its private directory. The program may have been made to do anything, so a name
 * is followed without following links, and what is no plain file is refused.
 */
import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, lstat, mkdir, open, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { SlipwayError } from "../lib/errors.ts";
import { MiB } from "../lib/units.ts";

export interface ArtifactRequest {
  /** Paths relative to the program's working directory, with forward slashes. */
  readonly paths: readonly string[];
  /** Directory they are put into, under the same names. Made if it is not there. */
  readonly to: string;
  /** Bytes of all together. */
  readonly mostBytes: number;
}

export interface ArtifactFile {
  /** As it was asked for. */
  readonly path: string;
  /** Absolute, where it is now. */
  readonly file: string;
  readonly bytes: number;
  /** Lower-case hex. */
  readonly sha256: string;
}

/**
 * Safe to repeat while the private directory is there: a file under the same name is replaced, whole.
 * @throws SlipwayError `not-found` if one is missing, `forbidden` for a link or a path that leaves the directory,
 * `invalid` for what is no plain file, `quota` beyond `mostBytes`, `disk-full`
 */
export async function takeArtifacts(
  work: string,
  request: ArtifactRequest,
  signal: AbortSignal,
): Promise<ArtifactFile[]> {
  const taken: ArtifactFile[] = [];
  let left = request.mostBytes;
  for (const path of request.paths) {
    await using file = await openInside(work, path);
    const { size } = await file.stat();
    if (size > left) {
      throw new SlipwayError("quota", `what the program made is larger than ${request.mostBytes} bytes`, {
        subject: path,
        next: "Raise the limit of what the program may make.",
      });
    }
    left -= size;
    const target = join(request.to, path);
    taken.push({ path, file: target, bytes: size, sha256: await copy(file, target, signal) });
  }
  return taken;
}

/** @throws SlipwayError `forbidden` for a path that could leave the directory it is meant in */
export function refuseEscape(path: string): void {
  const words = path.split("/");
  if (path.includes("\0") || words.some((word) => word === "" || word === "." || word === "..")) {
    throw new SlipwayError(
      "forbidden",
      `the path ${JSON.stringify(path)} does not stay inside the program's directory`,
      {
        subject: path,
        next: "Name the file relative to the directory, without `..`.",
      },
    );
  }
}

async function openInside(work: string, path: string): Promise<FileHandle> {
  refuseEscape(path);
  const refused = (code: "not-found" | "forbidden" | "invalid", what: string) =>
    new SlipwayError(code, `the program's file ${path} ${what}`, { subject: path });
  // The whole tree is dead by now, so nobody changes a directory into a link between looking and opening.
  let at = work;
  for (const word of path.split("/")) {
    at = join(at, word);
    const found = await lstat(at).catch(() => undefined);
    if (found === undefined) throw refused("not-found", "was not made");
    if (found.isSymbolicLink()) throw refused("forbidden", "is a symbolic link, or behind one");
    if (at === join(work, path) && !found.isFile()) throw refused("invalid", "is no plain file");
  }
  return open(at, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
}

const ZEROS = Buffer.alloc(MiB);

async function copy(from: FileHandle, target: string, signal: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  const partial = `${target}.part`;
  try {
    await mkdir(dirname(target), { recursive: true });
    await using to = await open(partial, "w", 0o600);
    const buffer = Buffer.alloc(MiB);
    let at = 0;
    for (;;) {
      signal.throwIfAborted();
      const { bytesRead } = await from.read(buffer, 0, MiB, at);
      if (bytesRead === 0) break;
      const chunk = buffer.subarray(0, bytesRead);
      hash.update(chunk);
      // Disks are mostly empty; what is not written is a hole.
      if (!chunk.equals(ZEROS.subarray(0, bytesRead))) await writeAll(to, chunk, at);
      at += bytesRead;
    }
    await to.truncate(at);
    await to.sync();
    await rename(partial, target);
  } catch (cause) {
    await rm(partial, { force: true });
    if (signal.aborted) throw new SlipwayError("cancelled", "stopped while taking the program's files", { cause });
    if ((cause as NodeJS.ErrnoException).code === "ENOSPC") {
      throw new SlipwayError("disk-full", "no space for the program's files", { subject: target, cause });
    }
    throw cause;
  }
  return hash.digest("hex");
}

async function writeAll(to: FileHandle, chunk: Uint8Array, at: number): Promise<void> {
  for (let done = 0; done < chunk.length; ) {
    done += (await to.write(chunk, done, chunk.length - done, at + done)).bytesWritten;
  }
}
