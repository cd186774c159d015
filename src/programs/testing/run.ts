import { readFileSync } from "node:fs";
import { silent } from "../../lib/call.ts";
import { processOf } from "../processes.ts";
import { type ProgramResult, type ProgramSpec, runProgram } from "../run-program.ts";

export interface Heard {
  readonly stdout: string[];
  readonly stderr: string[];
}

/** Runs Node with a script. What it prints is collected, and told while it comes. */
export function runScript(
  script: string,
  spec: Pick<ProgramSpec, "root"> & Partial<ProgramSpec>,
  { signal = new AbortController().signal, onLine }: { signal?: AbortSignal; onLine?: (text: string) => void } = {},
): { readonly heard: Heard; readonly result: Promise<ProgramResult> } {
  const heard: Heard = { stdout: [], stderr: [] };
  const result = runProgram(
    { argv: [process.execPath, "-e", script], owner: "test", timeoutMs: 60_000, graceMs: 60_000, ...spec },
    {
      ...{ signal, log: silent },
      line(stream, text) {
        heard[stream].push(text);
        onLine?.(text);
      },
    },
  );
  return { heard, result };
}

/** A script that starts sleepers and prints their numbers: a child, and a grandchild in a session of its own. */
export const FAMILY = `
  const { spawn } = require("node:child_process");
  const idle = "setInterval(() => {}, 1000)";
  const child = spawn(process.execPath, ["-e", idle], { stdio: "ignore" });
  const middle = "const c = require('node:child_process').spawn(process.execPath, ['-e', " + JSON.stringify(idle) +
    "], { detached: true, stdio: 'ignore' }); c.unref(); console.log(c.pid)";
  const between = spawn(process.execPath, ["-e", middle], { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  between.stdout.on("data", (chunk) => { text += chunk; });
  between.on("close", () => console.log("family " + process.pid + " " + child.pid + " " + text.trim()));
  setInterval(() => {}, 1000);
`;

export function familyOf(line: string): number[] | undefined {
  const pids = /^family (\d+) (\d+) (\d+)$/.exec(line)?.slice(1).map(Number);
  return pids;
}

export const livingAmong = (pids: readonly number[]) => pids.filter((pid) => processOf(pid) !== undefined);

export const environmentOf = (pid: number) => readFileSync(`/proc/${pid}/environ`, "latin1").split("\0");
