/**
 * Which blocks can be put together while the file passes by once, from its beginning to its end.
 *
 * A block is open from the first of its clusters to the last, and an open block costs memory. Images that were written
 * in one go need a few at a time; one that a machine ran on may have its blocks all over the file. What does not fit is
 * put off: it is read again afterwards, and must then have the digest it had when the file passed by.
 */
import { BLOCK_BYTES, blockCount } from "../block-source.ts";
import type { ClusterMap } from "./cluster-map.ts";

export interface ReadOrder {
  /** Clusters of block b, as positions in the map: `clusters[starts[b]] … clusters[starts[b + 1] - 1]`, in file order. */
  readonly starts: Uint32Array;
  readonly clusters: Uint32Array;
  /** Blocks to read afterwards. */
  readonly putOff: ReadonlySet<number>;
}

/** First and last block that the cluster at a position of the map is a part of. */
export function blocksOf(map: ClusterMap, position: number): readonly [number, number] {
  const from = map.guest[position]! * map.clusterBytes;
  const to = Math.min(from + map.clusterBytes, map.header.bytes);
  return [Math.floor(from / BLOCK_BYTES), Math.ceil(to / BLOCK_BYTES) - 1];
}

/**
 * @param wanted one byte a block, 0 = not wanted
 * @param open most blocks that may be open at once, at least as many as a cluster has
 */
export function readOrder(map: ClusterMap, wanted: Uint8Array, open: number): ReadOrder {
  const blocks = blockCount(map.header.bytes);
  const starts = new Uint32Array(blocks + 1);
  const eachPair = (told: (position: number, block: number) => void) => {
    for (let position = 0; position < map.guest.length; position++) {
      const [first, last] = blocksOf(map, position);
      for (let block = first; block <= last; block++) told(position, block);
    }
  };
  eachPair((_, block) => {
    starts[block + 1]!++;
  });
  for (let block = 0; block < blocks; block++) starts[block + 1]! += starts[block]!;
  const clusters = new Uint32Array(starts[blocks]!);
  const filled = starts.slice();
  eachPair((position, block) => {
    clusters[filled[block]!++] = position;
  });

  const putOff = new Set<number>();
  const present = new Set<number>();
  const lastOf = (block: number) => clusters[starts[block + 1]! - 1]!;
  eachPair((position, block) => {
    if (wanted[block] === 0 || putOff.has(block)) return;
    present.add(block);
    if (present.size > open) {
      // Who would stay longest makes room: that leaves the fewest behind.
      let longest = block;
      for (const other of present) if (lastOf(other) > lastOf(longest)) longest = other;
      present.delete(longest);
      putOff.add(longest);
    }
    if (lastOf(block) === position) present.delete(block);
  });
  return { starts, clusters, putOff };
}
