/** What people read, in words. Pure; docs/alarms.md explains each kind. */
import { hours, minutes } from "../lib/units.ts";
import type { Notice } from "./alarm.ts";

/** A chat shows this much without folding it, and nobody reads more at night. */
const MOST_CHARACTERS = 500;

/**
 * Text from elsewhere on one line: no control characters, no line ends of any kind, nothing that turns the direction of
 * writing or cannot be seen. At most 500 characters.
 */
export function plain(text: string, most = MOST_CHARACTERS): string {
  const line = text
    // Half a surrogate pair is no character, and some readers fail on it.
    .toWellFormed()
    .replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, " ")
    .replace(/\p{Cf}/gu, "")
    .replace(/ {2,}/g, " ")
    .trim();
  const characters = [...line];
  return characters.length <= most ? line : `${characters.slice(0, most - 1).join("")}…`;
}

/** One line: what it is, since when or for how long. A mail's subject too. */
export function headline(notice: Notice): string {
  const { what, severity, message } = notice;
  const lasted = forPeople(Date.parse(notice.at) - Date.parse(notice.since));
  if (what === "recovered") return plain(`Slipway: over after ${lasted}: ${message}`);
  if (what === "reminded") return plain(`Slipway ${severity}, for ${lasted} now: ${message}`);
  return plain(`Slipway ${what === "test" ? "test" : severity}: ${message}`);
}

/** The line, and under it what to do; nothing is to be done about what is over. */
export function lines(notice: Notice): readonly string[] {
  if (notice.what === "recovered") return [headline(notice)];
  const next = plain(notice.next);
  const silence = `Silence: slipway alarms snooze ${notice.key} --for 2h --reason TEXT`;
  return [headline(notice), ...(next === "" ? [] : [`Next: ${next}`]), ...(notice.what === "test" ? [] : [silence])];
}

/** `25 min`, `3 h`, `2 d 4 h`: as exact as anybody wants to know it. Of milliseconds. */
export function forPeople(ms: number): string {
  if (ms < minutes(1)) return "less than a minute";
  if (ms < hours(2)) return `${Math.floor(ms / minutes(1))} min`;
  const all = Math.floor(ms / hours(1));
  if (all < 48) return `${all} h`;
  return all % 24 === 0 ? `${all / 24} d` : `${Math.floor(all / 24)} d ${all % 24} h`;
}

/** `2026-04-20 12:00 UTC` */
export function moment(at: Date): string {
  return `${at.toISOString().slice(0, 16).replace("T", " ")} UTC`;
}
