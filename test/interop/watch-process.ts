/** What a process and its children take while they run, as Linux counts it: memory, and bytes written to files. */
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";

export interface Taken {
  /** Most resident bytes of the process itself. */
  peakBytes: number;
  /** Most bytes of their own (not of files, not shared) that its children had together. */
  childrenPeakBytes: number;
  /** Bytes that the process itself wrote to files, whether they still exist or not. */
  writtenBytes: number;
  /** The same of its children, among them the embedded PostgreSQL. */
  childrenWrittenBytes: number;
  /** Files of the watched directories that were seen, with their largest size. */
  readonly files: Map<string, number>;
}

export interface WatchOptions {
  readonly directories: readonly string[];
  /** Not looked into. */
  readonly ignore: (path: string) => boolean;
}

const EVERY_MS = 200;

/** Starts watching; the function that it returns ends that and says what was seen. */
export function watchProcess(pid: number, options: WatchOptions): () => Promise<Taken> {
  const taken: Taken = {
    ...{ peakBytes: 0, childrenPeakBytes: 0, writtenBytes: 0, childrenWrittenBytes: 0 },
    files: new Map(),
  };
  const written: Written = { threads: new Map(), children: new Map() };
  let over = false;
  const watching = (async () => {
    while (!over) {
      await look(pid, taken, written, options);
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
  })();
  return async () => {
    over = true;
    await watching;
    return taken;
  };
}

/** Latest count of each thread and each child: their sums outlive them. */
interface Written {
  readonly threads: Map<string, number>;
  readonly children: Map<string, number>;
}

async function look(pid: number, taken: Taken, written: Written, options: WatchOptions): Promise<void> {
  const status = await read(`/proc/${pid}/status`);
  taken.peakBytes = Math.max(taken.peakBytes, number(status, /^VmHWM:\s+(\d+) kB/m) * 1024);
  // By thread: Linux adds to a process's own count what children that ended had written, PostgreSQL's servers too.
  for (const thread of await readdir(`/proc/${pid}/task`).catch(() => [])) {
    await keepWritten(written.threads, `/proc/${pid}/task/${thread}/io`);
  }
  taken.writtenBytes = sum(written.threads);
  let children = 0;
  for (const child of await descendants(pid)) {
    children += number(await read(`/proc/${child}/status`), /^RssAnon:\s+(\d+) kB/m) * 1024;
    for (const thread of await readdir(`/proc/${child}/task`).catch(() => [])) {
      await keepWritten(written.children, `/proc/${child}/task/${thread}/io`);
    }
  }
  taken.childrenWrittenBytes = sum(written.children);
  taken.childrenPeakBytes = Math.max(taken.childrenPeakBytes, children);
  for (const directory of options.directories) await lookThrough(directory, taken.files, options.ignore);
}

async function keepWritten(counts: Map<string, number>, path: string): Promise<void> {
  counts.set(path, Math.max(counts.get(path) ?? 0, number(await read(path), /^write_bytes: (\d+)/m)));
}

function sum(counts: Map<string, number>): number {
  return counts.values().reduce((total, count) => total + count, 0);
}

async function descendants(pid: number): Promise<number[]> {
  const parents = new Map<number, number>();
  for (const name of await readdir("/proc")) {
    if (/^\d+$/.test(name)) parents.set(Number(name), number(await read(`/proc/${name}/status`), /^PPid:\s+(\d+)/m));
  }
  const found = new Set([pid]);
  for (let size = 0; size !== found.size; ) {
    size = found.size;
    for (const [child, parent] of parents) if (found.has(parent)) found.add(child);
  }
  found.delete(pid);
  return [...found];
}

async function lookThrough(
  directory: string,
  files: Map<string, number>,
  ignore: (path: string) => boolean,
): Promise<void> {
  for (const entry of await readdir(directory, { withFileTypes: true }).catch(() => [])) {
    const path = join(directory, entry.name);
    if (ignore(path)) continue;
    if (entry.isDirectory()) await lookThrough(path, files, ignore);
    else if (entry.isFile()) {
      const bytes = (await stat(path).catch(() => undefined))?.size ?? 0;
      files.set(path, Math.max(bytes, files.get(path) ?? 0));
    }
  }
}

/** Processes end while one looks: nothing to read is nothing taken. */
async function read(path: string): Promise<string> {
  return readFile(path, "utf8").catch(() => "");
}

function number(text: string, pattern: RegExp): number {
  return Number(pattern.exec(text)?.[1] ?? 0);
}
