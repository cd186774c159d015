import { databaseError } from "../database/index.ts";
import type { Log } from "../lib/call.ts";
import { SlipwayError } from "../lib/errors.ts";
import { seconds } from "../lib/units.ts";

// Whoever cannot write tries again within a few seconds, and says so again.
const REMEMBERED_MS = seconds(20);

/**
 * Whether the database has room to write. A full disk stops every run where it is, without an error of its own: each
 * write is repeated until there is room. A service waits for that; a person is told.
 */
export class Room {
  readonly #log: Log;
  #noticed = Number.NEGATIVE_INFINITY;

  constructor(log: Log) {
    this.#log = log;
  }

  /** Takes any error of the database, or words about one. @returns true when it says that the disk is full */
  notice(problem: unknown): boolean {
    if (databaseError(problem).code !== "disk-full") return false;
    if (!this.isMissing()) this.#log.error("the database's disk is full: runs wait until there is room");
    this.#noticed = performance.now();
    return true;
  }

  isMissing(): boolean {
    return performance.now() - this.#noticed < REMEMBERED_MS;
  }

  error(): SlipwayError {
    return new SlipwayError("disk-full", "the database's disk is full", {
      next: "free space there and start the command again: it goes on where it stopped",
    });
  }
}
