import { execFile } from "node:child_process";
import { readFile, realpath, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { promisify } from "node:util";
import { SlipwayError } from "../lib/errors.ts";

/** Whom the embedded server runs as. PostgreSQL refuses to run as root; anybody else runs it as themselves. */
export interface ServerUser {
  readonly uid: number;
  readonly gid: number;
  /** True when we are root and it is somebody else: files must be handed over, and paths must be visible. */
  readonly other: boolean;
}

/** Where root keeps what the server's user must reach and cannot reach at its own place. Ends with the machine's user. */
export const SHARED_PLACE = "/var/lib/slipway";

const run = promisify(execFile);

/**
 * The current user, or for root the system's user `postgres`, made when missing.
 * @throws SlipwayError `forbidden` when that user cannot be made
 */
export async function serverUser(): Promise<ServerUser> {
  const uid = process.getuid?.() ?? -1;
  const gid = process.getgid?.() ?? -1;
  if (uid !== 0) return { uid, gid, other: false };

  const found = await findUser("postgres");
  if (found) return { ...found, other: true };
  const attempts = [
    ["useradd", ["--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", "postgres"]],
    ["adduser", ["-S", "-D", "-H", "postgres"]], // busybox
  ] as const;
  for (const [command, args] of attempts) {
    await run(command, [...args], { timeout: 30_000 }).catch(() => undefined);
    const made = await findUser("postgres");
    if (made) return { ...made, other: true };
  }
  throw new SlipwayError("forbidden", "PostgreSQL does not run as root and the user postgres cannot be made", {
    tried: "useradd, adduser",
    next: "run as an ordinary user, create the user postgres, or set database.url to a PostgreSQL server",
  });
}

async function findUser(name: string): Promise<{ uid: number; gid: number } | undefined> {
  const passwd = await readFile("/etc/passwd", "utf8").catch(() => "");
  for (const line of passwd.split("\n")) {
    const [login, , uid, gid] = line.split(":");
    if (login === name) return { uid: Number(uid), gid: Number(gid) };
  }
  return undefined;
}

/** Can the user reach this directory, that is: walk through every directory above it? */
export async function visibleTo(user: ServerUser, path: string): Promise<boolean> {
  if (!user.other) return true;
  for (let at = await realpath(path); ; at = dirname(at)) {
    const { mode, uid, gid } = await stat(at);
    const execute = uid === user.uid ? 0o100 : gid === user.gid ? 0o010 : 0o001;
    if ((mode & execute) === 0) return false;
    if (at === dirname(at)) return true;
  }
}
