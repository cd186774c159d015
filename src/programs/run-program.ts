/**
 * Runs a program that is not ours, and is responsible for it to the end: whatever happens to it, to this process or to
 * the run, nothing of it is left running and nothing of it is left on the disk.
 *
 * Knows nothing of what the programs do; Ansible, Packer and buildah are callers. Start reading at `runProgram`.
 */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import type { Readable, Writable } from "node:stream";
import type { CallContext } from "../lib/call.ts";
import { SlipwayError } from "../lib/errors.ts";
import { type ArtifactFile, type ArtifactRequest, takeArtifacts } from "./artifacts.ts";
import { findProgram, needProgram, USUAL_PATH } from "./find-program.ts";
import { guardPlace, releasePlace } from "./guard.ts";
import { killTree, MARK } from "./kill-tree.ts";
import { type LineLimits, type Lines, splitLines, USUAL_LINES } from "./lines.ts";
import { type Mask, maskedError, maskOf } from "./mask.ts";
import { killLeftovers, makePlace, notePid, type Place, removePlace } from "./private-place.ts";

export interface ProgramSpec {
  /** Program and arguments; never seen by a shell. A name is looked for in the PATH. */
  readonly argv: readonly [string, ...string[]] | ((place: Place) => readonly [string, ...string[]]);
  /** Directory under which the private one is made. Short: sockets in it have at most 107 bytes of path. */
  readonly root: string;
  /** Who it is run for, e.g. a run's id and step: what an earlier attempt of the same left is killed first. */
  readonly owner: string;
  /** Everything it finds in its environment besides PATH, HOME, TMPDIR, LANG and the mark. May override these. */
  readonly environment?: Environment | ((place: Place) => Environment);
  /** Called in the private directory before the program is started, to put its input there. */
  readonly prepare?: (place: Place) => Promise<void>;
  /** Absolute. The private directory's `work` if absent. */
  readonly cwd?: string;
  /** Absent = nothing to read. */
  readonly stdin?: Uint8Array | undefined;
  /** Texts that are in no line, no error and no log; those under 4 characters are not masked. */
  readonly secrets?: readonly string[];
  /** Milliseconds of wall time. */
  readonly timeoutMs: number;
  /** Milliseconds between asking the tree to end and killing it; 10 s if absent. */
  readonly graceMs?: number;
  readonly limits?: ResourceLimits;
  readonly lines?: Partial<LineLimits>;
  readonly artifacts?: ArtifactRequest;
  /** Exit codes that are no failure; `[0]` if absent. `any`: the caller knows better what they mean. */
  readonly accept?: readonly number[] | "any";
}

type Environment = Readonly<Record<string, string>>;

/** Of each process of the tree, as the kernel counts; what is absent is inherited. */
export interface ResourceLimits {
  /** Bytes. */
  readonly addressSpace?: number;
  /** Seconds. */
  readonly cpu?: number;
  /** Processes of the *user*, not of the tree; none for root. */
  readonly processes?: number;
  /** Bytes of the largest file. */
  readonly fileBytes?: number;
  readonly openFiles?: number;
  /** 0 … 19; 0 if absent. */
  readonly nice?: number;
}

export interface ProgramContext extends CallContext {
  /** A line without its end, masked and bounded, as soon as it is whole. An exception would be the process's. */
  line(stream: "stdout" | "stderr", text: string): void;
}

export interface ProgramResult {
  readonly code: number;
  readonly artifacts: readonly ArtifactFile[];
}

const GRACE_MS = 10_000;
/** A process that cannot be killed does not tell its end either. */
const LAST_WORDS_MS = 5_000;
/** Lines of stderr an error quotes. */
const QUOTED = 3;

/**
 * Runs one program and waits until all of it has ended; then kills what it left behind, takes its files and removes its
 * directory. Whether it is safe to repeat is the program's matter; two of one owner never run at the same time on a host.
 *
 * @throws SlipwayError
 * `not-found` the program is not installed, or a file it was to make is not there ·
 * `cancelled` the signal · `unavailable` the timeout, or no process could be started ·
 * `invalid` another exit code than accepted: the same input would meet the same answer, so it is not tried again ·
 * `quota` a resource limit (SIGXCPU, SIGXFSZ), or files larger than allowed ·
 * `unknown` ended by a signal that is not ours: out of memory, a person, a crash ·
 * `forbidden` a file that is a link, or whose path leaves the directory · `disk-full`
 */
