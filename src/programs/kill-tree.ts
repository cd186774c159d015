/**
 * Ends a program with everything it started.
 *
 * A process group is not enough: ssh, daemons and whatever calls setsid leave it. So every program is started in a
 * session of its own with a random mark in its environment, which its descendants inherit, and its tree is: who has the
 * mark, who is in the session, and the descendants of both. Only a process that did all of it, dropped its environment,
 * made a session of its own and outlived its parents, is not found.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { allProcesses, hasInEnvironment, type ProcessView } from "./processes.ts";

/** Name of the environment variable that marks a tree. */
export const MARK = "SLIPWAY_PROGRAM";

export interface Tree {
  /** Value of the mark. */
  readonly token: string;
  /** Leader of the program's session, while its number is known to be the program's. */
  readonly session?: number | undefined;
}

/** Who lives of a tree now. Never this process. */
export function livingOf({ token, session }: Tree): ProcessView[] {
  const all = allProcesses();
  const found = new Map<number, ProcessView>();
  for (const one of all) {
    if (one.pid === process.pid || one.pid === 1) continue;
    if (one.session === session || hasInEnvironment(one.pid, `${MARK}=${token}`)) found.set(one.pid, one);
  }
  // Children of members who lost the mark, as sudo makes them; until no more are found.
  for (let before = -1; before !== found.size; ) {
    before = found.size;
    for (const one of all) {
      if (found.has(one.parent) && one.pid !== process.pid) found.set(one.pid, one);
    }
  }
  return [...found.values()];
}

const LOOK_AGAIN_MS = 20;
/** Beyond this, what is left sleeps in the kernel (a dead NFS server) or is another user's. */
const GIVE_UP_MS = 10_000;

/**
 * Asks everyone in the tree to end (SIGTERM), and after `graceMs` kills who is left, until nobody is.
 * Safe to repeat; takes no longer than the grace and ten seconds.
 * @param graceMs 0 = kills at once
 * @returns who could not be killed
 */
export async function killTree(tree: Tree, graceMs: number): Promise<ProcessView[]> {
  const asked = new Set<string>();
  const killAt = performance.now() + graceMs;
  for (;;) {
    const living = livingOf(tree);
    const now = performance.now();
    if (living.length === 0 || now > killAt + GIVE_UP_MS) return living;
    for (const one of living) {
      const id = `${one.pid} ${one.started}`;
      // Whoever was born since the last look is asked too, each once: a second SIGTERM makes some give up their cleanup.
      if (now < killAt && !asked.has(id)) send(one.pid, "SIGTERM");
      if (now >= killAt) send(one.pid, "SIGKILL");
      asked.add(id);
    }
    await sleep(LOOK_AGAIN_MS);
  }
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // Gone, or another user's.
  }
}
