/**
 * Messages that wait for the broker, and those it has confirmed.
 *
 * A message is written in the transaction that records the fact it announces, under an id derived from that fact: a
 * step repeated after a crash writes the same row. Delivery is a later concern of whoever reads this table; a message
 * with no broker configured stays `waiting` and can be read with `slipway events list --sent`.
 */
import { createHash } from "node:crypto";
import { type ColumnType, type Generated, type Kysely, sql, type Transaction } from "kysely";
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

export const SENDING_MIGRATIONS = [
  {
    name: "bus-0004-sending",
    up: `
      alter table outbox add column next_at timestamptz not null default now();
      -- What went wrong last, or what a delivered one is warned of.
      alter table outbox add column trouble text;
      alter table outbox add column unroutable integer not null default 0;
      alter table outbox drop constraint outbox_state_check;
      alter table outbox add constraint outbox_state_check
        check (state in ('waiting', 'delivered', 'delivered-with-warning', 'invalid'));
      drop index outbox_waiting;
      create index outbox_waiting on outbox (next_at, sequence) where state = 'waiting';
      create function tell_outbox() returns trigger language plpgsql as $$
        begin perform pg_notify('slipway_outbox', ''); return null; end
      $$;
      create trigger outbox_told after insert on outbox for each statement execute function tell_outbox();
    `,
  },
] as const;

/** Whoever sends messages listens here; the payload is empty. */
export const OUTBOX_CHANNEL = "slipway_outbox";

export type OutboxState = "waiting" | "delivered" | "delivered-with-warning" | "invalid";

export interface OutboxTables {
  outbox: {
    id: string;
    sequence: Generated<string>;
    topic: string;
    headers: ColumnType<Record<string, Json>, string, string>;
    body: ColumnType<Record<string, Json>, string, string>;
    summary: string;
    state: Generated<OutboxState>;
    attempts: Generated<number>;
    next_at: Generated<Date>;
    trouble: string | null;
    unroutable: Generated<number>;
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
  readonly state: OutboxState;
  readonly runId: string | undefined;
  readonly createdAt: string;
  readonly attempts: number;
  /** Why it still waits, or what it was delivered with. */
  readonly trouble?: string;
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
        ...{ delivered_at: null, trouble: null },
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
    attempts: row.attempts,
    ...(row.trouble === null ? {} : { trouble: row.trouble }),
  }));
}

/** A message that is being sent, with what was tried before. */
export interface ClaimedMessage {
  readonly id: string;
  readonly topic: string;
  readonly headers: Readonly<Record<string, Json>>;
  readonly body: Readonly<Record<string, Json>>;
  /** Times it was sent, this one included. */
  readonly attempts: number;
  /** Times the broker knew nobody who wants it. */
  readonly unroutable: number;
}

/** Whoever claimed a message and did not say what became of it within this time has died. */
const CLAIM_MS = 60_000;

/**
 * Takes messages to be sent, oldest first. Two that ask get different ones; what nobody settles is there again after a
 * minute, and may then be sent twice, under one id.
 */
export async function claimMessages(db: Kysely<OutboxTables>, limit: number): Promise<readonly ClaimedMessage[]> {
  const rows = await db
    .updateTable("outbox")
    .set({
      attempts: sql`attempts + 1`,
      next_at: sql`clock_timestamp() + ${CLAIM_MS} * interval '1 ms'`,
    })
    .where("id", "in", (from) =>
      from
        .selectFrom("outbox")
        .select("id")
        .where("state", "=", "waiting")
        .where("next_at", "<=", sql<Date>`clock_timestamp()`)
        .orderBy("sequence")
        .limit(limit)
        .forUpdate()
        .skipLocked(),
    )
    .returning(["id", "topic", "headers", "body", "attempts", "unroutable", "sequence"])
    .execute();
  return rows.sort((one, other) => Number(one.sequence) - Number(other.sequence));
}

export type Settled =
  /** The broker has it. */
  | { readonly how: "delivered" }
  /** It has it and gave it to nobody; that is all right, and told. */
  | { readonly how: "delivered-with-warning"; readonly trouble: string }
  /** It will never be sent as it is. */
  | { readonly how: "invalid"; readonly trouble: string }
  /** Sent again after a while. */
  | { readonly how: "again"; readonly trouble: string; readonly afterMs: number; readonly unroutable: boolean };

/** Says what became of a claimed message. Safe to repeat. */
export async function settleMessage(db: Kysely<OutboxTables>, id: string, said: Settled): Promise<void> {
  const trouble = "trouble" in said ? said.trouble.slice(0, 500) : null;
  const change =
    said.how === "again"
      ? {
          trouble,
          next_at: sql<Date>`clock_timestamp() + ${said.afterMs} * interval '1 ms'`,
          ...(said.unroutable ? { unroutable: sql<number>`unroutable + 1` } : {}),
        }
      : { state: said.how, trouble, ...(said.how === "invalid" ? {} : { delivered_at: sql<Date>`clock_timestamp()` }) };
  await db.updateTable("outbox").set(change).where("id", "=", id).where("state", "=", "waiting").execute();
}

/** Milliseconds until a message may be sent again, at most `most`. */
export async function nextMessage(db: Kysely<OutboxTables>, most: number): Promise<number> {
  const row = await db
    .selectFrom("outbox")
    .select(sql<number | null>`extract(epoch from min(next_at) - clock_timestamp()) * 1000`.as("ms"))
    .where("state", "=", "waiting")
    .executeTakeFirst();
  return row?.ms == null ? most : Math.max(1, Math.min(most, Math.ceil(Number(row.ms))));
}

function escapeLike(text: string): string {
  return text.replace(/[\\%_]/g, (character) => `\\${character}`);
}
