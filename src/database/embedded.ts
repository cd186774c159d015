import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmod,
  chown,
  lstat,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rename,
  rm,
  statfs,
  symlink,
  truncate,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import type { Log } from "../lib/call.ts";
import { SlipwayError } from "../lib/errors.ts";
import { MiB } from "../lib/units.ts";
import { findBinaries } from "./binaries.ts";
import { databaseError, isDisconnected } from "./errors.ts";
import { exclusively, isAlive, thisProcess } from "./processes.ts";
import { type ServerUser, SHARED_PLACE, serverUser, visibleTo } from "./server-user.ts";

export interface EmbeddedOptions {
  /** Made when missing. All processes that name it share one server. */
  readonly dataDir: string;
  readonly log: Log;
  /** False for tests: a crash of the machine (not of the server) may lose the database, and all is faster. */
  readonly durable?: boolean | undefined;
  /** Passed to the server as `-c`. */
  readonly settings?: readonly string[];
}

export interface EmbeddedServer {
  urlOf(database: string): string;
  /** Process number of the server. */
  readonly pid: number;
  /** Where the server runs; not below `dataDir` when that cannot be seen by the server's user. */
  readonly directory: string;
  /** Gives up this process's use; the last one stops the server. */
  release(): Promise<void>;
}

// A new cluster takes 40 MB, and its log another 16 MB per segment: below this it would fail half-way.
const FREE_BYTES_NEEDED = 128 * MiB;
// sun_path of sockaddr_un holds 107 characters and a NUL; the server's socket is called /.s.PGSQL.5432.
const LONGEST_SOCKET_DIRECTORY = 107 - "/.s.PGSQL.5432".length - 1;
// Names the socket's directory when it is not the one this note is in.
const ELSEWHERE = "elsewhere";
const START_TIMEOUT_MS = 60_000;
const LOCK_TIMEOUT_MS = 90_000;
const LOG_BYTES_KEPT = 8 * MiB;
const SUPERUSER = "slipway";

/**
 * Starts the data directory's PostgreSQL, or adopts the one that runs.
 *
 * The server is a daemon: it belongs to the directory, not to the process that started it, and lives on when that is
 * killed. It listens on a socket in a directory only its user can enter, and on no TCP port.
 * @throws SlipwayError `disk-full`, `forbidden`, `unsupported` (no binaries for this machine), `conflict` (directory of
 *   another PostgreSQL version), `unavailable` (does not start: its log is named)
 */
export async function startEmbedded(options: EmbeddedOptions): Promise<EmbeddedServer> {
  const { dataDir, log } = options;
  let me: string | undefined;
  try {
    const user = await serverUser();
    await mkdir(dataDir, { recursive: true });
    const directory = await serverDirectory(dataDir, user, log);
    me = join(directory, "users", userName());
    const mine = me;
    const server = await exclusively(join(directory, "locks"), LOCK_TIMEOUT_MS, async () => {
      await mkdir(join(directory, "users"), { recursive: true });
      await writeFile(mine, "");
      const found = await running(directory);
      return (found && (await adopt(directory, found.pid))) ?? start(directory, user, options);
    });
    return {
      ...server,
      directory,
      release: () => release(directory, mine, log),
    };
  } catch (error) {
    if (me) await rm(me, { force: true }).catch(() => {});
    throw embeddedError(error, dataDir);
  }
}

async function release(directory: string, me: string, log: Log): Promise<void> {
  try {
    await exclusively(join(directory, "locks"), LOCK_TIMEOUT_MS, () => leave(directory, me, log));
  } catch (error) {
    // No lock to be had, for instance on a full disk. To leave matters more than to leave in good order.
    log.debug("left the embedded database without the lock", { error: (error as Error).message });
    await leave(directory, me, log);
  }
}

async function leave(directory: string, me: string, log: Log): Promise<void> {
  await rm(me, { force: true });
  if ((await liveUsers(directory)) > 0) return;
  const found = await running(directory);
  if (!found) return;
  process.kill(found.pid, "SIGINT"); // PostgreSQL's "fast shutdown"
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (await running(directory)) {
    if (Date.now() > deadline) {
      log.warn("the embedded database takes long to stop and is left alone", { pid: found.pid });
      return;
    }
    await sleep(20);
  }
  const elsewhere = await readFile(join(directory, "run", ELSEWHERE), "utf8").catch(() => "");
  if (elsewhere) await rm(elsewhere, { recursive: true, force: true });
}

let uses = 0;

// One file per use: a process may open the same database twice.
function userName(): string {
  const { pid, started } = thisProcess();
  uses += 1;
  return `${pid}-${started}-${uses}`;
}

async function liveUsers(directory: string): Promise<number> {
  let live = 0;
  for (const name of await readdir(join(directory, "users"))) {
    const [pid, started] = name.split("-");
    if (isAlive({ pid: Number(pid), started: started ?? "" })) live += 1;
    else await rm(join(directory, "users", name), { force: true });
  }
  return live;
}

