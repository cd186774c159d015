import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { silent } from "../../lib/call.ts";
import { type EmbeddedServer, startEmbedded } from "../embedded.ts";
import { connect, type Database } from "../open.ts";

export interface Template {
  /** Change it when `prepare` does something else: a template is made once per server and name. */
  readonly name: string;
  prepare(database: Database): Promise<void>;
}

let server: Promise<EmbeddedServer> | undefined;

/**
 * A database of its own for a test, on a server that all test processes of this user share. `close()` drops it.
 *
 * The first call on a machine starts the server (about a second); every other takes some tens of milliseconds. The
 * server stops by itself a few seconds after the last test process ended, however that ended.
 */
export async function testDatabase(template?: Template): Promise<Database> {
  server ??= sharedServer();
  const { urlOf } = await server;
  const from = template ? await preparedTemplate(urlOf, template) : "template1";
  const name = `test_${process.pid}_${randomBytes(4).toString("hex")}`;
  await admin(urlOf, async (client) => {
    await client.query(`CREATE DATABASE ${name} TEMPLATE ${from}`);
  });
  return connect(urlOf(name), silent, async () => {
    await admin(urlOf, async (client) => {
      await client.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
    });
  });
}

async function sharedServer(): Promise<EmbeddedServer> {
  const dataDir = join(tmpdir(), `slipway-test-postgres-${userInfo().uid}`);
  const started = await startEmbedded({ dataDir, log: silent, durable: false, settings: ["max_connections=300"] });
  stopLater(started);
  return started;
}

// Looks every few seconds whether a process that uses the server is alive; the server's own last-out rule needs each
// process to say good-bye, which a killed test process does not. One watcher per test process, gone with the server.
const WATCHER = `
  while kill -0 "$1" 2>/dev/null; do
    sleep 5
    used=
    for file in "$2"/users/*; do
      name=\${file##*/}
      kill -0 "\${name%%-*}" 2>/dev/null && used=1 && break
    done
    [ -n "$used" ] || kill -INT "$1"
    kill -0 "$3" 2>/dev/null || [ -n "$used" ] || exit 0
  done`;

function stopLater({ pid, directory }: EmbeddedServer): void {
  const watcher = spawn("/bin/sh", ["-c", WATCHER, "sh", String(pid), directory, String(process.pid)], {
    detached: true,
    stdio: "ignore",
  });
  watcher.on("error", () => {});
  watcher.unref();
}

async function preparedTemplate(urlOf: (database: string) => string, template: Template): Promise<string> {
  const name = `template_${template.name.replaceAll(/[^a-z0-9]/g, "_")}`;
  await admin(urlOf, async (client) => {
    await client.query("SELECT pg_advisory_lock(hashtextextended($1, 0))", [name]);
    const { rowCount } = await client.query("SELECT 1 FROM pg_database WHERE datname = $1", [name]);
    if (rowCount) return;
    const part = `${name}_part`;
    await client.query(`DROP DATABASE IF EXISTS ${part} WITH (FORCE)`);
    await client.query(`CREATE DATABASE ${part}`);
    const database = await connect(urlOf(part), silent);
    try {
      await template.prepare(database);
    } finally {
      await database.close();
    }
    await client.query(`ALTER DATABASE ${part} RENAME TO ${name}`);
  });
  return name;
}

async function admin<T>(urlOf: (database: string) => string, action: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: urlOf("postgres") });
  client.on("error", () => {});
  await client.connect();
  try {
    return await action(client);
  } finally {
    await client.end();
  }
}
