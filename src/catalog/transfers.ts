/**
 * The journal of an upload, in PostgreSQL: which staged disk it fills and which blocks the cloud acknowledged.
 *
 * Satisfies `UploadJournal` of images/ by shape. Acknowledgements are appended, 36 bytes each, every FLUSH_EVERY_MS or
 * FLUSH_EVERY blocks: what a crash can lose is one flush, and only what was lost is sent again.
 */
import { type Kysely, sql } from "kysely";
import type { Json } from "../model.ts";
import type { CatalogTables } from "./schema.ts";

/** At 1,000 puts/s (the most EBS direct takes) a flush holds some 250 blocks: 9 KB, one small insert. */
const FLUSH_EVERY_MS = 250;
const FLUSH_EVERY = 256;
const ENTRY_BYTES = 36;

export interface TransferJournal extends AsyncDisposable {
  readonly staged: Json | undefined;
  acked(index: number): boolean;
  digestOf(index: number): Uint8Array | undefined;
  readonly ackedCount: number;
  readonly knownUnits: ReadonlyMap<number, Uint8Array>;
  begin(staged: Json): Promise<void>;
  ack(index: number, sha256: Uint8Array): void;
  unit(index: number, sha256: Uint8Array): void;
  flush(): Promise<void>;
}

/**
 * Opens the journal of a transfer, new or left behind by an earlier attempt. `id` is derived from target and disk key,
 * so every attempt, run and process that fills the same staged disk reads the same journal.
 * Dispose it to flush and stop its timer.
 */
export async function openTransferJournal(db: Kysely<CatalogTables>, id: string): Promise<TransferJournal> {
  await db
    .insertInto("transfers")
    .values({ id, staged: null })
    .onConflict((conflict) => conflict.column("id").doNothing())
    .execute();
  const row = await db.selectFrom("transfers").selectAll().where("id", "=", id).executeTakeFirstOrThrow();
  let generation = row.generation;
  let staged: Json | undefined = row.staged ?? undefined;
  const blocks = new Map<number, Uint8Array>();
  const units = new Map<number, Uint8Array>();
  const acks = await db
    .selectFrom("transfer_acks")
    .select(["what", "payload"])
    .where("transfer_id", "=", id)
    .where("generation", "=", generation)
    .orderBy("sequence")
    .execute();
  for (const ack of acks) unpack(ack.payload, ack.what === "block" ? blocks : units);

  let pendingBlocks: [number, Uint8Array][] = [];
  let pendingUnits: [number, Uint8Array][] = [];
  let writing: Promise<void> = Promise.resolve();
  let failure: unknown;

  function flush(): Promise<void> {
    const [nowBlocks, nowUnits] = [pendingBlocks, pendingUnits];
    pendingBlocks = [];
    pendingUnits = [];
    // One write at a time and blocks before units: a unit on record means that all its blocks are.
    writing = writing.then(async () => {
      if (failure !== undefined) throw failure;
      await append("block", nowBlocks);
      await append("unit", nowUnits);
    });
    writing.catch((error) => {
      failure ??= error;
    });
    return writing;
  }

  async function append(what: "block" | "unit", entries: [number, Uint8Array][]): Promise<void> {
    if (entries.length === 0) return;
    await db
      .insertInto("transfer_acks")
      .values({ transfer_id: id, generation, what, payload: pack(entries) })
      .execute();
  }

  const timer = setInterval(() => {
    if (pendingBlocks.length + pendingUnits.length > 0) void flush().catch(() => {});
  }, FLUSH_EVERY_MS);
  timer.unref();

  return {
    get staged() {
      return staged;
    },
    acked: (index) => blocks.has(index),
    digestOf: (index) => blocks.get(index),
    get ackedCount() {
      return blocks.size;
    },
    knownUnits: units,
    async begin(next) {
      await flush();
      const updated = await db
        .updateTable("transfers")
        .set({ staged: JSON.stringify(next), generation: sql<number>`generation + 1`, changed_at: new Date() })
        .where("id", "=", id)
        .returning("generation")
        .executeTakeFirstOrThrow();
      await db
        .deleteFrom("transfer_acks")
        .where("transfer_id", "=", id)
        .where("generation", "<", updated.generation)
        .execute();
      generation = updated.generation;
      staged = next;
      blocks.clear();
      units.clear();
    },
    ack(index, sha256) {
      const digest = Uint8Array.from(sha256);
      blocks.set(index, digest);
      pendingBlocks.push([index, digest]);
      if (pendingBlocks.length >= FLUSH_EVERY) void flush().catch(() => {});
    },
    unit(index, sha256) {
      const digest = Uint8Array.from(sha256);
      units.set(index, digest);
      pendingUnits.push([index, digest]);
    },
    flush,
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      await flush();
    },
  };
}

/** Forgets a finished transfer's acknowledgements. Safe to repeat. */
export async function forgetTransfer(db: Kysely<CatalogTables>, id: string): Promise<void> {
  await db.deleteFrom("transfers").where("id", "=", id).execute();
}

function pack(entries: readonly [number, Uint8Array][]): Buffer {
  const payload = Buffer.alloc(entries.length * ENTRY_BYTES);
  entries.forEach(([index, sha256], position) => {
    payload.writeUInt32BE(index, position * ENTRY_BYTES);
    payload.set(sha256, position * ENTRY_BYTES + 4);
  });
  return payload;
}

function unpack(payload: Buffer, into: Map<number, Uint8Array>): void {
  for (let at = 0; at + ENTRY_BYTES <= payload.length; at += ENTRY_BYTES) {
    into.set(payload.readUInt32BE(at), Uint8Array.from(payload.subarray(at + 4, at + ENTRY_BYTES)));
  }
}
