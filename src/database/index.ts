/**
 * PostgreSQL for all rooms: a configured server, or an embedded one in the data directory.
 *
 * Gives a pool, typed queries by kysely, migrations per room and LISTEN. Refuses to know any table but its own list of
 * applied migrations: each room brings its own.
 *
 * Start reading at open.ts; the embedded server is embedded.ts.
 */

export { databaseError, isDisconnected } from "./errors.ts";
export type { Listener } from "./listen.ts";
export { listen } from "./listen.ts";
export type { Migration } from "./migrate.ts";
export { migrate } from "./migrate.ts";
export type { Database, OpenDatabaseOptions } from "./open.ts";
export { openDatabase } from "./open.ts";
export { isAlive, type ProcessId, thisHost, thisProcess } from "./processes.ts";
