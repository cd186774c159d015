import { readFileSync, readlinkSync } from "node:fs";
import { link, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { SlipwayError } from "../lib/errors.ts";

/** A process, told apart from a later one of the same number by its start time ("" where the system does not tell). */
export interface ProcessId {
  readonly pid: number;
  readonly started: string;
}

export function thisProcess(): ProcessId {
  return { pid: process.pid, started: startOf(process.pid) };
}

export function isAlive({ pid, started }: ProcessId): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPERM") return false;
  }
  const now = startOf(pid);
  return now === "" || started === "" ? true : now === started;
}

/** What has to be equal for a process number to mean the same process: machine, boot and pid namespace. */
export function thisHost(): string {
  const boot = readOr("/proc/sys/kernel/random/boot_id");
  let namespace = "";
  try {
    namespace = readlinkSync("/proc/self/ns/pid");
  } catch {
    // Not Linux: the host name has to do.
  }
  return [hostname(), boot, namespace].filter(Boolean).join(" ");
}

// Field 22 of /proc/PID/stat, in clock ticks since boot. The second field may contain blanks and parentheses, so
// counting begins after the last ")". A zombie (state Z) is dead for us: nobody will ever see it act again.
function startOf(pid: number): string {
  const stat = readOr(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  if (fields[0] === "Z") return "zombie";
  return fields[19] ?? "";
}

function readOr(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return "";
  }
}

/**
 * Runs `action` while no other process of this machine runs one under the same directory.
 *
 * Node has no flock, and a lock file that is deleted cannot be broken safely when its holder was killed: two waiters
 * would both delete it. So tickets are numbered files that only grow: the holder is the process named in the highest
 * one, and whoever finds it dead or done may try to create the next, which exactly one can.
 * @throws SlipwayError `unavailable` after `timeoutMs`
 */
export async function exclusively<T>(directory: string, timeoutMs: number, action: () => Promise<T>): Promise<T> {
  await mkdir(directory, { recursive: true });
  const me = thisProcess();
  const mine = join(directory, `me-${me.pid}-${Math.random().toString(36).slice(2)}`);
  await writeFile(mine, JSON.stringify(me));
  const deadline = Date.now() + timeoutMs;
  let ticket: number;
  try {
    for (;;) {
      const taken = await take(directory, mine);
      if (taken !== undefined) {
        ticket = taken;
        break;
      }
      if (Date.now() > deadline) {
        throw new SlipwayError("unavailable", "another process holds the lock for too long", {
          subject: directory,
          tried: `waited ${timeoutMs / 1000} s`,
          next: "look which process is named in the newest file of that directory and stop it",
        });
      }
      await sleep(20 + Math.random() * 30);
    }
    try {
      return await action();
    } finally {
      // Marked as done rather than deleted: see above.
      await writeFile(join(directory, String(ticket)), JSON.stringify({ pid: 0, started: "" }));
    }
  } finally {
    await rm(mine, { force: true });
  }
}

/** The ticket's number, or undefined when somebody alive holds the highest. */
async function take(directory: string, mine: string): Promise<number | undefined> {
  const highest = Math.max(0, ...(await tickets(directory)));
  if (highest > 0 && isAlive(await holder(join(directory, String(highest))))) return undefined;
  const next = highest + 1;
  try {
    await link(mine, join(directory, String(next)));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return undefined;
    throw error;
  }
  const all = await tickets(directory);
  if (all.some((ticket) => ticket > next)) {
    // Others have come and gone since we looked, and cleared away the numbers below theirs.
    await rm(join(directory, String(next)), { force: true });
    return undefined;
  }
  for (const ticket of all) {
    if (ticket < next) await rm(join(directory, String(ticket)), { force: true });
  }
  return next;
}

async function tickets(directory: string): Promise<number[]> {
  const names = await readdir(directory);
  return names.filter((name) => /^\d+$/.test(name)).map(Number);
}

async function holder(path: string): Promise<ProcessId> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as ProcessId;
  } catch {
    // Cleared away meanwhile: whoever did it is alive, and the next look will tell.
    return thisProcess();
  }
}
