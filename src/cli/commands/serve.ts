import { once } from "node:events";
import { SlipwayError } from "../../lib/errors.ts";
import { EXIT } from "../output.ts";
import type { Session } from "../session.ts";

/** Works on runs until it is told to stop. Killing it is safe: whoever comes next goes on. */
export async function serve(session: Session, options: { listen?: string; queues?: string }): Promise<number> {
  const queues = options.queues?.split(",").map((name) => name.trim());
  const engine = await session.engine("service", queues);
  const config = await session.config();
  const listen = options.listen ?? config.console.listen;
  if (listen !== "off") {
    const url = await session.console(engine, parseListen(listen));
    session.output.say(`Console at ${url}`);
  }
  session.output.say("Waiting for work. Ctrl-C stops.");
  await untilStopped(session.signal);
  return EXIT.done;
}

export async function untilStopped(signal: AbortSignal): Promise<void> {
  // Nothing else may be pending, and a process with nothing pending ends.
  const alive = setInterval(() => {}, 60_000);
  try {
    if (!signal.aborted) await once(signal, "abort");
  } finally {
    clearInterval(alive);
  }
}

export function parseListen(text: string): { host: string; port: number } {
  const at = text.lastIndexOf(":");
  const port = Number(text.slice(at + 1));
  if (at < 1 || !Number.isInteger(port) || port < 0 || port > 65535) {
    throw new SlipwayError("invalid", `"${text}" is not an address to listen on`, {
      next: "Write it as 127.0.0.1:8080.",
    });
  }
  return { host: text.slice(0, at).replace(/^\[|\]$/g, ""), port };
}
