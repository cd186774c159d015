import type { EventEmitter } from "node:events";
import { Kysely, PostgresDialect } from "kysely";
import pg from "pg";
import type { Log } from "../lib/call.ts";
import { SlipwayError } from "../lib/errors.ts";
import { type EmbeddedServer, startEmbedded } from "./embedded.ts";
import { databaseError } from "./errors.ts";
import { type Listener, listen } from "./listen.ts";
import { type Migration, migrate } from "./migrate.ts";
import { isAlive } from "./processes.ts";

export interface OpenDatabaseOptions {
  /** postgres:// of a server; the embedded one when absent. */
  readonly url?: string | undefined;
  /** Absolute. The embedded server lives in `postgres/` below it. */
  readonly dataDir: string;
  readonly log: Log;
  /** False for tests: the embedded server does not wait for the disk. */
  readonly durable?: boolean;
}

export interface Database {
  /** Holds a password when a server was configured with one: never log it. */
  readonly url: string;
  readonly pool: pg.Pool;
  /** Typed queries on the pool; `Tables` is the caller's view of its own tables. Not to be destroyed. */
  kysely<Tables>(): Kysely<Tables>;
  /**
   * Applies what a room's list has and the database has not yet, in order; safe from several processes at once.
   * @throws SlipwayError `conflict` when a newer Slipway migrated it
   */
  migrate(room: string, migrations: readonly Migration[]): Promise<void>;
  /** Calls back for every NOTIFY on the channel; reconnects by itself, and then calls back with "" once. */
  listen(channel: string, onNotify: (payload: string) => void): Promise<Listener>;
  /**
   * A pool of its own with the same target, for a library that wants to own one or for queries that must not wait
   * behind others. The caller ends it. With `timeoutMs`, connecting and every query fail after it.
   */
  newPool(max: number, timeoutMs?: number): pg.Pool;
  /** Why the embedded server is down and does not start again, while that is so: `disk-full` most often. */
  trouble(): SlipwayError | undefined;
  /** Ends the pool; stops the embedded server when no other process uses it. Repeatable. */
  close(): Promise<void>;
}

const DATABASE = "slipway";
const POOL_CONNECTIONS = 10;
const CONNECT_TIMEOUT_MS = 10_000;
const LOOK_MS = 1000;
/**
 * A process that stands still in the middle of a transaction (stopped, its machine paused) keeps its locks, and nobody
 * could take over what it was doing. Our transactions hold nothing but statements, one right after the other.
 */
const IDLE_IN_TRANSACTION_MS = 10_000;

/**
 * Opens the configured server, or starts or adopts the embedded one.
 * @throws SlipwayError `invalid` (not a postgres:// URL), `unauthenticated`, `not-found` (no such database),
 *   `unavailable`, `disk-full`, and what `startEmbedded` names
 */
export async function openDatabase(options: OpenDatabaseOptions): Promise<Database> {
  if (options.url !== undefined) return connect(checkedUrl(options.url), options.log);
  const server = keptUp(await startEmbedded(options), options);
  try {
    const url = server.urlOf(DATABASE);
    await createDatabase(server.urlOf("postgres"), DATABASE);
    return await connect(url, options.log, server.release, server.trouble);
  } catch (error) {
    await server.release();
    throw error;
  }
}

interface KeptUp {
  urlOf(database: string): string;
  trouble(): SlipwayError | undefined;
  release(): Promise<void>;
}

/** Starts the embedded server again when it died under us: killed, or out of disk. Its clients reconnect by themselves. */
function keptUp(first: EmbeddedServer, options: OpenDatabaseOptions): KeptUp {
  const { log } = options;
  let server = first;
  let trouble: SlipwayError | undefined;
  let looking: Promise<void> = Promise.resolve();

  async function look(): Promise<void> {
    if (isAlive({ pid: server.pid, started: "" })) return;
    log.warn("the embedded database is gone and is started again", { pid: server.pid });
    try {
      const before = server;
      server = await startEmbedded(options);
      trouble = undefined;
      await before.release(); // gives up its use only, for now there is another
    } catch (error) {
      const now = databaseError(error);
      if (now.message !== trouble?.message) log.error("the embedded database does not start", { error: now.message });
      trouble = now;
    }
  }

  let timer: NodeJS.Timeout;
  function later(): void {
    timer = setTimeout(() => {
      looking = look().finally(later);
    }, LOOK_MS).unref();
  }
  later();
  return {
    urlOf: first.urlOf,
    trouble: () => trouble,
    async release() {
      await looking;
      clearTimeout(timer);
      await server.release();
    },
  };
}

