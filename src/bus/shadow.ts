/**
 * What a shadow remembers: of each compose what we would have published, and what the other service did. Nothing is
 * judged here and nothing is ever sent: whether the two agree is worked out when somebody asks, so that a message that
 * comes late counts without anything having to be opened again.
 */
import type { Generated, Kysely } from "kysely";
import { sql } from "kysely";
import type { Json } from "../model.ts";
import { topicMatches } from "../rules/index.ts";
import type { InboxTables, Source } from "./inbox.ts";

export const SHADOW_MIGRATIONS = [
  {
    name: "bus-0005-shadow",
    up: `
      create table shadow_composes (
        compose_id text not null,
        -- Empty: nothing is expected of the compose, and why says why.
        system text not null,
        event_id text not null,
        -- JSON as text: names come out of metadata, and jsonb refuses what may stand in it.
        expected text not null,
        why text,
        -- False: expected, and left out of the comparison.
        compared boolean not null,
        finished_at timestamptz not null,
        -- What has not come by then is missing.
        closes_at timestamptz not null,
        changed_at timestamptz not null default clock_timestamp(),
        primary key (compose_id, system)
      );
      create index shadow_composes_finished on shadow_composes (finished_at);
      create table shadow_messages (
        -- The inbox's: a message that is delivered again is the same one.
        id text primary key,
        -- Null: it names none that could be one.
        compose_id text,
        topic text not null,
        schema text,
        severity smallint not null,
        body text not null,
        received_at timestamptz not null
      );
      create index shadow_messages_compose on shadow_messages (compose_id);
      create index shadow_messages_received on shadow_messages (received_at);
    `,
  },
] as const;

export interface ShadowTables {
  shadow_composes: {
    compose_id: string;
    system: string;
    event_id: string;
    expected: string;
    why: string | null;
    compared: boolean;
    finished_at: Date;
    closes_at: Date;
    changed_at: Generated<Date>;
  };
  shadow_messages: {
    id: string;
    compose_id: string | null;
    topic: string;
    schema: string | null;
    severity: number;
    body: string;
    received_at: Date;
  };
}

/** What is expected of a compose in one system. */
export interface Expectation<Message> {
  readonly composeId: string;
  /** Empty: of no system, for the reason given. */
  readonly system: string;
  readonly eventId: string;
  readonly expected: readonly Message[];
  readonly why?: string | undefined;
  readonly compared: boolean;
  readonly finishedAt: Date;
  readonly closesAt: Date;
}

/** A message of the other service. */
export interface Shadowed {
  readonly id: string;
  /** Undefined: it names none. */
  readonly composeId: string | undefined;
  readonly topic: string;
  readonly schema?: string;
  readonly severity: number;
  readonly body: Readonly<Record<string, Json>>;
  readonly receivedAt: Date;
}

/** Where a message comes from, by its topic: what a shadow compares with is judged by no rule. */
export function sourceOf(usual: Source, shadow: { readonly topics: readonly string[] } | undefined) {
  return (topic: string): Source =>
    shadow?.topics.some((pattern) => topicMatches(pattern, topic)) === true ? "shadow" : usual;
}

/**
 * Keeps what is expected of a compose. Safe to repeat: the newest expectation counts, for a replay may follow a change
 * of the configuration; the first end of the compose does.
 */
export async function recordExpectation(
  db: Kysely<ShadowTables>,
  { composeId, system, eventId, expected, why, compared, finishedAt, closesAt }: Expectation<unknown>,
): Promise<void> {
  const changing = { event_id: eventId, expected: JSON.stringify(expected), why: why ?? null, compared };
  await db
    .insertInto("shadow_composes")
    .values({ compose_id: composeId, system, finished_at: finishedAt, closes_at: closesAt, ...changing })
    .onConflict((conflict) =>
      conflict.columns(["compose_id", "system"]).doUpdateSet({ ...changing, changed_at: sql`clock_timestamp()` }),
    )
    .execute();
}

const TAKEN_AT_ONCE = 500;
/** Longer than any id of a compose, and short enough for an index. */
const MOST_ID_CHARACTERS = 200;

