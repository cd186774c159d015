/**
 * Messages that wait for the broker, and those it has confirmed.
 *
 * A message is written in the transaction that records the fact it announces, under an id derived from that fact: a
 * step repeated after a crash writes the same row. Delivery is a later concern of whoever reads this table; a message
 * with no broker configured stays `waiting` and can be read with `slipway events list --sent`.
 */
import { createHash } from "node:crypto";
import type { ColumnType, Generated, Kysely, Transaction } from "kysely";
import type { Json } from "../model.ts";

export const OUTBOX_MIGRATIONS = [
  {
    name: "bus-0001-outbox",
    up: `
      create table outbox (
        id uuid primary key,
        sequence bigint generated always as identity unique,
        topic text not null,
        headers jsonb not null,
        body jsonb not null,
        summary text not null,
        state text not null default 'waiting' check (state in ('waiting', 'delivered', 'delivered-with-warning')),
        attempts integer not null default 0,
        run_id text,
        created_at timestamptz not null default now(),
        delivered_at timestamptz
      );
      create index outbox_waiting on outbox (sequence) where state = 'waiting';
    `,
  },
] as const;

export interface OutboxTables {
  outbox: {
    id: string;
    sequence: Generated<string>;
    topic: string;
    headers: ColumnType<Record<string, Json>, string, string>;
    body: ColumnType<Record<string, Json>, string, string>;
    summary: string;
    state: Generated<"waiting" | "delivered" | "delivered-with-warning">;
    attempts: Generated<number>;
    run_id: string | null;
    created_at: Generated<Date>;
    delivered_at: Date | null;
  };
}

/** A message as the bus knows it, without the broker's topic prefix. */
export interface OutgoingMessage {
  /** Derived with `messageId`. */
  readonly id: string;
  readonly topic: string;
  readonly headers: Readonly<Record<string, Json>>;
  readonly body: Readonly<Record<string, Json>>;
  /** One line for people. */
  readonly summary: string;
}

export interface SentMessage extends OutgoingMessage {
  readonly state: "waiting" | "delivered" | "delivered-with-warning";
  readonly runId: string | undefined;
  readonly createdAt: string;
}

/**
 * A message id that is the same whenever the same fact is announced, in the form of a version 8 UUID (RFC 9562: bits of
 * our own choosing), because readers expect hyphenated UUIDs.
 */
export function messageId(...fact: readonly string[]): string {
  const hash = createHash("sha256").update(JSON.stringify(fact)).digest();
  hash[6] = (hash[6]! & 0x0f) | 0x80;
  hash[8] = (hash[8]! & 0x3f) | 0x80;
  const hex = hash.toString("hex");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20, 32)].join("-");
}

/** Adds messages inside the caller's transaction. One that is there already is left as it is. Safe to repeat. */
export async function enqueueMessages(
  tx: Transaction<OutboxTables>,
  messages: readonly OutgoingMessage[],
  runId: string,
): Promise<void> {
  if (messages.length === 0) return;
  await tx
    .insertInto("outbox")
    .values(
      messages.map((message) => ({
        id: message.id,
        topic: message.topic,
        headers: JSON.stringify(message.headers),
        body: JSON.stringify(message.body),
        summary: message.summary,
        run_id: runId,
        delivered_at: null,
      })),
    )
    .onConflict((conflict) => conflict.column("id").doNothing())
    .execute();
}

/** Newest first. */
export async function listMessages(
  db: Kysely<OutboxTables>,
  filter: { topic?: string | undefined; runId?: string | undefined; limit: number },
): Promise<SentMessage[]> {
  let query = db.selectFrom("outbox").selectAll().orderBy("sequence", "desc").limit(filter.limit);
  if (filter.topic !== undefined) query = query.where("topic", "like", `%${escapeLike(filter.topic)}%`);
  if (filter.runId !== undefined) query = query.where("run_id", "=", filter.runId);
  const rows = await query.execute();
  return rows.map((row) => ({
    id: row.id,
    topic: row.topic,
    headers: row.headers,
    body: row.body,
    summary: row.summary,
    state: row.state,
    runId: row.run_id ?? undefined,
    createdAt: row.created_at.toISOString(),
  }));
}

function escapeLike(text: string): string {
  return text.replace(/[\\%_]/g, (character) => `\\${character}`);
}
