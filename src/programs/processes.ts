/** What Linux tells of processes, read from /proc. Elsewhere there is nothing to read, and all of it says so. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";

/** A process, told apart from a later one of the same number by its start time in clock ticks since boot. */
export interface ProcessId {
  readonly pid: number;
  readonly started: string;
}

export interface ProcessView extends ProcessId {
  readonly parent: number;
  readonly session: number;
}

/** Undefined when there is none of that number, or only a zombie: nobody will see it act again. */
export function processOf(pid: number): ProcessView | undefined {
  const stat = readOr(`/proc/${pid}/stat`);
  // The second field may contain blanks and parentheses, so counting begins after the last ")".
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  if (fields.length < 20 || fields[0] === "Z" || fields[0] === "X") return undefined;
  return { pid, started: fields[19]!, parent: Number(fields[1]), session: Number(fields[3]) };
}

export function isAlive({ pid, started }: ProcessId): boolean {
  return processOf(pid)?.started === started;
}

export function allProcesses(): ProcessView[] {
  let names: string[];
  try {
    names = readdirSync("/proc");
  } catch {
    return [];
  }
  return names.flatMap((name) => (/^\d+$/.test(name) ? (processOf(Number(name)) ?? []) : []));
}

/** Whether a process was started with this in its environment. False, too, for one of another user's. */
export function hasInEnvironment(pid: number, assignment: string): boolean {
  return `\0${readOr(`/proc/${pid}/environ`)}\0`.includes(`\0${assignment}\0`);
}

/** What has to be equal for a process number to mean the same process: machine, boot and pid namespace. */
export function thisHost(): { readonly boot: string; readonly space: string } {
  let namespace = "";
  try {
    namespace = readlinkSync("/proc/self/ns/pid");
  } catch {
    // Not Linux: the host name has to do.
  }
  return { boot: readOr("/proc/sys/kernel/random/boot_id").trim(), space: `${hostname()} ${namespace}` };
}

function readOr(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}
