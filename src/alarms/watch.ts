import type { Kysely } from "kysely";
import type { Engine } from "../durable/types.ts";
import { codeOf } from "../lib/errors.ts";
import type { AlarmTables } from "./schema.ts";

/** What is looked at. Each watch is a function over it that returns the alarms that are true now, and changes nothing. */
export interface World {
  readonly db: Kysely<AlarmTables>;
  readonly runs: Runs;
  readonly now: Date;
}

export type Runs = Pick<Engine<never>, "list" | "status" | "result">;

/** Stored in every run, so it does not change. */
export const RELEASE_WORKFLOW = "release-compose";

export function before(now: Date, ms: number): Date {
  return new Date(now.getTime() - ms);
}

/** For `catch`: a run that was forgotten says nothing, and is no error. */
export function unlessMissing(error: unknown): undefined {
  if (codeOf(error) === "not-found") return undefined;
  throw error;
}
