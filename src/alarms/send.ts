/** Brings notices to their channels: at least once, under one id, in the order they were written for each alarm. */
import { type Kysely, sql } from "kysely";
import type { CallContext } from "../lib/call.ts";
import { reportOf } from "../lib/errors.ts";
import { hours, minutes, seconds } from "../lib/units.ts";
import type { Notice } from "./alarm.ts";
import type { Channel } from "./channels/channel.ts";
import type { AlarmTables } from "./schema.ts";
import { plain } from "./text.ts";

/** Whoever took a notice and did not say what became of it within this time has died. Longer than any channel takes. */
const CLAIM_MS = minutes(2);
const FIRST_AGAIN_MS = seconds(30);
const MOST_AGAIN_MS = hours(1);
/** A word about yesterday's trouble helps nobody. */
const GIVE_UP_MS = hours(24);
const AT_ONCE = 20;

interface Claimed {
  readonly id: string;
  readonly channel: string;
  readonly notice: Notice;
  readonly attempts: number;
  readonly created_at: Date;
}

/**
 * Sends what is due, once each, and notes what became of it. Safe to repeat and side by side. What cannot be sent is
 * tried again after half a minute, then twice as long each time up to an hour, and given up after a day.
 * @returns how many were tried
 * @throws what the database throws; a channel's errors are noted, not thrown
 */
export async function sendNotices(
  db: Kysely<AlarmTables>,
  channels: readonly Channel[],
  call: CallContext,
  now: Date,
): Promise<number> {
  const claimed = await claim(db, now);
  await Promise.all(claimed.map((one) => sendOne(db, channels, one, call, now)));
  return claimed.length;
}

/** Until its beginning has arrived (or was given up), an alarm's end is not told on that channel. */
async function claim(db: Kysely<AlarmTables>, now: Date): Promise<readonly Claimed[]> {
  return db
    .updateTable("alarm_notices")
    .set({ attempts: sql`attempts + 1`, next_at: new Date(now.getTime() + CLAIM_MS) })
    .where("id", "in", (from) =>
      from
        .selectFrom("alarm_notices as waiting")
        .select("waiting.id")
        .where("waiting.state", "=", "waiting")
        .where("waiting.next_at", "<=", now)
        .where((where) =>
          where.not(
            where.exists(
              where
                .selectFrom("alarm_notices as earlier")
                .select("earlier.id")
                .where("earlier.state", "=", "waiting")
                .whereRef("earlier.alarm_key", "=", "waiting.alarm_key")
                .whereRef("earlier.channel", "=", "waiting.channel")
                .whereRef("earlier.sequence", "<", "waiting.sequence"),
            ),
          ),
        )
        .orderBy("waiting.sequence")
        .limit(AT_ONCE)
        .forUpdate()
        .skipLocked(),
    )
    .returning(["id", "channel", "notice", "attempts", "created_at"])
    .execute();
}

async function sendOne(
  db: Kysely<AlarmTables>,
  channels: readonly Channel[],
  { id, channel: name, notice, attempts, created_at }: Claimed,
  { signal, log }: CallContext,
  now: Date,
): Promise<void> {
  const channel = channels.find((one) => one.name === name);
  if (channel === undefined) {
    await settle({ state: "given-up", trouble: "the configuration has no such channel any more", settled_at: now });
    return;
  }
  try {
    await channel.send(notice, { signal, log });
    await settle({ state: "sent", trouble: null, settled_at: now });
  } catch (error) {
    // Stopped by us: whoever comes next sends it when the claim has ended.
    if (signal.aborted) return;
    const { code, message } = reportOf(error);
    const trouble = plain(`${code}: ${message}`);
    if (now.getTime() - created_at.getTime() >= GIVE_UP_MS) {
      log.error("a notification is given up", {
        channel: name,
        alarm: notice.key,
        what: notice.what,
        attempts,
        trouble,
      });
      await settle({ state: "given-up", trouble, settled_at: now });
      return;
    }
    const wait = Math.min(MOST_AGAIN_MS, FIRST_AGAIN_MS * 2 ** Math.min(20, attempts - 1));
    log.warn("a notification cannot be sent for now", { channel: name, alarm: notice.key, attempts, trouble });
    await settle({ trouble, next_at: new Date(now.getTime() + wait) });
  }

  async function settle(set: {
    state?: "sent" | "given-up";
    trouble: string | null;
    next_at?: Date;
    settled_at?: Date;
  }): Promise<void> {
    await db.updateTable("alarm_notices").set(set).where("id", "=", id).where("state", "=", "waiting").execute();
  }
}
