import type { Generated, JSONColumnType } from "kysely";
import type { DispatchTables } from "../bus/dispatch/schema.ts";
import type { OutboxTables } from "../bus/outbox.ts";
import type { CatalogTables } from "../catalog/schema.ts";
import type { AlarmKind, Notice } from "./alarm.ts";

/** To be applied after the bus's: two of its tables get an index. */
export const ALARM_MIGRATIONS = [
  {
    name: "alarms-0001",
    up: `
      create table alarms (
        key text primary key,
        kind text not null,
        severity text not null check (severity in ('warning', 'error')),
        subject text not null,
        message text not null,
        next text not null,
        -- Of the time it is, or was last, true: what tells this time from the one before.
        first_at timestamptz not null,
        last_at timestamptz not null,
        -- Since when it is not true any more; believed after the settle time.
        over_since timestamptz,
        told_at timestamptz,
        recovered_at timestamptz,
        snoozed_until timestamptz,
        snooze_reason text,
        expires_at timestamptz
      );
      create index alarms_recovered on alarms (recovered_at);

      -- One row for a notice and a channel, written with what it tells of.
      create table alarm_notices (
        id uuid primary key,
        sequence bigint generated always as identity unique,
        alarm_key text not null,
        -- The alarm's first_at.
        since timestamptz not null,
        what text not null check (what in ('raised', 'reminded', 'recovered')),
        channel text not null,
        notice jsonb not null,
        state text not null default 'waiting' check (state in ('waiting', 'sent', 'given-up')),
        attempts integer not null default 0,
        next_at timestamptz not null,
        trouble text,
        created_at timestamptz not null,
        settled_at timestamptz
      );
      create index alarm_notices_waiting on alarm_notices (sequence) where state = 'waiting';
      create index alarm_notices_alarm on alarm_notices (alarm_key, since);

      -- Since when something is watched, and when it was last looked at.
      create table alarm_looks (
        name text primary key,
        first_at timestamptz not null,
        last_at timestamptz not null
      );

      -- What is asked for every minute, of tables that grow.
      create index dispatches_of_rule on dispatches (rule, sequence desc)
        where state in ('started', 'done', 'failed');
      create index outbox_troubled on outbox (created_at) where state in ('invalid', 'delivered-with-warning');
    `,
  },
] as const;

export interface AlarmTables extends DispatchTables, OutboxTables, CatalogTables {
  alarms: {
    key: string;
    kind: AlarmKind;
    severity: "warning" | "error";
    subject: string;
    message: string;
    next: string;
    first_at: Date;
    last_at: Date;
    over_since: Date | null;
    told_at: Date | null;
    recovered_at: Date | null;
    snoozed_until: Date | null;
    snooze_reason: string | null;
    expires_at: Date | null;
  };
  alarm_notices: {
    id: string;
    sequence: Generated<string>;
    alarm_key: string;
    since: Date;
    what: "raised" | "reminded" | "recovered";
    channel: string;
    notice: JSONColumnType<Notice>;
    state: Generated<"waiting" | "sent" | "given-up">;
    attempts: Generated<number>;
    next_at: Date;
    trouble: string | null;
    created_at: Date;
    settled_at: Date | null;
  };
  alarm_looks: { name: string; first_at: Date; last_at: Date };
}
