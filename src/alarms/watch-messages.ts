import { sql } from "kysely";
import { type Alarm, alarmKey } from "./alarm.ts";
import { ALARM_TOPIC } from "./channels/bus.ts";
import { forPeople, plain } from "./text.ts";
import { before, type World } from "./watch.ts";

/** An alarm about an alarm's own message would go on for ever. */
const OURS = `${ALARM_TOPIC}.%`;
/** What is refused this often is no weather. */
const MANY_ATTEMPTS = 3;
/** What became of a message for good is news for so long: milliseconds of a day. */
const NEWS_MS = 24 * 3_600_000;

/**
 * `undelivered`: messages that will never be sent, that reached nobody (both of the last day), or that the broker refuses
 * again and again for longer than `after` milliseconds.
 */
export async function watchMessages({ db, now }: World, after: number): Promise<Alarm[]> {
  const since = before(now, NEWS_MS);
  const troubled = await db
    .selectFrom("outbox")
    .select([
      "state",
      sql<string>`count(*)`.as("count"),
      sql<Date>`max(created_at)`.as("last"),
      sql<string | null>`(array_agg(trouble order by created_at desc))[1]`.as("trouble"),
    ])
    .where("state", "in", ["invalid", "delivered-with-warning"])
    .where("created_at", ">", since)
    .where("topic", "not like", OURS)
    .groupBy("state")
    .orderBy("state")
    .execute();
  const alarms = troubled.map(({ state, count, last, trouble }): Alarm => {
    const invalid = state === "invalid";
    return {
      ...{ key: alarmKey("undelivered", invalid ? "invalid" : "unroutable"), kind: "undelivered" },
      severity: invalid ? "error" : "warning",
      subject: invalid ? "invalid" : "unroutable",
      message: `${count} message(s) ${invalid ? "are not as their readers want them and will never be sent" : "were delivered to nobody"}: ${said(trouble)}.`,
      next: invalid
        ? "This is a mistake of Slipway or of bus.published_topic: slipway events list --sent, and report it. What it tells of is done."
        : "Whoever wants them must bind a queue to their topic: slipway events list --sent",
      expiresAt: new Date(last.getTime() + NEWS_MS),
    };
  });
  const refused = await db
    .selectFrom("outbox")
    .select([
      sql<string>`count(*)`.as("count"),
      sql<Date | null>`min(created_at)`.as("oldest"),
      sql<string | null>`(array_agg(trouble order by created_at))[1]`.as("trouble"),
    ])
    .where("state", "=", "waiting")
    .where("attempts", ">=", MANY_ATTEMPTS)
    .where("created_at", "<=", before(now, after))
    .executeTakeFirstOrThrow();
  if (refused.oldest === null) return alarms;
  return [
    ...alarms,
    {
      ...{ key: alarmKey("undelivered", "refused"), kind: "undelivered", severity: "error", subject: "refused" },
      message: `${refused.count} message(s) are refused again and again, the oldest for ${forPeople(now.getTime() - refused.oldest.getTime())}: ${said(refused.trouble)}.`,
      next: "They are kept and tried again. See which: slipway events list --sent. A topic may need a permission at the broker.",
    },
  ];
}

function said(trouble: string | null): string {
  return plain(trouble ?? "no reason was given", 200);
}
