import { sql } from "kysely";
import { type Alarm, alarmKey } from "./alarm.ts";
import { moment, plain } from "./text.ts";
import { before, type World } from "./watch.ts";

/** There is a handful of reasons; each is one alarm. */
const MOST_REASONS = 20;

/** `quarantine`: something arrived within the time given (milliseconds) that nobody can read. One alarm a reason. */
export async function watchQuarantine({ db, now }: World, within: number): Promise<Alarm[]> {
  const rows = await db
    .selectFrom("quarantine")
    .select([
      "reason",
      sql<string>`count(*)`.as("count"),
      sql<Date>`max(last_at)`.as("last"),
      sql<string>`(array_agg(topic order by last_at desc))[1]`.as("topic"),
    ])
    .where("last_at", ">", before(now, within))
    .groupBy("reason")
    .orderBy("reason")
    .limit(MOST_REASONS)
    .execute();
  return rows.map(({ reason, count, last, topic }) => ({
    ...{ key: alarmKey("quarantine", reason), kind: "quarantine", severity: "warning", subject: reason },
    message: `${count} message(s) that cannot be read are in quarantine (${reason}), the last at ${moment(last)}, topic ${plain(topic, 100)}.`,
    next: "Nothing is done about them. See what they are, and tell who sends them: slipway events list --quarantined",
    expiresAt: new Date(last.getTime() + within),
  }));
}
