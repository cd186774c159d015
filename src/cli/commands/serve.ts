import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import type { Engine } from "../../durable/index.ts";
import { SlipwayError } from "../../lib/errors.ts";
import { healOnce, offerThawed, QUEUES, type Services } from "../../workflows/index.ts";
import { EXIT } from "../output.ts";
import type { Session } from "../session.ts";

/**
 * Takes events in, works on runs, sends messages out, until it is told to stop. Killing it is safe: whoever comes next
 * goes on, and as many as are wanted may run at once.
 */
export async function serve(session: Session, options: { listen?: string; queues?: string }): Promise<number> {
  const engine = await session.engine("service", queuesOf(options.queues));
  const config = await session.config();
  const events = await session.events(engine);
  const listen = options.listen ?? config.console.listen;
  if (listen !== "off") {
    const url = await session.console(engine, parseListen(listen));
    session.output.say(`Console at ${url}`);
  }
  const { consuming, publishing } = events.state();
  if (consuming !== undefined) session.output.say("Consuming from the broker.");
  if (publishing !== undefined) session.output.say("Sending messages to the broker.");
  if (config.shadow !== undefined) {
    session.output.say('This is a shadow: nothing is released or sent. "slipway shadow report" says what differs.');
  }
  session.output.say("Waiting for work. Ctrl-C stops.");
  const isShadow = config.shadow !== undefined;
  await Promise.all([
    untilStopped(session.signal),
    healOnSchedule(session, engine, isShadow ? "off" : config.lifecycle.heal_every),
    config.freeze.length > 0 && !isShadow ? offerAfterFreezes(session, engine) : undefined,
  ]);
  return EXIT.done;
}

/** Works on runs and nothing else: any number of these, on any host that reaches the database. */
export async function work(session: Session, options: { queues?: string }): Promise<number> {
  const queues = queuesOf(options.queues);
  const engine = await session.engine("service", queues);
  const { shadow } = await session.config();
  const which = shadow === undefined ? (queues?.join(", ") ?? "every queue") : "events, as a shadow,";
  session.output.say(`Working on ${which} as ${engine.executorId}. Ctrl-C stops.`);
  await untilStopped(session.signal);
  return EXIT.done;
}

function queuesOf(text: string | undefined): string[] | undefined {
  const names = text?.split(",").map((name) => name.trim());
  const unknown = names?.find((name) => !(QUEUES as readonly string[]).includes(name));
  if (unknown === undefined) return names;
  throw new SlipwayError("invalid", `there is no queue "${unknown}"`, {
    subject: "--queues",
    next: `There are ${QUEUES.join(", ")}.`,
  });
}

/** A region that was down is caught up with without a person. One run a period, however many services there are. */
async function healOnSchedule(session: Session, engine: Engine<Services>, every: number | "off"): Promise<void> {
  if (every === "off") return;
  const { db, now } = await session.services();
  while (!session.signal.aborted) {
    try {
      const runId = await healOnce(engine, db, { now: now().getTime(), everyMs: every });
      if (runId !== undefined) session.log.info("catching up with late regions", { runId });
    } catch (error) {
      session.log.warn("could not look for late regions", { error });
    }
    await sleep(every, undefined, { signal: session.signal }).catch(() => undefined);
  }
}

const FREEZE_LOOK_MS = 60_000;

async function offerAfterFreezes(session: Session, engine: Engine<Services>): Promise<void> {
  const services = await session.services();
  while (!session.signal.aborted) {
    try {
      for (const runId of await offerThawed(engine, services))
        session.log.info("offering what a freeze held", { runId });
    } catch (error) {
      session.log.warn("could not look for what a freeze held", { error });
    }
    await sleep(FREEZE_LOOK_MS, undefined, { signal: session.signal }).catch(() => undefined);
  }
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
