/**
 * What is done about events: one row for each event and rule that means it, from the first look to the run it starts.
 *
 * An event is marked as looked at in the transaction that writes its rows, so that it is looked at once, whoever looks
 * and however often they die. A row becomes a run under an id made of event, rule and generation: starting it twice is
 * starting it once. Between the two stands what other events have to do with it: repeats, floods, quiet, pairs, locks.
 */
import { type Generated, sql, type Transaction } from "kysely";
import type { InboxTables } from "../inbox.ts";

export const DISPATCH_MIGRATIONS = [
  {
    name: "bus-0003-dispatches",
    up: `
      create table dispatches (
        event_id text not null references inbox (id) on delete cascade,
        rule text not null,
        -- 1 for the event itself, more for every replay.
        generation integer not null default 1,
        sequence bigint generated always as identity unique,
        side text not null default 'this' check (side in ('this', 'other')),
        state text not null check (state in ('waiting', 'starting', 'started', 'done', 'skipped', 'failed')),
        why text,
        priority smallint not null,
        once_key text,
        throttle_key text,
        debounce_key text,
        join_key text,
        lock_key text,
        -- The other one of a pair.
        other_event text,
        due_at timestamptz not null,
        -- Of a debounce: when the first of those that are one now came.
        held_since timestamptz not null,
        run_id text,
        created_at timestamptz not null default clock_timestamp(),
        changed_at timestamptz not null default clock_timestamp(),
        primary key (event_id, rule, generation)
      );
      create index dispatches_open on dispatches (priority desc, sequence) where state in ('waiting', 'starting');
      create index dispatches_started on dispatches (lock_key) where state in ('starting', 'started');
      create index dispatches_once on dispatches (rule, once_key, created_at) where once_key is not null;
      create index dispatches_throttle on dispatches (rule, throttle_key, changed_at) where throttle_key is not null;
      create index dispatches_held on dispatches (rule, debounce_key, join_key) where state = 'waiting';
      create index dispatches_changed on dispatches (changed_at);
      create table rule_pauses (
        -- A rule's name, or * for all.
        rule text primary key,
        mode text not null check (mode in ('hold', 'drop')),
        reason text not null,
        since timestamptz not null default now()
      );
    `,
  },
] as const;

export type DispatchState = "waiting" | "starting" | "started" | "done" | "skipped" | "failed";

export interface DispatchTables extends InboxTables {
  dispatches: {
    event_id: string;
    rule: string;
    generation: Generated<number>;
    sequence: Generated<string>;
    side: Generated<"this" | "other">;
    state: DispatchState;
    why: string | null;
    priority: number;
    once_key: string | null;
    throttle_key: string | null;
    debounce_key: string | null;
    join_key: string | null;
    lock_key: string | null;
    other_event: string | null;
    due_at: Date;
    held_since: Date;
    run_id: string | null;
    created_at: Generated<Date>;
    changed_at: Generated<Date>;
  };
  rule_pauses: { rule: string; mode: "hold" | "drop"; reason: string; since: Generated<Date> };
}

/** One at a time for what has this name, until the transaction ends. */
export async function lockName(tx: Transaction<DispatchTables>, name: string): Promise<void> {
  await sql`select pg_advisory_xact_lock(hashtextextended(${`slipway ${name}`}, 0))`.execute(tx);
}