export async function runProgram(spec: ProgramSpec, ctx: ProgramContext): Promise<ProgramResult> {
  const mask = maskOf(spec.secrets ?? []);
  try {
    return await runMasked(spec, ctx, mask);
  } catch (error) {
    throw maskedError(error, mask);
  }
}

async function runMasked(spec: ProgramSpec, ctx: ProgramContext, mask: Mask): Promise<ProgramResult> {
  if (ctx.signal.aborted) throw cancelled(ctx.signal, "before it was started");
  const { removed } = await killLeftovers(spec.root, spec.owner);
  if (removed.length > 0) ctx.log.warn("cleaned up after programs whose worker is gone", { removed });

  const token = randomBytes(16).toString("hex");
  const place = await makePlace(spec.root, spec.owner, token);
  // From here on whatever happens to this process, the guard cleans up.
  guardPlace(place.directory, ctx.log);
  try {
    await spec.prepare?.(place);
    const code = await runIn(place, token, spec, ctx, mask);
    const artifacts = spec.artifacts === undefined ? [] : await takeArtifacts(place.work, spec.artifacts, ctx.signal);
    return { code, artifacts };
  } finally {
    const left = await removePlace(place.directory);
    if (left === undefined) releasePlace(place.directory);
    else ctx.log.warn("a program's directory could not be removed", { directory: place.directory, reason: mask(left) });
  }
}

async function runIn(place: Place, token: string, spec: ProgramSpec, ctx: ProgramContext, mask: Mask): Promise<number> {
  const [name, ...args] = typeof spec.argv === "function" ? spec.argv(place) : spec.argv;
  const given = typeof spec.environment === "function" ? spec.environment(place) : spec.environment;
  const env = {
    ...{ PATH: USUAL_PATH, HOME: place.home, TMPDIR: place.tmp, LANG: "C.UTF-8" },
    ...given,
    [MARK]: token,
  };
  const command = [
    ...(await limiting(spec.limits ?? {}, env.PATH, ctx)),
    await needProgram(name, env.PATH),
    ...args,
  ] as const;
  // Looking for programs took a moment.
  if (ctx.signal.aborted) throw cancelled(ctx.signal, "before it was started");

  const child = await start(command, { cwd: spec.cwd ?? place.work, env, subject: name });
  const exited = once(child, "exit") as Promise<[number | null, NodeJS.Signals | null]>;
  const closed = once(child, "close");
  const tree = { token, session: child.pid };
  const stop = stopper(ctx.signal, spec.timeoutMs);
  const quoted: string[] = [];
  // Before anything is waited for: what a program says that has ended and that nobody listens to, Node drops.
  const lines = listen(child, { ...USUAL_LINES, ...spec.lines }, mask, (stream, text) => {
    if (stream === "stderr" && text.trim() !== "" && quoted.push(text) > QUOTED) quoted.shift();
    ctx.line(stream, text);
  });
  try {
    await notePid(place, child.pid!);
    // A program that does not read its input is none of our business.
    child.stdin.on("error", () => {});
    child.stdin.end(spec.stdin ?? "");
    await Promise.race([exited, stop.asked]);
    if (stop.why() !== undefined) {
      ctx.log.info("stopping a program", { program: name, reason: stop.why() });
      await killTree(tree, spec.graceMs ?? GRACE_MS);
    }
  } finally {
    stop.clear();
    // What it left behind, daemons too: nobody would ever end them.
    const immortal = await killTree(tree, 0);
    if (immortal.length > 0) {
      ctx.log.warn("processes of a program could not be killed", { pids: immortal.map(({ pid }) => pid) });
      // They may hold the pipes; nobody waits for them.
      child.stdout.destroy();
      child.stderr.destroy();
    }
  }
  const [code, signal] = (await within(exited, LAST_WORDS_MS)) ?? [null, "SIGKILL" as const];
  await within(closed, LAST_WORDS_MS);
  for (const one of lines) one.end();
  return judge({ name, code, signal, why: stop.why(), quoted, spec, call: ctx });
}

function listen(
  child: Child,
  limits: LineLimits,
  mask: Mask,
  tell: (stream: "stdout" | "stderr", text: string) => void,
): Lines[] {
  return (["stdout", "stderr"] as const).map((stream) => {
    const lines = splitLines(limits, mask, (text) => tell(stream, text));
    child[stream].on("data", (chunk: Buffer) => lines.push(chunk));
    return lines;
  });
}

/** What the promise gives, or undefined when that takes longer. */
async function within<T>(promise: Promise<T>, ms: number): Promise<T | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => resolve(undefined), ms);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

interface Ending {
  readonly name: string;
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly why: "cancel" | "timeout" | undefined;
  readonly quoted: readonly string[];
  readonly spec: ProgramSpec;
  readonly call: CallContext;
}

