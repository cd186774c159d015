import type { Json } from "../model.ts";

/**
 * What survives of an upload when the process does not: where it goes, and which blocks the other side acknowledged.
 *
 * One journal per (staged disk, target). Kept by whoever runs the transfer; a driver only reads and tells.
 * No block that `acked` names is ever sent again.
 */
export interface UploadJournal {
  /** The staged disk this upload is filling, as the driver described it; undefined before the first `begin`. */
  readonly staged: Json | undefined;
  /** True if the block was acknowledged, in this attempt or in one before. */
  acked(index: number): boolean;
  /** SHA-256 of an acknowledged block; undefined for others and for blocks that are all zero. */
  digestOf(index: number): Uint8Array | undefined;
  readonly ackedCount: number;
  readonly knownUnits: ReadonlyMap<number, Uint8Array>;

  /** Records the staged disk and forgets all acknowledgements: called before the first block goes out. Durable on return. */
  begin(staged: Json): Promise<void>;
  /** Notes an acknowledged block. Buffered: durable at the next flush. */
  ack(index: number, sha256: Uint8Array): void;
  /** Notes a compressed unit of the source whose blocks were all acknowledged. Buffered. */
  unit(index: number, sha256: Uint8Array): void;
  /** Makes everything noted durable. Called every few seconds by the journal itself, and by drivers before they commit. */
  flush(): Promise<void>;
}

/** A journal that lives as long as the process: for tests, and for transfers nobody needs to resume. */
export function memoryJournal(): UploadJournal {
  let staged: Json | undefined;
  const digests = new Map<number, Uint8Array>();
  const units = new Map<number, Uint8Array>();
  return {
    get staged() {
      return staged;
    },
    acked: (index) => digests.has(index),
    digestOf: (index) => digests.get(index),
    get ackedCount() {
      return digests.size;
    },
    knownUnits: units,
    async begin(next) {
      staged = next;
      digests.clear();
      units.clear();
    },
    ack: (index, sha256) => void digests.set(index, Uint8Array.from(sha256)),
    unit: (index, sha256) => void units.set(index, Uint8Array.from(sha256)),
    async flush() {},
  };
}
