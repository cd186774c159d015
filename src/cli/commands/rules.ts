/** Rules: what there is, what they would do, and standing still. */
import { setTimeout as sleep } from "node:timers/promises";
import { clearPause, listPauses, setPause } from "../../bus/dispatch/pauses.ts";
import { countByRule } from "../../bus/dispatch/read.ts";
import { readDelivery } from "../../bus/message.ts";
import { SlipwayError } from "../../lib/errors.ts";
import { EXIT, harmless, table } from "../output.ts";
import type { Session } from "../session.ts";
import { describeVerdicts, readEventFile, unreadable, verdicts } from "./events.ts";

/** So far back are events counted. */
const DAYS = 7;
const ALL = "*";
const LOOK_MS = 500;

export async function listRules(session: Session): Promise<number> {
  const { db, automation } = await session.services();
  const [counts, pauses] = await Promise.all([countByRule(db, DAYS), listPauses(db)]);
  const said = automation.rules.map((rule) => {
    const { rule: _, ...counted } = counts.find((one) => one.rule === rule.name) ?? {
      ...{ rule: rule.name, waiting: 0, started: 0, skipped: 0, failed: 0, lastAt: undefined },
    };
    const pause = pauses.find((one) => one.rule === rule.name) ?? pauses.find((one) => one.rule === ALL);
    return { name: rule.name, topic: rule.topic, action: rule.action, enabled: rule.enabled, pause, ...counted };
  });
  session.output.data(said, (paint) =>
    said.length === 0
      ? "No rules: nothing is done about events. See `rules:` in docs/configuration.md."
      : table(
          ["rule", "does", "topic", "waiting", "started", "skipped", "failed", ""],
          said.map((rule) => [
            rule.enabled ? rule.name : paint.dim(`${rule.name} (off)`),
            rule.action.kind,
            rule.topic,
            ...[rule.waiting, rule.started, rule.skipped].map(String),
            rule.failed > 0 ? paint.bad(String(rule.failed)) : "0",
            rule.pause === undefined ? "" : paint.warn(`paused (${rule.pause.mode}): ${harmless(rule.pause.reason)}`),
          ]),
          paint,
        ),
  );
  return EXIT.done;
}

/** Needs neither a database nor a broker. Exit 0 whatever the rules say: the answer is the output. */
export async function testRules(session: Session, file: string): Promise<number> {
  const { compiledRules } = await import("../../config/rules.ts");
  const event = readDelivery(await readEventFile(file));
  if ("reason" in event) throw unreadable(file, event.detail);
  const facts = { ...event, source: "command" };
  const said = { id: event.id, topic: event.topic, verdicts: verdicts(facts, compiledRules(await session.config())) };
  session.output.data(said, (paint) => describeVerdicts(said, paint));
  return EXIT.done;
}

export async function pause(
  session: Session,
  rule: string | undefined,
  options: { reason: string; drop?: boolean },
): Promise<number> {
  const { db, automation } = await session.services();
  if (rule !== undefined && !automation.rules.some(({ name }) => name === rule)) throw noRule(rule, automation.rules);
  const mode = options.drop === true ? "drop" : "hold";
  await setPause(db, { rule: rule ?? ALL, mode, reason: options.reason });
  const what = rule === undefined ? "Every rule" : `Rule ${rule}`;
  const meanwhile = mode === "drop" ? "what comes meanwhile is skipped" : "what comes meanwhile waits";
  session.output.data({ rule: rule ?? ALL, mode, reason: options.reason }, () => `${what} is paused; ${meanwhile}.`);
  return EXIT.done;
}

export async function resume(session: Session, rule: string | undefined): Promise<number> {
  const { db } = await session.services();
  const was = await clearPause(db, rule ?? ALL);
  const left = await listPauses(db);
  session.output.data({ rule: rule ?? ALL, was, left }, (paint) => {
    const said = was ? "Going on." : `${rule ?? "Everything together"} was not paused.`;
    const others = left.map((one) => `${one.rule === ALL ? "every rule" : one.rule} (${harmless(one.reason)})`);
    return others.length === 0 ? said : `${said} ${paint.warn(`Still paused: ${others.join(", ")}`)}`;
  });
  return EXIT.done;
}

/** Exit 0 when nothing runs any more. Ctrl-C stops waiting; the pause stays. */
export async function drain(session: Session, options: { reason: string }): Promise<number> {
  const { db } = await session.services();
  await setPause(db, { rule: ALL, mode: "hold", reason: options.reason });
  const engine = await session.engine("command");
  for (let told = -1; ; ) {
    session.signal.throwIfAborted();
    const running = await engine.list({ state: ["waiting", "running"], rootsOnly: true, limit: 1000 });
    if (running.length === 0) break;
    if (running.length !== told) session.output.say(`${running.length} run(s) to end: ${running[0]!.title} …`);
    told = running.length;
    await sleep(LOOK_MS, undefined, { signal: session.signal });
  }
  session.output.data({ drained: true }, () => 'Nothing runs. "slipway resume" goes on with what events ask for.');
  return EXIT.done;
}

function noRule(rule: string, rules: readonly { readonly name: string }[]): SlipwayError {
  return new SlipwayError("not-found", `there is no rule ${rule}`, {
    next: rules.length === 0 ? "There are no rules." : `There are ${rules.map(({ name }) => name).join(", ")}.`,
  });
}
