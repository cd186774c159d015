/**
 * Reads a qcow2 file from its beginning to its end, once, and lets blocks fall out of it.
 *
 * One pass does it all: every byte is hashed for the artifact's digest, tables must be what they were when the map was
 * made of them, clusters go to their blocks. Blocks that `read-order.ts` put off are read after that by ranges, against
 * the digests taken in the pass. Decompression and the blocks' digests are the work of libuv's threads.
 */
import { createHash, type Hash, hash } from "node:crypto";
import type { CallContext } from "../../lib/call.ts";
import { SlipwayError } from "../../lib/errors.ts";
import { KiB, MiB } from "../../lib/units.ts";
import { type Block, blockCount, type ReadOptions } from "../block-source.ts";
import type { ByteSource } from "../byte-source.ts";
import { BlockBuilder } from "./block-builder.ts";
import type { ClusterMap } from "./cluster-map.ts";
import { blocksOf, type ReadOrder, readOrder } from "./read-order.ts";
import type { SeenRegion } from "./regions.ts";
import { UnitReports } from "./unit-reports.ts";

export interface QcowReading {
  readonly map: ClusterMap;
  readonly source: ByteSource;
  readonly fileBytes: number;
  /** Lower-case hex of the whole file. */
  readonly sha256: string;
  /** End of the disk's last block: the virtual size, or more where zeros pad the disk. */
  readonly diskEnd: number;
  /** Blocks that a reader may keep; as many again may be in the making. At least 8. */
  readonly slots: number;
}

/** Blocks that are read again at a time; clusters this close, and so many bytes, are fetched in one request. */
const AGAIN_BLOCKS = 8;
const AGAIN_GAP_BYTES = 128 * KiB;
const AGAIN_REQUEST_BYTES = 4 * MiB;

/** @param wanted one byte a block, 0 = not wanted */
export async function* readQcowBlocks(
  reading: QcowReading,
  wanted: Uint8Array,
  options: ReadOptions,
): AsyncGenerator<Block> {
  const order = readOrder(reading.map, wanted, reading.slots);
  for (let block = 0; block < blockCount(reading.map.header.bytes); block++) {
    if (wanted[block] && order.starts[block] === order.starts[block + 1]) options.onZero?.(block);
  }
  const pass = new Pass(reading, order, wanted, options);
  yield* pass.builder.run((signal) => pass.go({ ...options, signal }), options.signal);
}

/** Something in the file that is waited for while the bytes pass. */
interface Passing {
  readonly at: number;
  readonly end: number;
  take(bytes: Buffer, from: number): void;
  done(): void | Promise<void>;
}

class Pass {
  readonly builder: BlockBuilder;
  readonly #reading: QcowReading;
  readonly #order: ReadOrder;
  readonly #wanted: Uint8Array;
  readonly #options: ReadOptions;
  readonly #units: UnitReports;
  /** Of a block that was put off: the digests of its clusters as they passed, in file order, each hashed onto the last. */
  readonly #passed = new Map<number, Buffer>();