function judge({ name, code, signal, why, quoted, spec, call }: Ending): number {
  // One that ended well in the very moment it was to be stopped has ended well.
  const { accept = [0] } = spec;
  if (code !== null && (accept === "any" ? why === undefined || code === 0 : accept.includes(code))) return code;
  if (why === "cancel") throw cancelled(call.signal, `while ${name} ran; all of it was stopped`);
  if (why === "timeout") {
    throw new SlipwayError("unavailable", `${name} took longer than ${spec.timeoutMs / 1000} s and was stopped`, {
      subject: name,
      tried: "asked it and everything it started to end, then killed what was left",
      next: "Look at the last lines of its log for what it waited for; raise its timeout if it needs more.",
    });
  }
  const said = quoted.length === 0 ? "" : `: ${quoted.join(" / ").slice(0, 1000)}`;
  if (signal === null)
    throw new SlipwayError("invalid", `${name} failed with exit code ${code}${said}`, { subject: name });
  if (signal === "SIGXCPU" || signal === "SIGXFSZ") {
    const what = signal === "SIGXCPU" ? "processor time" : "file size";
    throw new SlipwayError("quota", `${name} reached its limit of ${what} and was stopped${said}`, {
      subject: name,
      next: "Raise the limit of the program.",
    });
  }
  throw new SlipwayError("unknown", `${name} was ended by ${signal}${said}`, {
    subject: name,
    next: signal === "SIGKILL" ? "Look into the kernel's log: the machine may have run out of memory." : undefined,
  });
}

function cancelled(signal: AbortSignal, when: string): SlipwayError {
  return new SlipwayError("cancelled", `stopped ${when}`, { cause: signal.reason });
}

type Child = ChildProcessByStdio<Writable, Readable, Readable>;

async function start(
  [file, ...args]: readonly [string, ...string[]] | readonly string[],
  { cwd, env, subject }: { cwd: string; env: NodeJS.ProcessEnv; subject: string },
): Promise<Child> {
  try {
    // detached: a session and a process group of its own, so that it can be signalled whole and no terminal reaches it.
    const child = spawn(file!, args, { cwd, env, detached: true, stdio: ["pipe", "pipe", "pipe"] });
    await once(child, "spawn");
    return child;
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const busy = code === "EAGAIN" || code === "ENOMEM" || code === "EMFILE" || code === "ENFILE";
    throw new SlipwayError(busy ? "unavailable" : "invalid", `${subject} could not be started: ${code ?? "unknown"}`, {
      subject,
      next: code === "E2BIG" ? "Hand long arguments over in a file." : undefined,
      cause,
    });
  }
}

/** The command in front of the command that sets its limits; both replace themselves, the process number stays. */
async function limiting(limits: ResourceLimits, path: string, ctx: CallContext): Promise<string[]> {
  const { addressSpace, cpu, processes, fileBytes, openFiles, nice } = limits;
  const wanted = Object.entries({ as: addressSpace, cpu, nproc: processes, fsize: fileBytes, nofile: openFiles });
  // At the hard limit of processor time the kernel kills without saying why, so the soft one comes first.
  const hard = (flag: string, value: number) => (flag === "cpu" ? value + 5 : value);
  const flags = wanted.flatMap(([flag, value]) =>
    value === undefined ? [] : [`--${flag}=${value}:${hard(flag, value)}`],
  );
  const command: string[] = [];
  if (nice) command.push(...(await optional("nice", path, ctx, ["-n", String(nice)])));
  if (flags.length > 0) command.push(...(await optional("prlimit", path, ctx, [...flags, "--"])));
  return command;
}

async function optional(name: string, path: string, ctx: CallContext, args: readonly string[]): Promise<string[]> {
  const found = await findProgram(name, path);
  if (found !== undefined) return [found, ...args];
  ctx.log.warn("a program runs without limits, what sets them is not installed", { missing: name });
  return [];
}

function stopper(signal: AbortSignal, timeoutMs: number) {
  let why: "cancel" | "timeout" | undefined;
  const { promise: asked, resolve } = Promise.withResolvers<void>();
  const because = (reason: "cancel" | "timeout") => {
    why ??= reason;
    resolve();
  };
  const onAbort = () => because("cancel");
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  // A timer of more than 24 days would ring at once.
  const timer = setTimeout(() => because("timeout"), Math.min(timeoutMs, 2 ** 31 - 1));
  return {
    asked,
    why: () => why,
    clear() {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
    },
  };
}
