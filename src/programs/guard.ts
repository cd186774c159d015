/**
 * Sees to it that no program outlives its worker, even one that is killed without a word (SIGKILL, out of memory).
 *
 * One small process per worker holds a pipe to it and acts when the pipe ends, which the kernel does for any death.
 * The alternative, a parent-death signal (`setpriv --pdeathsig`), reaches only the program itself: it is cleared for
 * what that forks, and it fires when the *thread* that started the program ends. A pid namespace would need rights that
 * workers do not have. Should the guard be killed together with the worker, `killLeftovers` does the same later.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { extname, join } from "node:path";
import type { Log } from "../lib/call.ts";

const places = new Set<string>();
let guard: ChildProcess | undefined;

/** Before the program is started: what dies with the worker is known by its place. */
export function guardPlace(directory: string, log: Log): void {
  places.add(directory);
  if (guard === undefined) start(log);
  else tell(`+${directory}`);
}

/** After the place is removed. */
export function releasePlace(directory: string): void {
  places.delete(directory);
  tell(`-${directory}`);
}

function start(log: Log): void {
  const file = join(import.meta.dirname, `guard-process${extname(import.meta.filename)}`);
  // Its own session: a signal to the worker's group or terminal must not end it too.
  const child = spawn(process.execPath, [file], { detached: true, stdio: ["pipe", "ignore", "ignore"], env: {} });
  guard = child;
  let isOver = false;
  const over = (error?: unknown) => {
    if (isOver) return;
    isOver = true;
    if (guard === child) guard = undefined;
    const reason = error instanceof Error ? error.message : `it ended with ${child.exitCode ?? child.signalCode}`;
    log.warn("the process that guards programs is gone", { reason });
    // Somebody killed it; programs that run need another. One that cannot be started is left for the next program.
    if (places.size > 0 && error === undefined) start(log);
  };
  child.on("error", over);
  child.on("exit", () => over());
  child.stdin?.on("error", () => {});
  child.unref();
  (child.stdin as { unref?: () => void } | null)?.unref?.();
  for (const directory of places) tell(`+${directory}`);
}

function tell(line: string): void {
  if (guard?.stdin?.writable) guard.stdin.write(`${line}\n`);
}