  constructor(reading: QcowReading, order: ReadOrder, wanted: Uint8Array, options: ReadOptions) {
    const { map, source, slots, diskEnd } = reading;
    this.#reading = reading;
    this.#order = order;
    this.#wanted = wanted;
    this.#options = options;
    this.#units = new UnitReports(reading.fileBytes, options, source.url);
    for (let block = 0; block < order.starts.length - 1; block++) {
      if (wanted[block]) for (const position of this.#clustersOf(block)) this.#units.expect(...this.#extent(position));
    }
    this.builder = new BlockBuilder({
      ...{ url: source.url, compression: map.header.compression, clusterBytes: map.clusterBytes },
      ...{ contentEnd: map.header.bytes, diskEnd, slots, onZero: options.onZero },
      clustersOf: (block) => order.starts[block + 1]! - order.starts[block]!,
      onDone: (block) => {
        for (const position of this.#clustersOf(block)) this.#units.arrived(...this.#extent(position));
      },
    });
  }

  async go(call: CallContext): Promise<void> {
    const { source, fileBytes, sha256 } = this.#reading;
    const whole = createHash("sha256");
    const things = this.#things();
    let next = things.next();
    let passing: Passing[] = [];
    let pos = 0;
    for await (const chunk of source.stream(0, call, fileBytes)) {
      this.#units.hash(whole, chunk, pos, (tell) => this.builder.say(tell));
      const end = pos + chunk.length;
      const unfinished: Passing[] = [];
      const feed = async (thing: Passing) => {
        const from = Math.max(thing.at, pos);
        thing.take(chunk.subarray(from - pos, Math.min(thing.end, end) - pos), from);
        if (thing.end <= end) await thing.done();
        else unfinished.push(thing);
      };
      for (const thing of passing) await feed(thing);
      for (; !next.done && next.value.at < end; next = things.next()) {
        const thing = next.value.begin();
        await feed(thing instanceof Promise ? await thing : thing);
      }
      passing = unfinished;
      pos = end;
      this.#options.onProgress?.({ bytesRead: pos, bytesTotal: fileBytes });
    }
    const digest = whole.digest("hex");
    if (digest !== sha256) {
      throw this.#corrupt(
        `The file's SHA-256 is ${digest}, the metadata says ${sha256}.`,
        "The file or its metadata is wrong. Fetch or build it anew; nothing was committed.",
      );
    }
    await this.#readAgain(call);
  }

  /** Tables and clusters in file order. */
  *#things(): Generator<{ at: number; begin: () => Passing | Promise<Passing> }> {
    const { seen, at } = this.#reading.map;
    let table = 0;
    for (let position = 0; position <= at.length; position++) {
      const until = at[position] ?? Number.POSITIVE_INFINITY;
      for (; table < seen.length && seen[table]!.at <= until; table++) {
        const region = seen[table]!;
        yield { at: region.at, begin: () => this.#checked(region) };
      }
      if (position === at.length) return;
      const [first, last] = blocksOf(this.#reading.map, position);
      const blocks: number[] = [];
      for (let block = first; block <= last; block++) if (this.#wanted[block]) blocks.push(block);
      if (blocks.length > 0) yield { at: until, begin: () => this.#cluster(position, blocks) };
    }
  }

  #checked(region: SeenRegion): Passing {
    const digest = createHash("sha256");
    return {
      at: region.at,
      end: region.end,
      take: (bytes) => void digest.update(bytes),
      done: () => {
        if (digest.digest().equals(region.sha256)) return;
        throw this.#corrupt("The file changed while it was read.", "Start again when the file is at rest.");
      },
    };
  }

  async #cluster(position: number, wanted: readonly number[]): Promise<Passing> {
    const { map } = this.#reading;
    const [at, end] = this.#extent(position);
    const now = wanted.filter((block) => !this.#order.putOff.has(block));
    const later = wanted.filter((block) => this.#order.putOff.has(block));
    const digest: Hash | undefined = later.length > 0 ? createHash("sha256") : undefined;
    const note = () => {
      const sha256 = digest?.digest();
      if (sha256) for (const block of later) this.#passed.set(block, chained(this.#passed.get(block), sha256));
    };
    if (map.compressed[position] === 1) {
      const data = Buffer.allocUnsafeSlow(end - at);
      return {
        ...{ at, end },
        take(bytes, from) {
          digest?.update(bytes);
          bytes.copy(data, from - at);
        },
        done: async () => {
          note();
          if (now.length > 0) await this.#decompress(position, data, now);
        },
      };
    }
    for (const block of now) await this.builder.open(block);
    const guestAt = map.guest[position]! * map.clusterBytes;
    return {
      ...{ at, end },
      take: (bytes, from) => {
        digest?.update(bytes);
        for (const block of now) this.builder.put(block, guestAt + from - at, bytes);
      },
      done: () => {
        note();
        for (const block of now) this.builder.clusterDone(block);
      },
    };
  }

  async #decompress(position: number, data: Buffer, blocks: readonly number[]): Promise<void> {
    for (const block of blocks) await this.builder.open(block);
    const { guest, at } = this.#reading.map;
    await this.builder.decompress({ guest: guest[position]!, at: at[position]! }, data, blocks);
  }

  /** Blocks that were put off, a few at a time. What comes must be what passed. */
  async #readAgain(call: CallContext): Promise<void> {
    const later = [...this.#order.putOff].sort((one, other) => one - other);
    for (let first = 0; first < later.length; first += AGAIN_BLOCKS) {
      const blocks = later.slice(first, first + AGAIN_BLOCKS);
      const holders = new Map<number, number[]>();
      for (const block of blocks) {
        for (const position of this.#clustersOf(block)) {
          holders.set(position, [...(holders.get(position) ?? []), block]);
        }
      }
      const chains = new Map<number, Buffer>();
      for (const run of this.#runs([...holders.keys()].sort((one, other) => one - other))) {
        const [from] = this.#extent(run[0]!);
        const data = await this.#reading.source.read(from, this.#extent(run.at(-1)!)[1] - from, call);
        for (const position of run) {
          const [at, end] = this.#extent(position);
          await this.#oneAgain(position, data.subarray(at - from, end - from), holders.get(position)!, chains);
        }
      }
    }
  }

  async #oneAgain(
    position: number,
    bytes: Buffer,
    blocks: readonly number[],
    chains: Map<number, Buffer>,
  ): Promise<void> {
    const { map } = this.#reading;
    const sha256 = hash("sha256", bytes, "buffer");
    for (const block of blocks) {
      const chain = chained(chains.get(block), sha256);
      chains.set(block, chain);
      const last = this.#order.clusters[this.#order.starts[block + 1]! - 1] === position;
      if (last && !chain.equals(this.#passed.get(block)!)) {
        throw this.#corrupt("The file changed while it was read.", "Start again when the file is at rest.");
      }
    }
    if (map.compressed[position] === 1) {
      await this.#decompress(position, bytes, blocks);
      return;
    }
    for (const block of blocks) {
      await this.builder.open(block);
      this.builder.put(block, map.guest[position]! * map.clusterBytes, bytes);
      this.builder.clusterDone(block);
    }
  }

  /** Clusters that one request fetches. */
  #runs(positions: readonly number[]): number[][] {
    const runs: number[][] = [];
    for (const position of positions) {
      const run = runs.at(-1);
      const [at, end] = this.#extent(position);
      const near = run !== undefined && at - this.#extent(run.at(-1)!)[1] <= AGAIN_GAP_BYTES;
      if (near && end - this.#extent(run[0]!)[0] <= AGAIN_REQUEST_BYTES) run.push(position);
      else runs.push([position]);
    }
    return runs;
  }

  #clustersOf(block: number): Uint32Array {
    return this.#order.clusters.subarray(this.#order.starts[block], this.#order.starts[block + 1]);
  }

  #extent(position: number): [at: number, end: number] {
    const { at, length } = this.#reading.map;
    return [at[position]!, at[position]! + length[position]!];
  }

  #corrupt(message: string, next: string): SlipwayError {
    return new SlipwayError("corrupt", message, { subject: this.#reading.source.url, next });
  }
}

function chained(before: Buffer | undefined, sha256: Buffer): Buffer {
  return before ? hash("sha256", Buffer.concat([before, sha256]), "buffer") : sha256;
}
