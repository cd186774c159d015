/** Processes on cores of their own, so that a server's work is not counted as a client's. */
import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { availableParallelism } from "node:os";

/** The client has the first core, the servers the second. One core, or no taskset: everybody shares, and the row says so. */
export const CLIENT_CORE = 0;
export const SERVER_CORE = 1;

export const canPin = availableParallelism() > 1 && spawnSync("taskset", ["--version"]).error === undefined;

export function spawnOn(core: number | undefined, command: readonly string[], options: SpawnOptions): ChildProcess {
  const line = core !== undefined && canPin ? ["taskset", "-c", String(core), ...command] : command;
  return spawn(line[0]!, line.slice(1), options);
}

/** Seconds a program takes that writes nowhere. @throws Error when it fails */
export async function timed(core: number | undefined, command: readonly string[]): Promise<number> {
  const started = performance.now();
  const child = spawnOn(core, command, { stdio: ["ignore", "ignore", "inherit"] });
  const [code] = await once(child, "exit");
  if (code !== 0) throw new Error(`${command.join(" ")} ended with ${code}`);
  return (performance.now() - started) / 1000;
}

/** Runs one of our own files in a process of its own; what it prints is one JSON value. */
export async function askChild<T>(core: number | undefined, file: string, argument: unknown): Promise<T> {
  const child = spawnOn(core, [process.execPath, ...OURS, file, JSON.stringify(argument)], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, ...OUR_ENVIRONMENT },
  });
  const chunks: Buffer[] = [];
  child.stdout!.on("data", (chunk: Buffer) => chunks.push(chunk));
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(`${file} ended with ${code}`);
  return JSON.parse(Buffer.concat(chunks).toString()) as T;
}

/** What `bin/slipway` tells Node and the C library. */
const OURS = ["--max-semi-space-size=2", "--disable-warning=ExperimentalWarning"];
const OUR_ENVIRONMENT = { MALLOC_ARENA_MAX: "1" };
