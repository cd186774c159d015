/**
 * Events that have arrived, and messages nobody can read.
 *
 * A batch of deliveries is committed here before any of them is acknowledged; what is done about an event comes later
 * and holds no delivery. An event is there once for its id, however often it is delivered. An id that comes back with
 * another body is kept apart, in quarantine, like everything that cannot be read: visible, counted, never dropped.
 */
import type { Generated, Kysely, Transaction } from "kysely";
import { sql } from "kysely";
import type { Json } from "../model.ts";
import { type Delivery, type Incoming, readDelivery, type Severity, type Unreadable } from "./message.ts";

export const INBOX_MIGRATIONS = [
  {
    name: "bus-0002-inbox",
    up: `
      -- Headers and bodies are JSON as text: jsonb refuses what a sender may write, NUL and half of a surrogate pair.
      create table inbox (
        id text primary key,
        sequence bigint generated always as identity unique,
        source text not null check (source in ('broker', 'webhook', 'timer', 'command', 'shadow')),
        topic text not null,
        severity smallint not null,
        priority smallint not null,
        schema text,
        sent_at text,
        headers text not null,
        body text not null,
        body_sha256 text not null,
        deliveries integer not null default 1,
        received_at timestamptz not null default now(),
        dispatched_at timestamptz
      );
      create index inbox_waiting on inbox (priority desc, sequence) where dispatched_at is null;
      create index inbox_received on inbox (received_at);

      create table quarantine (
        id text not null,
        body_sha256 text not null,
        reason text not null,
        detail text not null,
        source text not null,
        topic text not null,
        headers text not null,
        -- The beginning of a large one.
        body bytea not null,
        body_bytes bigint not null,
        deliveries integer not null default 1,
        first_at timestamptz not null default now(),
        last_at timestamptz not null default now(),
        primary key (id, body_sha256, reason)
      );
      create index quarantine_last on quarantine (last_at);
    `,
  },
] as const;

export type Source = "broker" | "webhook" | "timer" | "command" | "shadow";

export interface InboxTables {
  inbox: {
    id: string;
    sequence: Generated<string>;
    source: Source;
    topic: string;
    severity: number;
    priority: number;
    schema: string | null;
    sent_at: string | null;
    headers: string;
    body: string;
    body_sha256: string;
    deliveries: Generated<number>;
    received_at: Generated<Date>;
    dispatched_at: Date | null;
  };
  quarantine: {
    id: string;
    body_sha256: string;
    reason: string;
    detail: string;
    source: Source;
    topic: string;
    headers: string;
    body: Buffer;
    body_bytes: string | number;
    deliveries: Generated<number>;
    first_at: Generated<Date>;
    last_at: Generated<Date>;
  };
}

/** What became of a batch: every delivery is counted in one of the three. */
export interface Accepted {
  readonly fresh: readonly string[];
  readonly repeated: number;
  readonly quarantined: number;
}

/** Whoever waits for events listens here; the payload is empty. */
export const INBOX_CHANNEL = "slipway_inbox";

/** Of a message nobody can read, so much is kept to look at. */
const MOST_KEPT_BYTES = 64 * 1024;

/**
 * Keeps a batch: on return every delivery is in the inbox, was there before, or is in quarantine, and may be
 * acknowledged. All or nothing. Safe to repeat, by another process too.
 * @param source of all, or of each by its topic
 * @throws what the database throws; then nothing was kept and nothing may be acknowledged
 */
export async function acceptDeliveries(
  db: Kysely<InboxTables>,
  source: Source | ((topic: string) => Source),
  deliveries: readonly Delivery[],
): Promise<Accepted> {
  const sourceOf = typeof source === "function" ? source : () => source;
  const read = deliveries.map((delivery) => ({ delivery, said: readDelivery(delivery) }));
  return db.transaction().execute(async (tx) => {
    const events = read.flatMap(({ said }) => ("reason" in said ? [] : [said]));
    const fresh = await insertEvents(tx, sourceOf, events);
    const others = await comeBackChanged(tx, events);
    const unreadable = read.flatMap(({ delivery, said }) => {
      if ("reason" in said) return [{ delivery, why: said }];
      const first = others.get(said.id);
      return first !== undefined && first !== said.bodySha256 ? [{ delivery, why: anotherBody(said, first) }] : [];
    });
    await insertQuarantined(tx, sourceOf, unreadable);
    if (fresh.length > 0) await sql`select pg_notify(${INBOX_CHANNEL}, '')`.execute(tx);
    const repeated = events.length - fresh.length - unreadable.filter(({ why }) => why.reason === ANOTHER_BODY).length;
    return { fresh, repeated, quarantined: unreadable.length };
  });
}

