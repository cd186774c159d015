/**
 * The directory a program runs in, and what has to be known to clean up after it when nobody who started it is left.
 *
 * `ROOT/run-XXXXXX/`, 0700: `work` is the program's current directory, `home` its HOME, `tmp` its TMPDIR, and
 * `state.json` says who it is.
 */
import { chmod, lstat, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { killTree, livingOf } from "./kill-tree.ts";
import { isAlive, type ProcessId, processOf, thisHost } from "./processes.ts";

export interface Place {
  readonly directory: string;
  readonly work: string;
  readonly home: string;
  readonly tmp: string;
}

interface State {
  readonly boot: string;
  readonly space: string;
  readonly worker: ProcessId;
  readonly owner: string;
  readonly token: string;
  /** Absent until it was started. */
  readonly program?: ProcessId;
}

const PREFIX = "run-";

export async function makePlace(root: string, owner: string, token: string): Promise<Place> {
  await mkdir(root, { recursive: true, mode: 0o700 });
  const directory = await mkdtemp(join(root, PREFIX));
  // First of all: a directory without a state is one whose maker died right here.
  await writeState(directory, { ...thisHost(), worker: thisWorker(), owner, token });
  const place = {
    directory,
    work: join(directory, "work"),
    home: join(directory, "home"),
    tmp: join(directory, "tmp"),
  };
  for (const path of [place.work, place.home, place.tmp]) await mkdir(path, { mode: 0o700 });
  return place;
}

/** Notes which process the program is, for whoever finds this directory. */
export async function notePid({ directory }: Place, pid: number): Promise<void> {
  const state = await readState(directory);
  const program = processOf(pid);
  if (state !== undefined && program !== undefined) {
    await writeState(directory, { ...state, program: { pid, started: program.started } });
  }
}

/** Removes a place whatever the program did to its modes. Never throws. @returns why it could not, if so */
export async function removePlace(directory: string): Promise<string | undefined> {
  try {
    await rm(directory, { recursive: true, force: true, maxRetries: 3 });
  } catch {
    try {
      await openUp(directory);
      await rm(directory, { recursive: true, force: true });
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }
  return undefined;
}

export interface Leftovers {
  /** Directories that were removed, with the processes that had to be killed for it. */
  readonly removed: readonly { readonly owner: string; readonly killed: boolean }[];
}

/**
 * Kills what workers that died left running under this root, and removes its directories.
 *
 * A worker that lives is left alone, and so is one this process cannot see: another container's over a shared volume.
 * Safe to repeat and to run in several processes at once. At most some ten seconds for each directory.
 * @param owner also what this owner left, though its worker may live: for whoever has taken the owner's work over
 */
export async function killLeftovers(root: string, owner?: string): Promise<Leftovers> {
  const here = thisHost();
  const removed: { owner: string; killed: boolean }[] = [];
  for (const name of await readdir(root).catch(() => [])) {
    if (!name.startsWith(PREFIX)) continue;
    const directory = join(root, name);
    const made = await lstat(directory).catch(() => undefined);
    // In a directory others may write to, anybody could name a process to be killed.
    if (made === undefined || !made.isDirectory() || made.uid !== process.getuid?.()) continue;
    const state = await readState(directory);
    if (state === undefined) {
      if (Date.now() - made.mtimeMs > OLD_MS) await removePlace(directory);
      continue;
    }
    const sameBoot = state.boot === here.boot;
    if (sameBoot && state.space !== here.space) continue;
    const isAbandoned = !sameBoot || !isAlive(state.worker);
    if (!isAbandoned && !(owner !== undefined && state.owner === owner)) continue;
    const killed = sameBoot && (await killRecorded(state));
    await removePlace(directory);
    removed.push({ owner: state.owner, killed });
  }
  return { removed };
}

/** Kills one place's program and removes it: what the guard does for a worker that is gone. */
export async function abandonPlace(directory: string): Promise<void> {
  const state = await readState(directory);
  if (state !== undefined) await killRecorded(state);
  await removePlace(directory);
}

/** @returns whether anybody was there to be killed */
async function killRecorded({ token, program }: State): Promise<boolean> {
  // A session's number may be another's by now, unless its leader is still the one that was noted.
  const session = program !== undefined && isAlive(program) ? program.pid : undefined;
  const tree = { token, session };
  const wasThere = livingOf(tree).length > 0;
  if (wasThere) await killTree(tree, 0);
  return wasThere;
}

function thisWorker(): ProcessId {
  return { pid: process.pid, started: processOf(process.pid)?.started ?? "" };
}

async function readState(directory: string): Promise<State | undefined> {
  try {
    return JSON.parse(await readFile(join(directory, "state.json"), "utf8")) as State;
  } catch {
    return undefined;
  }
}

/** Whole or not at all: whoever reads it may have to kill by it. */
async function writeState(directory: string, state: State): Promise<void> {
  const path = join(directory, "state.json");
  await writeFile(`${path}.new`, JSON.stringify(state), { mode: 0o600 });
  await rename(`${path}.new`, path);
}

/** Long enough that nobody is still about to write a state. */
const OLD_MS = 60_000;

async function openUp(directory: string): Promise<void> {
  await chmod(directory, 0o700);
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    if (entry.isDirectory()) await openUp(join(directory, entry.name));
  }
}
