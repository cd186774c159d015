/** Alarms as people ask for them, and the silence they set. */
import type { Kysely } from "kysely";
import { SlipwayError } from "../lib/errors.ts";
import type { AlarmKind } from "./alarm.ts";
import type { AlarmTables } from "./schema.ts";

export interface KeptAlarm {
  readonly key: string;
  readonly kind: AlarmKind;
  readonly severity: "warning" | "error";
  readonly subject: string;
  readonly message: string;
  readonly next: string;
  /** `over`: not true any more, and not long enough to be believed, or silenced. */
  readonly state: "open" | "over" | "ended";
  /** Times are ISO 8601, UTC. */
  readonly since: string;
  readonly lastSeen: string;
  readonly endedAt?: string;
  readonly snoozedUntil?: string;
  readonly snoozeReason?: string;
  /** What became of the notices of this time, newest last. */
  readonly told: readonly Told[];
}

export interface Told {
  readonly channel: string;
  readonly what: "raised" | "reminded" | "recovered";
  readonly state: "waiting" | "sent" | "given-up";
  readonly at: string;
  /** Why it could not be sent, last time. */
  readonly trouble?: string;
}

/** Open ones, the oldest first; with `ended` those that are over too, the newest first. At most `limit`. */
export async function listAlarms(
  db: Kysely<AlarmTables>,
  filter: { readonly ended?: boolean | undefined; readonly limit: number; readonly now: Date },
): Promise<KeptAlarm[]> {
  let query = db.selectFrom("alarms").selectAll().limit(filter.limit);
  query =
    filter.ended === true
      ? query.orderBy("first_at", "desc").orderBy("key")
      : query.where("recovered_at", "is", null).orderBy("first_at").orderBy("key");
  const rows = await query.execute();
  const keys = rows.map(({ key }) => key);
  const notices =
    keys.length === 0
      ? []
      : await db
          .selectFrom("alarm_notices")
          .select(["alarm_key", "since", "channel", "what", "state", "created_at", "settled_at", "trouble"])
          .where("alarm_key", "in", keys)
          .orderBy("sequence")
          .execute();
  return rows.map((row) => {
    const told = notices.filter((one) => one.alarm_key === row.key && one.since.getTime() === row.first_at.getTime());
    const snoozed = row.snoozed_until !== null && row.snoozed_until > filter.now;
    return {
      ...{ key: row.key, kind: row.kind, severity: row.severity, subject: row.subject },
      ...{ message: row.message, next: row.next },
      state: row.recovered_at !== null ? "ended" : row.over_since !== null ? "over" : "open",
      since: row.first_at.toISOString(),
      lastSeen: row.last_at.toISOString(),
      ...(row.recovered_at === null ? {} : { endedAt: row.recovered_at.toISOString() }),
      ...(snoozed ? { snoozedUntil: row.snoozed_until!.toISOString() } : {}),
      ...(snoozed && row.snooze_reason !== null ? { snoozeReason: row.snooze_reason } : {}),
      told: told.map(({ channel, what, state, created_at, settled_at, trouble }) => ({
        ...{ channel, what, state, at: (settled_at ?? created_at).toISOString() },
        ...(trouble === null ? {} : { trouble }),
      })),
    };
  });
}

/**
 * Says nothing about an alarm until then; what is still true then is told again. A time that has passed ends the
 * silence. Safe to repeat: the newest counts.
 * @throws SlipwayError `not-found` for a key that is not open
 */
export async function snoozeAlarm(
  db: Kysely<AlarmTables>,
  snooze: { readonly key: string; readonly until: Date; readonly reason: string },
): Promise<void> {
  const changed = await db
    .updateTable("alarms")
    .set({ snoozed_until: snooze.until, snooze_reason: snooze.reason })
    .where("key", "=", snooze.key)
    .where("recovered_at", "is", null)
    .executeTakeFirst();
  if (changed.numUpdatedRows > 0n) return;
  throw new SlipwayError("not-found", `no alarm is called ${snooze.key}, or it is over`, {
    subject: snooze.key,
    next: "slipway alarms list shows their keys.",
  });
}
