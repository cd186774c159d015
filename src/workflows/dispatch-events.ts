/** From events to runs: looks at what has arrived, starts what is due, and waits for the next. */
import { judgeEvents } from "../bus/dispatch/judge.ts";
import { lockHolders, markEnded, markFailed, markStarted, nextDue, type Order, takeDue } from "../bus/dispatch/take.ts";
import { takeShadowed } from "../bus/shadow.ts";
import { BY_TOPIC } from "../config/index.ts";
import type { Engine } from "../durable/index.ts";
import type { Log } from "../lib/call.ts";
import { isTransient, reportOf } from "../lib/errors.ts";
import { createRest } from "../lib/rest.ts";
import { seconds } from "../lib/units.ts";
import { playbookForTopic } from "../programs/playbooks/find-playbook.ts";
import { windowAt } from "./freeze.ts";
import { handleEvent } from "./handle-event.ts";
import type { ActingRule, Automation, FreezeWindow, Services } from "./services.ts";
import { NOT_DONE } from "./shadow/expect-release.ts";
import type { Acted } from "./steps/act-on-event.ts";

/** A look when nobody has told of anything: locks end without a word. */
const LOOK_MS = seconds(5);

export interface Dispatched {
  /** Events that were looked at; in a shadow, the other service's messages too. */
  readonly judged: number;
  readonly started: number;
}

/** One round. Safe to repeat, side by side, and to be killed in. */
export async function dispatchEvents(engine: Engine<Services>, services: Services): Promise<Dispatched> {
  const { db, automation } = services;
  const { rules } = automation;
  const now = services.now();
  const { shadow } = automation;
  const taken = shadow === undefined ? 0 : await takeShadowed(db);
  const judged = await judgeEvents(db, { rules, now, meant: meantBy(automation) });
  await markEnded(db, await ended(engine, await lockHolders(db)));
  const orders = await takeDue(db, {
    rules,
    now,
    frozen: (rule) => frozenNow(automation.freeze, rule as ActingRule, now),
    barred: (rule) => (shadow !== undefined && (rule as ActingRule).action.kind !== "release" ? NOT_DONE : undefined),
  });
  for (const order of orders) await start(engine, services, order);
  return { judged: judged + taken, started: orders.length };
}

/** Every event matches `by_topic`; those are meant that have a playbook. One look a topic and round. */
export function meantBy({ playbooks }: Automation): (rule: string, topic: string) => Promise<boolean> {
  const known = new Map<string, Promise<boolean>>();
  return (rule, topic) => {
    if (rule !== BY_TOPIC) return Promise.resolve(true);
    if (playbooks === undefined) return Promise.resolve(false);
    const found =
      known.get(topic) ??
      playbookForTopic(playbooks.directory, topic, playbooks.layout).then(
        () => true,
        () => false,
      );
    known.set(topic, found);
    return found;
  };
}

async function start(engine: Engine<Services>, services: Services, order: Order): Promise<void> {
  const { db, automation } = services;
  const { runId, eventId, otherEvent, rule: name, generation } = order;
  const rule = automation.rules.find((one) => one.name === name);
  const input = { eventId, rule: name, generation, ...(otherEvent === undefined ? {} : { otherEvent }) };
  try {
    await engine.start(handleEvent, input, {
      runId,
      queue: rule?.action.kind === "playbook" ? "playbooks" : "events",
      title: `${name} ← ${eventId}`.slice(0, 200),
      labels: { event: eventId.slice(0, 200), rule: name, ...whoActs(rule) },
    });
  } catch (error) {
    // It is taken again; nothing is lost.
    if (isTransient(error)) throw error;
    await markFailed(db, order, reportOf(error).message);
    return;
  }
  await markStarted(db, [order]);
}

/** By which audits find what was done in whose name. */
function whoActs(rule: ActingRule | undefined): Readonly<Record<string, string>> {
  return rule?.action.kind === "playbook" ? { acts: "playbook", user: rule.action.user ?? NOBODY } : {};
}

/** Stands for no automation user in labels. */
export const NOBODY = "-";

/** Those whose run has ended, with all that it has started. */
async function ended(engine: Engine<Services>, runIds: readonly string[]): Promise<string[]> {
  const gone: string[] = [];
  for (const runId of runIds) if (await hasEnded(engine, runId)) gone.push(runId);
  return gone;
}

async function hasEnded(engine: Engine<Services>, runId: string): Promise<boolean> {
  const run = await engine.status(runId).catch(() => undefined);
  // One that was forgotten has ended long ago.
  if (run === undefined || run.state === "failed" || run.state === "cancelled") return true;
  if (run.state !== "done" || run.workflow !== handleEvent.name) return run.state === "done";
  const { runs = [] } = ((await engine.result(runId)) ?? {}) as Partial<Acted>;
  for (const started of runs) if (!(await hasEnded(engine, started))) return false;
  return true;
}

/** The reason of the window that a rule is in. A rule for all systems is in every one. */
function frozenNow(windows: readonly FreezeWindow[], rule: ActingRule, now: Date): string | undefined {
  const system = "system" in rule.action ? rule.action.system : undefined;
  return windowAt(windows, now, system)?.reason;
}

export interface DispatchLoop {
  /** Somebody told that there is something: look now. */
  wake(): void;
  /** Ends when the round under way has. */
  close(): Promise<void>;
}

/** Dispatches until it is closed, with a pause where there is nothing to do. A database that is away is waited for. */
export function dispatchUntilClosed(engine: Engine<Services>, services: Services, log: Log): DispatchLoop {
  const rest = createRest();
  let closed = false;

  async function loop(): Promise<void> {
    let told = false;
    while (!closed) {
      rest.begin();
      let pause = LOOK_MS;
      try {
        const { judged, started } = await dispatchEvents(engine, services);
        told = false;
        if (judged > 0 || started > 0) continue;
        pause = await nextDue(services.db, services.now(), LOOK_MS);
      } catch (error) {
        if (!told) log.warn("events cannot be dispatched for now", { error: reportOf(error).message });
        told = true;
      }
      if (!closed) await rest.wait(pause);
    }
  }

  const running = loop();
  return {
    wake: rest.wake,
    async close() {
      closed = true;
      rest.wake();
      await running;
    },
  };
}