/**
 * A server that is killed in the middle of a write leaves "write EPIPE", which libraries that try again after a lost
 * connection do not know for one: DBOS ended runs with it. The words are those that all of them know.
 */
function sayItIsGone(client: pg.PoolClient): void {
  const { stream } = (client as unknown as { connection: { stream: EventEmitter } }).connection;
  stream.prependListener("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") error.message = `the server closed the connection unexpectedly (${error.message})`;
  });
}

/** Connects to a server that runs. `release` is called once, after the last connection was ended. */
export async function connect(
  url: string,
  log: Log,
  release: () => Promise<void> = async () => {},
  trouble: () => SlipwayError | undefined = () => undefined,
): Promise<Database> {
  const config: pg.ClientConfig = { connectionString: url, connectionTimeoutMillis: CONNECT_TIMEOUT_MS };
  function newPool(max: number, timeoutMs?: number): pg.Pool {
    const limits = timeoutMs === undefined ? {} : { query_timeout: timeoutMs, connectionTimeoutMillis: timeoutMs };
    const idle = Math.min(IDLE_IN_TRANSACTION_MS, timeoutMs ?? IDLE_IN_TRANSACTION_MS);
    const pool = new pg.Pool({ ...config, ...limits, max, idle_in_transaction_session_timeout: idle });
    // The pool listens to those that are idle only. One that is ended while it is used tells its next query.
    pool.on("connect", (client) => {
      client.on("error", () => {});
      sayItIsGone(client);
    });
    // Idle connections break when the server restarts. Without a listener that would end the process.
    pool.on("error", (error) => log.warn("lost a connection to the database", { error: error.message }));
    return pool;
  }
  const pool = newPool(POOL_CONNECTIONS);
  try {
    await pool.query("SELECT 1");
  } catch (error) {
    await pool.end();
    throw databaseError(error, shown(url));
  }
  const kysely = new Kysely<never>({ dialect: new PostgresDialect({ pool }) });
  let closing: Promise<void> | undefined;
  return {
    url,
    pool,
    kysely: <Tables>() => kysely as unknown as Kysely<Tables>,
    migrate: async (room, migrations) => {
      await migrate(pool, room, migrations).catch((error) => {
        throw databaseError(error, `tables of ${room}`);
      });
    },
    listen: (channel, onNotify) => listen(config, channel, onNotify, log),
    newPool,
    trouble,
    close() {
      closing ??= pool.end().then(release);
      return closing;
    },
  };
}

function checkedUrl(text: string): string {
  let url: URL | undefined;
  try {
    url = new URL(text);
  } catch {
    // Said below: the text may hold a password and is not repeated.
  }
  if (url === undefined || !/^postgres(ql)?:$/.test(url.protocol) || url.pathname.length < 2) {
    throw new SlipwayError("invalid", "this is not the URL of a PostgreSQL database", {
      subject: "database.url",
      next: "write it as postgresql://user@host:5432/database",
    });
  }
  return text;
}

/** The URL without its password, for messages. */
function shown(text: string): string {
  const url = new URL(text);
  return `${url.username ? `${url.username}@` : ""}${url.searchParams.get("host") ?? url.host}${url.pathname}`;
}

async function createDatabase(adminUrl: string, name: string): Promise<void> {
  const client = new pg.Client({ connectionString: adminUrl, connectionTimeoutMillis: CONNECT_TIMEOUT_MS });
  client.on("error", () => {});
  try {
    await client.connect();
    const { rowCount } = await client.query("SELECT 1 FROM pg_database WHERE datname = $1", [name]);
    if (rowCount === 0) await client.query(`CREATE DATABASE ${pg.escapeIdentifier(name)}`);
  } catch (error) {
    // 42P04, 23505: another process was faster.
    const { code } = error as { code?: string };
    if (code !== "42P04" && code !== "23505") throw databaseError(error, name);
  } finally {
    await client.end().catch(() => {});
  }
}
