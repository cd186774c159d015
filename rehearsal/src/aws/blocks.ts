import { closeSync, openSync, read as readFile, rmSync, write as writeFile } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

/** EBS direct knows one size of block. */
export const BLOCK_BYTES = 524_288;

const readAt = promisify(readFile);
const writeAt = promisify(writeFile);

/**
 * Contents of all blocks of all snapshots, each once: 22 regions with the same disk cost as much as one.
 * In memory, or in one spool file when a directory is given, so that disks larger than memory can be rehearsed.
 */
export class BlockStore {
  readonly #blocks = new Map<string, Buffer | Promise<number>>();
  readonly #spool: { readonly fd: number; readonly path: string } | undefined;
  readonly #free: number[] = [];
  #slots = 0;

  constructor(directory?: string) {
    if (directory === undefined) return;
    const path = join(directory, `blocks-${process.pid}-${nextSpool++}.spool`);
    this.#spool = { fd: openSync(path, "w+"), path };
  }

  /** How many different blocks are held. */
  get size(): number {
    return this.#blocks.size;
  }

  /** @param digest any text that names the contents and nothing else */
  async put(digest: string, data: Buffer): Promise<void> {
    if (this.#spool === undefined) {
      if (!this.#blocks.has(digest)) this.#blocks.set(digest, data);
      return;
    }
    let slot = this.#blocks.get(digest);
    if (slot === undefined) {
      slot = this.#write(data);
      this.#blocks.set(digest, slot);
    }
    try {
      await slot;
    } catch (error) {
      this.#blocks.delete(digest);
      throw error;
    }
  }

  async get(digest: string): Promise<Buffer> {
    const held = this.#blocks.get(digest);
    if (held === undefined) throw new Error(`block ${digest} is not held`);
    if (Buffer.isBuffer(held)) return held;
    const data = Buffer.allocUnsafeSlow(BLOCK_BYTES);
    await readAt(this.#spool?.fd ?? -1, data, 0, BLOCK_BYTES, (await held) * BLOCK_BYTES);
    return data;
  }

  /** Forgets every block that no map names. */
  keepOnly(maps: Iterable<ReadonlyMap<number, string>>): void {
    const live = new Set<string>();
    for (const map of maps) for (const digest of map.values()) live.add(digest);
    for (const [digest, held] of this.#blocks) {
      if (live.has(digest)) continue;
      this.#blocks.delete(digest);
      if (Buffer.isBuffer(held)) continue;
      held.then(
        (slot) => this.#free.push(slot),
        () => {},
      );
    }
  }

  close(): void {
    this.#blocks.clear();
    if (this.#spool === undefined) return;
    closeSync(this.#spool.fd);
    rmSync(this.#spool.path, { force: true });
  }

  async #write(data: Buffer): Promise<number> {
    const slot = this.#free.pop() ?? this.#slots++;
    await writeAt(this.#spool?.fd ?? -1, data, 0, data.length, slot * BLOCK_BYTES);
    return slot;
  }
}

let nextSpool = 0;
