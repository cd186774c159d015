/**
 * Where Slipway begins: reads the environment (nobody else does), answers signals, runs one command.
 * What a command is given is made in wiring/; what it does is in cli/.
 */
import { readFileSync } from "node:fs";
import { runProgram } from "./cli/program.ts";
import { createLog } from "./lib/log.ts";

const stop = new AbortController();
let asked = 0;
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    asked++;
    stop.abort(new DOMException(`stopped by ${signal}`, "AbortError"));
    // Whoever asks twice means it. Nothing is lost: whatever was under way is taken up by the next process.
    if (asked > 1) process.exit(130);
  });
}

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
  version: string;
};
const { createSession } = await import("./wiring/session.ts");
process.exitCode = await runProgram(process.argv.slice(2), version, (options) =>
  createSession(options, {
    environment: process.env,
    version,
    log: createLog(options.verbose === true ? "debug" : "error"),
    signal: stop.signal,
  }),
);