/** One row for each id, also within the batch. Rows that were there are counted as delivered once more. */
async function insertEvents(
  tx: Transaction<InboxTables>,
  sourceOf: (topic: string) => Source,
  events: readonly Incoming[],
): Promise<string[]> {
  if (events.length === 0) return [];
  const first = new Map<string, Incoming>();
  for (const event of events) if (!first.has(event.id)) first.set(event.id, event);
  const inserted = await tx
    .insertInto("inbox")
    .values(
      // In the order of arrival, which is the order they are dispatched in. Two processes with the same events in another
      // order may wait for each other; the database then ends one, and it tries again.
      [...first.values()].map((event) => ({
        id: event.id,
        source: sourceOf(event.topic),
        topic: event.topic,
        severity: event.severity,
        priority: Math.max(0, Math.min(255, event.priority)),
        schema: event.schema ?? null,
        sent_at: event.sentAt ?? null,
        headers: JSON.stringify(event.headers),
        body: JSON.stringify(event.body),
        body_sha256: event.bodySha256,
        dispatched_at: null,
      })),
    )
    .onConflict((conflict) => conflict.column("id").doNothing())
    .returning("id")
    .execute();
  const fresh = inserted.map(({ id }) => id);
  const again = new Map<string, number>();
  for (const { id } of events) again.set(id, (again.get(id) ?? 0) + 1);
  for (const id of fresh) again.set(id, again.get(id)! - 1);
  const repeats = [...again].filter(([, times]) => times > 0);
  if (repeats.length > 0) {
    await sql`
      update inbox set deliveries = inbox.deliveries + times.count
      from unnest(${repeats.map(([id]) => id)}::text[], ${repeats.map(([, times]) => times)}::int[]) as times (id, count)
      where inbox.id = times.id
    `.execute(tx);
  }
  return fresh;
}

/** The digest each event's id was first seen with. */
async function comeBackChanged(
  tx: Transaction<InboxTables>,
  events: readonly Incoming[],
): Promise<ReadonlyMap<string, string>> {
  if (events.length === 0) return new Map();
  const ids = [...new Set(events.map(({ id }) => id))];
  const rows = await tx.selectFrom("inbox").select(["id", "body_sha256"]).where("id", "in", ids).execute();
  return new Map(rows.map((row) => [row.id, row.body_sha256]));
}

const ANOTHER_BODY = "another-body";

function anotherBody({ id, bodySha256 }: Incoming, first: string): Omit<Unreadable, "reason"> & { reason: string } {
  const detail = `The id was seen before with another body (SHA-256 ${first.slice(0, 16)}…).`;
  return { reason: ANOTHER_BODY, detail, id, bodySha256 };
}

async function insertQuarantined(
  tx: Transaction<InboxTables>,
  sourceOf: (topic: string) => Source,
  found: readonly { delivery: Delivery; why: Omit<Unreadable, "reason"> & { reason: string } }[],
): Promise<void> {
  for (const { delivery, why } of found) {
    await tx
      .insertInto("quarantine")
      .values({
        id: why.id,
        body_sha256: why.bodySha256,
        reason: why.reason,
        detail: why.detail,
        source: sourceOf(delivery.routingKey),
        // As JSON writes it: a topic may be refused for what a text column cannot hold.
        topic: JSON.stringify(delivery.routingKey).slice(1, -1).slice(0, 2000),
        headers: JSON.stringify(namesOf(delivery)),
        body: Buffer.from(delivery.content.subarray(0, MOST_KEPT_BYTES)),
        body_bytes: delivery.content.length,
      })
      .onConflict((conflict) =>
        conflict.columns(["id", "body_sha256", "reason"]).doUpdateSet({
          deliveries: sql`quarantine.deliveries + 1`,
          last_at: sql`now()`,
        }),
      )
      .execute();
  }
}

/** Names only: values of headers nobody could check may be secrets. */
function namesOf({ headers }: Delivery): string[] {
  return Object.keys(headers ?? {}).slice(0, 100);
}

/** One event as it is kept. */
export interface KeptEvent extends Incoming {
  readonly source: Source;
  readonly sequence: number;
  readonly receivedAt: string;
  readonly deliveries: number;
  readonly dispatched: boolean;
}

/** Newest first. */
export async function listEvents(
  db: Kysely<InboxTables>,
  filter: { topic?: string | undefined; id?: string | undefined; since?: Date | undefined; limit: number },
): Promise<KeptEvent[]> {
  let query = db.selectFrom("inbox").selectAll().orderBy("sequence", "desc").limit(filter.limit);
  if (filter.id !== undefined) query = query.where("id", "=", filter.id);
  if (filter.topic !== undefined) query = query.where("topic", "like", `%${filter.topic.replace(/[\\%_]/g, "\\$&")}%`);
  if (filter.since !== undefined) query = query.where("received_at", ">=", filter.since);
  const rows = await query.execute();
  return rows.map((row) => ({
    id: row.id,
    source: row.source,
    sequence: Number(row.sequence),
    topic: row.topic,
    severity: row.severity as Severity,
    priority: row.priority,
    ...(row.schema === null ? {} : { schema: row.schema }),
    ...(row.sent_at === null ? {} : { sentAt: row.sent_at }),
    headers: JSON.parse(row.headers) as Record<string, Json>,
    body: JSON.parse(row.body) as Record<string, Json>,
    bodySha256: row.body_sha256,
    receivedAt: row.received_at.toISOString(),
    deliveries: row.deliveries,
    dispatched: row.dispatched_at !== null,
  }));
}

export interface Quarantined {
  readonly id: string;
  readonly reason: string;
  readonly detail: string;
  readonly topic: string;
  readonly source: string;
  readonly bytes: number;
  readonly deliveries: number;
  readonly firstAt: string;
  readonly lastAt: string;
}

/** Newest first. */
export async function listQuarantined(db: Kysely<InboxTables>, limit: number): Promise<Quarantined[]> {
  const rows = await db
    .selectFrom("quarantine")
    .select(["id", "reason", "detail", "topic", "source", "body_bytes", "deliveries", "first_at", "last_at"])
    .orderBy("last_at", "desc")
    .limit(limit)
    .execute();
  return rows.map(({ body_bytes, first_at, last_at, ...row }) => ({
    ...row,
    bytes: Number(body_bytes),
    firstAt: first_at.toISOString(),
    lastAt: last_at.toISOString(),
  }));
}
