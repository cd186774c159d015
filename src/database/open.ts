import type { Kysely } from "kysely";
import type pg from "pg";
import type { Log } from "../lib/call.ts";
import { SlipwayError } from "../lib/errors.ts";
import type { Listener } from "./listen.ts";
import type { Migration } from "./migrate.ts";

export interface OpenDatabaseOptions {
  /** postgres:// of a server; the embedded one when absent. */
  readonly url?: string;
  /** Absolute. The embedded server lives in `postgres/` below it. */
  readonly dataDir: string;
  readonly log: Log;
}

export interface Database {
  /** Holds a password when a server was configured with one: never log it. */
  readonly url: string;
  readonly pool: pg.Pool;
  /** Typed queries on the pool; `Tables` is the caller's view of its own tables. */
  kysely<Tables>(): Kysely<Tables>;
  /** Applies what a room's list has and the database has not yet, in order; safe from several processes at once. */
  migrate(room: string, migrations: readonly Migration[]): Promise<void>;
  /** Calls back for every NOTIFY on the channel; reconnects by itself, and then calls back with "" once. */
  listen(channel: string, onNotify: (payload: string) => void): Promise<Listener>;
  /** A pool of its own with the same target, for a library that wants to own one. The caller ends it. */
  newPool(max: number): pg.Pool;
  /** Ends the pool; stops the embedded server when no other process uses it. */
  close(): Promise<void>;
}

export async function openDatabase(options: OpenDatabaseOptions): Promise<Database> {
  throw new SlipwayError("unsupported", "the database cannot be opened yet", { subject: options.dataDir });
}
