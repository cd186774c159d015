/** Alarms: what is wrong, silence for a while, and whether a channel works. */
import {
  forPeople,
  type KeptAlarm,
  lastLook,
  listAlarms as listKept,
  snoozeAlarm as snoozeKept,
  testNotice,
} from "../../alarms/index.ts";
import { SlipwayError } from "../../lib/errors.ts";
import { hours, minutes } from "../../lib/units.ts";
import { EXIT, harmless, type Paint } from "../output.ts";
import type { Session } from "../session.ts";

/** A service looks every minute; a round that sends to channels that are away takes a few. */
const LATE_MS = minutes(10);
const MOST_LISTED = 1000;

export async function listAlarms(session: Session, options: { ended?: boolean; limit: string }): Promise<number> {
  const { db } = await session.alarms();
  const limit = Number(options.limit);
  if (!Number.isInteger(limit) || limit < 1) {
    throw new SlipwayError("invalid", "--limit is no number of lines", { subject: options.limit });
  }
  const now = new Date();
  const [alarms, looked] = await Promise.all([
    listKept(db, { ended: options.ended, limit: Math.min(limit, MOST_LISTED), now }),
    lastLook(db),
  ]);
  const stale = looked === undefined || now.getTime() - looked.getTime() > LATE_MS;
  session.output.data({ lookedAt: looked?.toISOString() ?? null, stale, alarms }, (paint) => {
    const said = alarms.map((alarm) => describe(alarm, now, paint));
    if (alarms.length === 0 && !stale) said.push(paint.good("Nothing is wrong."));
    if (stale) {
      const since = looked === undefined ? "Nobody has ever looked" : `Nobody has looked since ${looked.toISOString()}`;
      said.push(paint.warn(`${since}: alarms are watched by "slipway serve".`));
    }
    return said.join("\n\n");
  });
  return EXIT.done;
}

/** A sentence does not fit into a table's cell; at night it is read whole. */
function describe(alarm: KeptAlarm, now: Date, paint: Paint): string {
  const { key, severity, message, next, since, state, endedAt, snoozedUntil, snoozeReason } = alarm;
  const until = endedAt === undefined ? now.getTime() : Date.parse(endedAt);
  const mark =
    state === "ended" ? paint.dim("ended") : severity === "error" ? paint.bad("error") : paint.warn("warning");
  const lasted = forPeople(until - Date.parse(since));
  const silence =
    snoozedUntil === undefined
      ? undefined
      : `until ${short(snoozedUntil)}: ${harmless(snoozeReason ?? "no reason given")}`;
  const rows: [name: string, value: string | undefined][] = [
    ["since", `${short(since)}, for ${lasted}${state === "ended" ? "" : " now"}`],
    ["state", state === "over" ? "not true any more; told when it stays so" : undefined],
    ["told", toldWords(alarm, paint)],
    ["silent", silence === undefined ? undefined : paint.warn(silence)],
    ["next", state === "ended" ? undefined : harmless(next)],
  ];
  const facts = rows.flatMap(([name, value]) =>
    value === undefined ? [] : [`  ${paint.dim(name.padEnd(6))} ${value}`],
  );
  return [`${mark} ${paint.bold(harmless(key))}  ${harmless(message)}`, ...facts].join("\n");
}

function toldWords({ told }: KeptAlarm, paint: Paint): string {
  if (told.length === 0) return "nobody";
  return told
    .map(({ channel, what, state, at, trouble }) => {
      const word = what === "raised" ? "" : ` (${what})`;
      if (state === "sent") return `${channel}${word} at ${short(at)}`;
      const why = trouble === undefined ? "" : `: ${harmless(trouble)}`;
      return paint.bad(`${channel}${word} ${state === "waiting" ? "not yet" : "given up"}${why}`);
    })
    .join(", ");
}

export async function snoozeAlarm(
  session: Session,
  key: string,
  options: { for: string; reason: string },
): Promise<number> {
  const { db } = await session.alarms();
  const ms = durationOf(options.for);
  const until = new Date(Date.now() + ms);
  await snoozeKept(db, { key, until, reason: options.reason });
  session.output.data({ key, until: until.toISOString(), reason: options.reason }, () =>
    ms === 0
      ? `${key} speaks again.`
      : `${key} is silent until ${short(until.toISOString())}; it is told again then if it is still true.`,
  );
  return EXIT.done;
}

/** Sends at once, not by the journal, so that the error is seen here. */
export async function testChannel(session: Session, name: string): Promise<number> {
  const { channels } = await session.alarms();
  const channel = channels.find((one) => one.name === name);
  if (channel === undefined) {
    const names = channels.map((one) => one.name).join(", ");
    throw new SlipwayError("not-found", `there is no channel ${name}`, {
      next: names === "" ? "notifications.channels in the configuration is empty." : `There are ${names}.`,
    });
  }
  const notice = testNotice(name, new Date());
  await channel.send(notice, session.call);
  const where = channel.kind === "bus" ? "The message is in the outbox: slipway events list --sent" : "Sent";
  session.output.data({ channel: name, kind: channel.kind, id: notice.id }, () => `${where}. Its id is ${notice.id}.`);
  return EXIT.done;
}

function durationOf(said: string): number {
  const parts = /^(\d{1,5})(m|h|d)$/.exec(said);
  if (parts === null) {
    throw new SlipwayError("invalid", `"${said}" is no length of time`, {
      subject: "--for",
      next: "Write 30m, 2h or 3d.",
    });
  }
  return Number(parts[1]) * { m: minutes(1), h: hours(1), d: hours(24) }[parts[2] as "m" | "h" | "d"];
}

function short(iso: string): string {
  return iso.slice(0, 16).replace("T", " ");
}
