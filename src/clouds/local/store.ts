import { randomBytes } from "node:crypto";
import { link, mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";

/** A directory of JSON records that are there whole or not at all, after a power cut too. Knows no cloud. */
export interface RecordStore<T> {
  /** Undefined if there is none. @throws Error with the file's name if it is there and cannot be read */
  get(name: string): Promise<T | undefined>;
  /** Writes or replaces. */
  put(name: string, record: T): Promise<void>;
  /** Writes unless one of the name is there; false if so. Of several processes exactly one gets true. */
  create(name: string, record: T): Promise<boolean>;
  /** Gone already is a success. */
  remove(name: string): Promise<void>;
  names(): Promise<string[]>;
}

const SUFFIX = ".json";

export function openRecords<T>(directory: string): RecordStore<T> {
  // Names come from specs: encoded, so that no name leaves the directory or hides behind a dot.
  const pathOf = (name: string) => join(directory, encodeName(name) + SUFFIX);

  async function writeAside(record: T): Promise<string> {
    await mkdir(directory, { recursive: true });
    const path = join(directory, `.${process.pid}.${randomBytes(6).toString("hex")}.tmp`);
    const file = await open(path, "wx");
    try {
      await file.writeFile(`${JSON.stringify(record, null, 2)}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    return path;
  }

  return {
    async get(name) {
      let text: string;
      try {
        text = await readFile(pathOf(name), "utf8");
      } catch (error) {
        if (isMissing(error)) return undefined;
        throw error;
      }
      return JSON.parse(text) as T;
    },
    async put(name, record) {
      const aside = await writeAside(record);
      await rename(aside, pathOf(name));
      await syncDirectory(directory);
    },
    async create(name, record) {
      const aside = await writeAside(record);
      try {
        // A link fails where a rename would replace.
        await link(aside, pathOf(name));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
        throw error;
      } finally {
        await rm(aside, { force: true });
      }
      await syncDirectory(directory);
      return true;
    },
    async remove(name) {
      await rm(pathOf(name), { force: true });
    },
    async names() {
      try {
        const entries = await readdir(directory);
        return entries
          .filter((entry) => entry.endsWith(SUFFIX) && !entry.startsWith("."))
          .map((entry) => decodeURIComponent(entry.slice(0, -SUFFIX.length)))
          .sort();
      } catch (error) {
        if (isMissing(error)) return [];
        throw error;
      }
    },
  };
}

export function encodeName(name: string): string {
  return encodeURIComponent(name).replaceAll(".", "%2E").replaceAll("*", "%2A");
}

export function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException | null)?.code === "ENOENT";
}

/** Makes renames and new names in a directory survive a power cut. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Renames a finished file into place, durably. */
export async function commitFile(from: string, to: string): Promise<void> {
  await rename(from, to);
  await syncDirectory(dirname(to));
}