/**
 * Takes what has arrived from the other service out of the inbox. Safe to repeat, side by side, and to be killed in.
 * @returns how many were taken; fewer than there may be
 */
export async function takeShadowed(db: Kysely<InboxTables & ShadowTables>): Promise<number> {
  return db.transaction().execute(async (tx) => {
    const rows = await tx
      .selectFrom("inbox")
      .select(["id", "topic", "schema", "severity", "body", "received_at"])
      .where("dispatched_at", "is", null)
      .where("source", "=", "shadow")
      .orderBy("sequence")
      .limit(TAKEN_AT_ONCE)
      .forUpdate()
      .skipLocked()
      .execute();
    if (rows.length === 0) return 0;
    await tx
      .insertInto("shadow_messages")
      .values(rows.map((row) => ({ ...row, compose_id: composeIdIn(row.body) })))
      .onConflict((conflict) => conflict.column("id").doNothing())
      .execute();
    const ids = rows.map(({ id }) => id);
    await tx.updateTable("inbox").set({ dispatched_at: sql`now()` }).where("id", "in", ids).execute();
    return rows.length;
  });
}

function composeIdIn(body: string): string | null {
  const { compose_id: id } = JSON.parse(body) as Record<string, Json>;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  const usable = typeof id === "string" && id !== "" && id.length <= MOST_ID_CHARACTERS && !/[\u0000-\u001f]/.test(id);
  return usable && id.isWellFormed() ? id : null;
}

export interface ShadowRecords<Message> {
  readonly expectations: readonly Expectation<Message>[];
  readonly messages: readonly Shadowed[];
  /** Messages of the other service that are in quarantine. */
  readonly unreadable: number;
}

/**
 * All about the composes that finished, or of which a message came, since then; or about one. Messages that name no
 * compose come with those of a time. In the order in which they came.
 */
export async function readShadow<Message>(
  db: Kysely<InboxTables & ShadowTables>,
  filter: { readonly composeId?: string | undefined; readonly since?: Date | undefined },
): Promise<ShadowRecords<Message>> {
  const { composeId, since = new Date(0) } = filter;
  const meant =
    composeId === undefined
      ? db
          .selectFrom("shadow_composes")
          .select("compose_id")
          .where("finished_at", ">=", since)
          .union(
            db
              .selectFrom("shadow_messages")
              .select("compose_id")
              .$narrowType<{ compose_id: string }>()
              .where("compose_id", "is not", null)
              .where("received_at", ">=", since),
          )
      : sql<{ compose_id: string }>`(select ${composeId}::text)`;
  const composes = await db
    .selectFrom("shadow_composes")
    .selectAll()
    .where(sql<boolean>`compose_id in (${meant})`)
    .orderBy("finished_at")
    .orderBy("compose_id")
    .orderBy("system")
    .execute();
  const messages = await db
    .selectFrom("shadow_messages")
    .selectAll()
    .where((where) =>
      where.or([
        sql<boolean>`compose_id in (${meant})`,
        ...(composeId === undefined
          ? [where.and([where("compose_id", "is", null), where("received_at", ">=", since)])]
          : []),
      ]),
    )
    .orderBy("received_at")
    .orderBy("id")
    .execute();
  const unreadable = await db
    .selectFrom("quarantine")
    .select((all) => all.fn.countAll<string>().as("count"))
    .where("source", "=", "shadow")
    .where("last_at", ">=", since)
    .executeTakeFirstOrThrow();
  return {
    // Which compose they would have named, nobody can tell.
    unreadable: composeId === undefined ? Number(unreadable.count) : 0,
    expectations: composes.map((row) => ({
      composeId: row.compose_id,
      system: row.system,
      eventId: row.event_id,
      expected: JSON.parse(row.expected) as Message[],
      ...(row.why === null ? {} : { why: row.why }),
      compared: row.compared,
      finishedAt: row.finished_at,
      closesAt: row.closes_at,
    })),
    messages: messages.map((row) => ({
      id: row.id,
      composeId: row.compose_id ?? undefined,
      topic: row.topic,
      ...(row.schema === null ? {} : { schema: row.schema }),
      severity: row.severity,
      body: JSON.parse(row.body) as Record<string, Json>,
      receivedAt: row.received_at,
    })),
  };
}
