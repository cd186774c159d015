/**
 * Alarms: what should make somebody look, as data. This room finds what is wrong now (`watch-*.ts`), remembers what was
 * told about it (`keep.ts`) and tells people (`send.ts`, `channels/`). It changes nothing it looks at, and refuses to
 * know the configuration's form and how a release is done. Start reading at `keep.ts`, then `loop.ts`.
 */

// Terminology. alarm: a thing that is wrong now · kind: which watch found it · notice: one word to one channel about it ·
// channel: a way to people · settle time: how long it must have been over before that is believed.

export const ALARM_KINDS = [
  "compose-missing", // nothing arrived for a system within the time it is expected in
  "queue-age", // something waits longer than it should
  "quarantine", // something arrived that nobody can read
  "undelivered", // a message of ours reached nobody, or never will
  "rule-failing", // what a rule does failed several times in a row
  "credentials", // a certificate ends soon, has ended, or cannot be read
  "broker", // there is no connection
  "run-failed", // a release ended with targets that have nothing, or not everything
] as const;

export type AlarmKind = (typeof ALARM_KINDS)[number];

export interface Alarm {
  /** The same as long as it is the same thing; starts with the kind. People type it: `queue-age:events`. */
  readonly key: string;
  readonly kind: AlarmKind;
  readonly severity: "warning" | "error";
  /** What it is about: a system, a queue, a rule, a file, a run. */
  readonly subject: string;
  /** One sentence for people. May hold text from elsewhere: `plain` it before it is shown. */
  readonly message: string;
  /** What the reader can do; the command if there is one. */
  readonly next: string;
  /**
   * Of something that happened, and that nobody can make unhappen: from then on it is no longer news and ends without a
   * word. Absent for what is over when it is mended.
   */
  readonly expiresAt?: Date;
}

export type NoticeWhat = "raised" | "reminded" | "recovered" | "test";

/** One word about an alarm, as it is kept and sent. Plain JSON. */
export interface Notice {
  /** Derived, a UUID: the same notice has the same one however often it is sent. */
  readonly id: string;
  readonly what: NoticeWhat;
  readonly key: string;
  readonly kind: AlarmKind | "test";
  readonly severity: Alarm["severity"];
  readonly subject: string;
  readonly message: string;
  readonly next: string;
  /** When the alarm became true, and when this was written: ISO 8601, UTC. */
  readonly since: string;
  readonly at: string;
}

/** As long as a key may be; ids of composes and runs go into it. */
const MOST_KEY = 200;

/** A key of harmless characters: it is typed, and it stands in a table. */
export function alarmKey(kind: AlarmKind, ...parts: readonly string[]): string {
  return [kind, ...parts.map((part) => part.replace(/[^A-Za-z0-9._@+-]/g, "-"))].join(":").slice(0, MOST_KEY);
}
