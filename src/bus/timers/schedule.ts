/**
 * When a timer fires: a cron expression in a time zone. Pure; the moments that come out are the same for everybody who
 * asks, which is what a firing's id is made of.
 *
 * Five fields, minutes the smallest. Where clocks change, a time given in numbers (`30 2 * * *`, `0 2,14 * * *`) fires
 * once that day: at the first moment after a gap that swallowed it, and at the first of two that are called the same. One
 * with a `*` or a step in minutes or hours goes by what has really passed: in the hour that comes twice it fires in both.
 */
import { Cron } from "croner";
import { SlipwayError } from "../../lib/errors.ts";
import { minutes } from "../../lib/units.ts";

export interface Schedule {
  /** The first firing later than `after`, to the minute; undefined if there is none any more. */
  next(after: Date): Date | undefined;
}

/** Four years hold a 29 February; one of a century's end may take eight. Nothing fires for the first time later. */
const SOME_TIME = new Date("2026-01-01T00:00:00Z");
const NICKNAME = /^@(hourly|daily|midnight|weekly|monthly|yearly|annually)$/i;

/** @throws SlipwayError `invalid`, saying what `scheduleProblem` says */
export function parseSchedule(cron: string, zone: string): Schedule {
  const problem = scheduleProblem(cron, zone);
  if (problem !== undefined) throw new SlipwayError("invalid", problem, { subject: cron.slice(0, 100) });
  return scheduleOf(cron, zone);
}

/** What is wrong with an expression or a time zone, in a sentence; undefined if nothing is. */
export function scheduleProblem(cron: string, zone: string): string | undefined {
  if (!isZone(zone)) return `There is no time zone "${zone.slice(0, 50)}": write one like Europe/Prague, or UTC.`;
  const text = cron.trim();
  // croner takes dates too, and a question mark for the moment it is asked in: other services would get other moments.
  if (!NICKNAME.test(text) && (text.split(/\s+/).length !== 5 || /[?:]/.test(text))) {
    return "A schedule has five fields, minute, hour, day, month and weekday (0 3 * * *), or is a name like @daily.";
  }
  try {
    const never = scheduleOf(cron, zone).next(SOME_TIME) === undefined;
    return never ? "A schedule that never fires: there is no such day." : undefined;
  } catch (error) {
    return `No schedule: ${error instanceof Error ? error.message.replace(/^CronPattern: /, "") : "unknown"}`;
  }
}

/**
 * The latest firing in `after` < firing ≤ `until`: of all that were missed, the one that still says something.
 *
 * Looks back twice as far each time: every minute of a week costs no more than every week of a year.
 */
export function latestFiring(schedule: Schedule, after: Date, until: Date): Date | undefined {
  const first = schedule.next(after);
  // Mostly nothing is due, and one question tells.
  if (first === undefined || first > until) return undefined;
  for (let back = minutes(1); ; back *= 2) {
    const from = new Date(Math.max(after.getTime(), until.getTime() - back));
    let latest: Date | undefined;
    for (let at = schedule.next(from); at !== undefined && at <= until; at = schedule.next(at)) latest = at;
    if (latest !== undefined) return latest;
  }
}

function scheduleOf(cron: string, zone: string): Schedule {
  const job = new Cron(cron.trim(), { timezone: zone, mode: "5-part", fixedTimeRule: "no-wildcard" });
  return { next: (after) => job.nextRun(after) ?? undefined };
}

/** Names only: an offset such as +02:00 is no zone, it knows nothing of summer. */
function isZone(zone: string): boolean {
  if (!/^[a-z]/i.test(zone)) return false;
  try {
    new Intl.DateTimeFormat("en", { timeZone: zone });
    return true;
  } catch {
    return false;
  }
}