/** `postgres/` in the data directory, or a link of that name to a place the server's user can reach. */
async function serverDirectory(dataDir: string, user: ServerUser, log: Log): Promise<string> {
  const directory = join(dataDir, "postgres");
  if (await visibleTo(user, dataDir)) {
    await mkdir(directory, { recursive: true, mode: 0o755 });
    return directory;
  }
  const elsewhere = join(SHARED_PLACE, createHash("sha256").update(dataDir).digest("hex").slice(0, 16));
  await mkdir(elsewhere, { recursive: true, mode: 0o755 });
  if ((await lstat(directory).catch(() => undefined)) === undefined) {
    log.warn("the database is kept outside of the data directory", {
      dataDir,
      directory: elsewhere,
      why: "PostgreSQL does not run as root, and its user cannot enter the data directory",
    });
    await symlink(elsewhere, directory).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
    });
  }
  return elsewhere;
}

/** The server of this directory if it runs. A leftover postmaster.pid may name a process that is something else by now. */
async function running(directory: string): Promise<{ pid: number } | undefined> {
  const data = join(directory, "data");
  const text = await readFile(join(data, "postmaster.pid"), "utf8").catch(() => "");
  const pid = Number(text.split("\n")[0]);
  if (!pid || !isAlive({ pid, started: "" })) return undefined;
  const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => undefined);
  if (command !== undefined && !command.includes(data)) return undefined;
  return { pid };
}

async function start(directory: string, user: ServerUser, options: EmbeddedOptions): Promise<RunningServer> {
  const { log, durable = true } = options;
  const binaries = await findBinaries(user, user.other ? SHARED_PLACE : directory, log);
  const sockets = await socketDirectory(directory, user);
  const as = user.other ? { uid: user.uid, gid: user.gid } : {};
  // Nothing else of our environment: PG* variables would change what the server does.
  const env = { PATH: "/usr/bin:/bin", LC_ALL: "C.UTF-8", TZ: "UTC", TMPDIR: sockets };
  const data = join(directory, "data");

  const version = await readFile(join(data, "PG_VERSION"), "utf8").catch(() => undefined);
  if (version === undefined) await createCluster(data, user, binaries.initdb, { env, ...as }, durable);
  else if (Number(version) !== Number.parseInt(binaries.version, 10)) {
    throw new SlipwayError("conflict", `the data directory belongs to PostgreSQL ${version.trim()}`, {
      subject: data,
      next: "dump it with the Slipway that wrote it (slipway db dump) and restore it here",
    });
  }

  // Not there, or left over from a crash and naming a process that is not this server: see `running`.
  await rm(join(data, "postmaster.pid"), { force: true });
  const logFile = join(directory, "server.log");
  const output = await open(logFile, "a", 0o640);
  try {
    if ((await output.stat()).size > LOG_BYTES_KEPT) await truncate(logFile, 0);
    const settings = [
      "listen_addresses=",
      `unix_socket_directories=${sockets}`,
      "unix_socket_permissions=0700",
      "max_connections=200",
      ...(durable ? [] : ["fsync=off", "full_page_writes=off"]),
      ...(options.settings ?? []),
    ];
    const child = spawn(binaries.postgres, ["-D", data, "-p", "5432", ...settings.flatMap((text) => ["-c", text])], {
      detached: true, // a session of its own: Ctrl-C and a closed terminal are not for it
      stdio: ["ignore", output.fd, output.fd],
      env,
      ...as,
    });
    let failure: Error | undefined;
    child.on("error", (error) => {
      failure = error;
    });
    child.on("exit", (code, signal) => {
      failure ??= new Error(`it ended with ${signal ?? code}`);
    });
    child.unref();
    const deadline = Date.now() + START_TIMEOUT_MS;
    try {
      return await ready(directory, child.pid ?? 0, deadline, () => failure);
    } catch (error) {
      const tail = (await readFile(logFile, "utf8")).slice(-2000);
      throw Object.assign(error as Error, { serverLog: tail, logFile });
    }
  } finally {
    await output.close();
  }
}

/** @returns undefined when it was on its way out and is gone now */
async function adopt(directory: string, pid: number): Promise<RunningServer | undefined> {
  const stopped = () => (isAlive({ pid, started: "" }) ? undefined : new Error("it stopped"));
  try {
    return await ready(directory, pid, Date.now() + START_TIMEOUT_MS, stopped);
  } catch (error) {
    if (stopped()) return undefined;
    throw error;
  }
}

type RunningServer = Pick<EmbeddedServer, "pid" | "urlOf">;

