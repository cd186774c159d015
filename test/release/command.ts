// Slipway's command line as a process that a test can kill at a step's boundary: argument one says where, and with what
// lease; the rest is the command. Without that it is what main.ts is.
import { runProgram } from "../../src/cli/program.ts";
import { createLog } from "../../src/lib/log.ts";
import { createSession } from "../../src/wiring/session.ts";

const [settings, ...args] = process.argv.slice(2);
const { crash, leaseMs, hurry } = JSON.parse(settings ?? "{}") as {
  crash?: { at: string; nth: number };
  leaseMs?: number;
  hurry?: boolean;
};

let passed = 0;
const stop = new AbortController();
process.on("SIGTERM", () => stop.abort(new DOMException("stopped", "AbortError")));
process.exitCode = await runProgram(args, "0.0.0-test", (options) =>
  createSession(options, {
    environment: process.env,
    version: "0.0.0-test",
    log: createLog(options.verbose === true ? "debug" : "error"),
    signal: stop.signal,
    engine: {
      ...(leaseMs === undefined ? {} : { leaseMs }),
      ...(hurry === true ? { hurry: 0.01 } : {}),
      crashPoint: (point) => {
        if (crash === undefined || point.at !== crash.at) return;
        passed++;
        if (passed === crash.nth) process.kill(process.pid, "SIGKILL");
      },
    },
  }),
);