/** Waits until the server takes connections. The fifth line of postmaster.pid says where its socket is. */
async function ready(
  directory: string,
  pid: number,
  deadline: number,
  failed: () => Error | undefined = () => undefined,
): Promise<RunningServer> {
  for (;;) {
    const failure = failed();
    if (failure) throw failure;
    const lines = (await readFile(join(directory, "data", "postmaster.pid"), "utf8").catch(() => "")).split("\n");
    const [sockets, status] = [lines[4], lines[7]?.trim()];
    if (Number(lines[0]) === pid && sockets && status === "ready") {
      const urlOf = (database: string) =>
        `postgresql://${SUPERUSER}@localhost/${encodeURIComponent(database)}?host=${encodeURIComponent(sockets)}`;
      if (await answers(urlOf("postgres"))) return { pid, urlOf };
    }
    if (Date.now() > deadline) throw new Error(`it is not ready after ${START_TIMEOUT_MS / 1000} s`);
    await sleep(20);
  }
}

async function answers(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5000 });
  client.on("error", () => {});
  try {
    await client.connect();
    return true;
  } catch (error) {
    if (isDisconnected(error)) return false;
    throw error;
  } finally {
    await client.end().catch(() => {});
  }
}

/** Made beside its place and moved there when complete, so that a kill in between leaves nothing half-made. */
async function createCluster(
  data: string,
  user: ServerUser,
  initdb: string,
  process_: { env: NodeJS.ProcessEnv; uid?: number; gid?: number },
  durable: boolean,
): Promise<void> {
  const part = `${data}.new`;
  await rm(part, { recursive: true, force: true });
  await mkdir(part, { recursive: true, mode: 0o700 });
  const { bavail, bsize } = await statfs(part);
  if (bavail * bsize < FREE_BYTES_NEEDED) {
    throw new SlipwayError("disk-full", "there is no room for a database", {
      subject: data,
      next: `free at least ${FREE_BYTES_NEEDED / MiB} MiB, or choose another data_dir`,
    });
  }
  if (user.other) await chown(part, user.uid, user.gid);
  const args = [
    `--pgdata=${part}`,
    `--username=${SUPERUSER}`,
    "--auth=trust", // whoever can enter the socket's directory is the user itself, or root
    "--locale=C.UTF-8",
    "--encoding=UTF8",
    ...(durable ? [] : ["--no-sync"]),
  ];
  await new Promise<void>((resolve, reject) => {
    let said = "";
    const child = spawn(initdb, args, { stdio: ["ignore", "ignore", "pipe"], ...process_ });
    child.stderr.on("data", (chunk: Buffer) => {
      said = (said + chunk.toString()).slice(-4000);
    });
    child.on("error", reject);
    child.on("close", (code) => {
      if (code === 0) resolve();
      else reject(Object.assign(new Error(`initdb ended with ${code}: ${said.trim()}`), { serverLog: said }));
    });
  });
  await rename(part, data);
}

/**
 * Inside the server's directory if its name is short enough for a socket's address, else a temporary one. The same one
 * at every start, so that those who are connected find the server again.
 */
async function socketDirectory(directory: string, user: ServerUser): Promise<string> {
  const inside = join(directory, "run");
  let sockets = inside;
  await mkdir(inside, { recursive: true });
  if (inside.length > LONGEST_SOCKET_DIRECTORY) {
    const note = join(inside, ELSEWHERE);
    const noted = await readFile(note, "utf8").catch(() => "");
    const there = await lstat(noted).catch(() => undefined);
    // Somebody else may have put theirs in its place meanwhile.
    const ours = there?.isDirectory() && there.uid === user.uid;
    sockets = ours ? noted : await mkdtemp(join(tmpdir(), "slipway-"));
    await writeFile(note, sockets);
  }
  await chmod(sockets, 0o700);
  if (user.other) await chown(sockets, user.uid, user.gid);
  return sockets;
}

function embeddedError(error: unknown, dataDir: string): SlipwayError {
  if (error instanceof SlipwayError) return error;
  const { code, serverLog = "", logFile } = error as { code?: string; serverLog?: string; logFile?: string };
  if (code === "ENOSPC" || /No space left on device|53100/i.test(serverLog)) {
    return new SlipwayError("disk-full", "the disk of the data directory is full", {
      subject: dataDir,
      next: "free space there, or choose another data_dir",
      cause: error,
    });
  }
  if (code === "EACCES" || code === "EPERM" || code === "EROFS") {
    return new SlipwayError("forbidden", `the data directory cannot be used: ${(error as Error).message}`, {
      subject: dataDir,
      next: "run as the user who owns it, or choose another data_dir",
      cause: error,
    });
  }
  const last = serverLog.trim().split("\n").slice(-3).join(" | ");
  const general = databaseError(error, dataDir);
  return new SlipwayError(
    general.code === "unknown" ? "unavailable" : general.code,
    `the embedded database does not start: ${error instanceof Error ? error.message : String(error)}${last && ` (${last})`}`,
    { subject: dataDir, next: logFile ? `read ${logFile}` : general.next, cause: error },
  );
}
