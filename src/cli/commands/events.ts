import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { type JudgeOptions, replayEvent } from "../../bus/dispatch/judge.ts";
import { type Dispatched, listDispatches } from "../../bus/dispatch/read.ts";
import { acceptDeliveries, type KeptEvent, listEvents as listKept, listQuarantined } from "../../bus/inbox.ts";
import { type Delivery, readDelivery } from "../../bus/message.ts";
import { listMessages } from "../../bus/outbox.ts";
import { sourceOf } from "../../bus/shadow.ts";
import { SlipwayError } from "../../lib/errors.ts";
import { hours, minutes } from "../../lib/units.ts";
import type { Json } from "../../model.ts";
import type { EventFacts } from "../../rules/index.ts";
import { dispatchEvents, type Handled, type Services, withRunStates } from "../../workflows/index.ts";
import { follow } from "../follow.ts";
import { bytes, EXIT, harmless, type Paint, table } from "../output.ts";
import type { Session } from "../session.ts";

export interface ListOptions {
  readonly sent?: boolean;
  readonly quarantined?: boolean;
  readonly topic?: string;
  readonly run?: string;
  readonly since?: string;
  readonly limit: string;
}

export async function listEvents(session: Session, options: ListOptions): Promise<number> {
  const { db } = await session.services();
  const limit = countOf(options.limit);
  if (options.sent === true || options.run !== undefined) return listSent(session, options, limit);
  if (options.quarantined === true) {
    const found = await listQuarantined(db, limit);
    session.output.data(found, (paint) =>
      found.length === 0
        ? paint.good("Nothing is in quarantine.")
        : table(
            ["last", "times", "why", "size", "topic", "id", ""],
            found.map((one) => [
              when(one.lastAt),
              String(one.deliveries),
              paint.warn(one.reason),
              bytes(one.bytes),
              harmless(one.topic).slice(0, 60),
              harmless(one.id),
              harmless(one.detail),
            ]),
            paint,
          ),
    );
    return EXIT.done;
  }
  const since = options.since === undefined ? undefined : momentOf(options.since);
  const events = await listKept(db, { topic: options.topic, since, limit });
  const engine = await session.engine("command");
  const done = await Promise.all(
    events.map(async ({ id }) => withRunStates(engine, await listDispatches(db, { eventId: id, limit: 20 }))),
  );
  const said = events.map(({ body: _, headers: __, ...event }, at) => ({ ...event, rules: done[at]! }));
  session.output.data(said, (paint) =>
    said.length === 0
      ? 'No events have arrived. "slipway serve" takes them in; --sent lists what was told.'
      : table(
          ["received", "from", "topic", "id", "what was done"],
          said.map((event) => [
            when(event.receivedAt),
            event.source,
            event.topic,
            harmless(event.id),
            event.dispatched ? describeRules(event.rules, paint) : paint.warn("not looked at yet"),
          ]),
          paint,
        ),
  );
  return EXIT.done;
}

/** Messages that announce what was released. Without a broker they wait, and can be read here. */
async function listSent(session: Session, options: ListOptions, limit: number): Promise<number> {
  const { db } = await session.services();
  const messages = await listMessages(db, { topic: options.topic, runId: options.run, limit });
  const paintState = { waiting: "warn", delivered: "good", "delivered-with-warning": "warn", invalid: "bad" } as const;
  session.output.data(messages, (paint) =>
    messages.length === 0
      ? "No messages."
      : table(
          ["state", "time", "topic", "what"],
          messages.map((message) => [
            paint[paintState[message.state]](message.state),
            when(message.createdAt),
            message.topic,
            message.trouble === undefined
              ? message.summary
              : `${message.summary} ${paint.warn(`(${message.trouble})`)}`,
          ]),
          paint,
        ),
  );
  return EXIT.done;
}

export async function showEvent(session: Session, id: string): Promise<number> {
  const { db } = await session.services();
  const event = await eventOf(db, id);
  const engine = await session.engine("command");
  const rules = await withRunStates(engine, await listDispatches(db, { eventId: id, limit: 1000 }));
  session.output.data({ ...event, rules }, (paint) => {
    const facts = table(
      ["", ""],
      [
        ["topic", event.topic],
        ["from", `${event.source}, received ${when(event.receivedAt)}, ${event.deliveries} time(s)`],
        ["severity", String(event.severity)],
        ...(event.schema === undefined ? [] : [["schema", harmless(event.schema)]]),
      ].map(([name, value]) => [paint.dim(name!), value!]),
      paint,
    );
    const done = rules.map(
      (one) =>
        `${stateOf(one, paint)}  ${one.rule}${generation(one)}${one.runId === undefined ? "" : `  ${one.runId}`}`,
    );
    return [
      paint.bold(harmless(event.id)),
      facts.split("\n").slice(1).join("\n"),
      JSON.stringify(event.body, null, 2),
      done.length === 0 ? paint.dim("No rule meant it.") : done.join("\n"),
    ].join("\n\n");
  });
  return EXIT.done;
}

/** Through the same gate as what a broker delivers: what it would not take, is not taken here. */
export async function publishEvent(session: Session, options: { file: string; wait?: boolean }): Promise<number> {
  const delivery = await readEventFile(options.file);
  const read = readDelivery(delivery);
  if ("reason" in read) throw unreadable(options.file, read.detail);
  const services = await session.services();
  const accepted = await acceptDeliveries(services.db, sourceOf("command", services.automation.shadow), [delivery]);
  if (accepted.quarantined > 0) {
    throw new SlipwayError("conflict", "an event of this id is there with another body", {
      subject: read.id,
      next: "Give it another id, or none.",
    });
  }
  session.output.say(accepted.fresh.length > 0 ? `event ${read.id}` : `event ${read.id} was there before`);
  if (options.wait !== true) {
    session.output.data({ id: read.id, repeated: accepted.repeated > 0 }, () => "");
    return EXIT.done;
  }
  const runs = await actAndFollow(session, services, [read.id]);
  session.output.data({ id: read.id, repeated: accepted.repeated > 0, rules: runs.rules }, (paint) =>
    describeRules(runs.rules, paint),
  );
  return runs.failed ? EXIT.failed : EXIT.done;
}

export interface ReplayOptions {
  readonly since?: string;
  readonly rule?: string;
  readonly dryRun?: boolean;
}

export async function replayEvents(session: Session, id: string | undefined, options: ReplayOptions): Promise<number> {
  const services = await session.services();
  const { db, automation } = services;
  if ((id === undefined) === (options.since === undefined)) {
    throw new SlipwayError("invalid", "give the id of an event, or --since", {
      next: "slipway events list shows ids; slipway events replay --since 2h takes all of the last two hours.",
    });
  }
  if (options.rule !== undefined && !automation.rules.some(({ name }) => name === options.rule)) {
    throw new SlipwayError("not-found", `there is no rule ${options.rule}`, { next: "See slipway rules list." });
  }
  const events =
    id === undefined
      ? (await listKept(db, { since: momentOf(options.since!), limit: MOST_REPLAYED + 1 })).reverse()
      : [await eventOf(db, id)];
  if (events.length > MOST_REPLAYED) {
    throw new SlipwayError("invalid", `there are more than ${MOST_REPLAYED} events since then`, {
      next: "Take a later moment.",
    });
  }
  const rules = automation.rules.filter(({ name }) => options.rule === undefined || name === options.rule);
  const said = events.map((event) => ({ id: event.id, topic: event.topic, verdicts: verdicts(event, rules) }));
  if (options.dryRun === true) {
    session.output.data(said, (paint) => said.map((one) => describeVerdicts(one, paint)).join("\n\n"));
    return EXIT.done;
  }
  const judged: JudgeOptions = { rules, now: services.now() };
  const again: string[] = [];
  for (const event of events) {
    const started = await replayEvent(db, event.id, judged);
    for (const [rule, generation] of Object.entries(started)) again.push(`${event.id} ${rule} ${generation}`);
  }
  // Whoever dispatches is woken by the next look at the latest.
  const engine = await session.engine("command");
  if (engine.working) await dispatchEvents(engine, services);
  session.output.data({ events: said, started: again.length }, (paint) =>
    again.length === 0
      ? `${said.map((one) => describeVerdicts(one, paint)).join("\n\n")}\n\nNothing is done.`
      : `${again.length} run(s) of ${events.length} event(s) are started again.`,
  );
  return EXIT.done;
}

const MOST_REPLAYED = 10_000;

/** What each rule says about an event. */
export function verdicts(event: EventFacts, rules: Services["automation"]["rules"]) {
  return rules.map((rule) => {
    const said = rule.judge(event);
    const acts = rule.enabled && said.matches === true;
    const why = !rule.enabled ? "the rule is switched off" : said.matches === true ? "" : said.why;
    const keys = said.matches === true ? said.keys : {};
    return { rule: rule.name, acts, action: rule.action.kind, error: said.matches === "error", why, keys };
  });
}

export function describeVerdicts(
  one: { id: string; topic: string; verdicts: ReturnType<typeof verdicts> },
  paint: Paint,
): string {
  const lines = one.verdicts.map(({ rule, acts, action, error, why, keys }) => {
    const under = Object.entries(keys).map(([name, key]) => `${name} ${harmless(key)}`);
    const said = acts ? [`${action}`, ...under].join(", ") : harmless(why);
    return `  ${acts ? paint.good("acts") : error ? paint.bad("error") : paint.dim("not ")}  ${rule}: ${said}`;
  });
  const head = `${paint.bold(harmless(one.topic))} ${paint.dim(harmless(one.id))}`;
  return [head, ...(lines.length === 0 ? ["  There are no rules."] : lines)].join("\n");
}

/** An event as people write it down: `{topic, body, headers?, id?}`. */
export async function readEventFile(file: string): Promise<Delivery> {
  const content = file === "-" ? await text(process.stdin) : await readFile(file, "utf8").catch(notReadable(file));
  let parsed: unknown;
  try {
    parsed = JSON.parse(content);
  } catch (error) {
    throw unreadable(file, error instanceof Error ? error.message.split("\n")[0]! : "it is no JSON");
  }
  const event = (typeof parsed === "object" && parsed !== null ? parsed : {}) as Record<string, Json | undefined>;
  const { topic, body, headers, id } = event;
  const isTable = (value: unknown) => typeof value === "object" && value !== null && !Array.isArray(value);
  if (typeof topic !== "string" || topic === "") throw unreadable(file, "it has no topic");
  if (!isTable(body)) throw unreadable(file, "its body is no object");
  if (headers !== undefined && !isTable(headers)) throw unreadable(file, "its headers are no object");
  if (id !== undefined && typeof id !== "string") throw unreadable(file, "its id is no text");
  return {
    routingKey: topic,
    content: Buffer.from(JSON.stringify(body)),
    ...(id === undefined ? {} : { messageId: id }),
    ...(headers === undefined ? {} : { headers: headers as Record<string, unknown> }),
  };
}

function notReadable(file: string) {
  return (cause: unknown): never => {
    throw new SlipwayError("not-found", "the event's file cannot be read", { subject: file, cause });
  };
}

export function unreadable(file: string, why: string): SlipwayError {
  return new SlipwayError("invalid", `this is no event: ${why}`, {
    subject: file,
    next: 'Write {"topic": "org.example.thing", "body": {…}}, with headers and an id if it has them.',
  });
}

/** Dispatches as a service would, if there is none, and follows every run until it ends. */
async function actAndFollow(session: Session, services: Services, ids: readonly string[]) {
  const engine = await session.engine("command");
  const rules: Dispatched[] = [];
  let failed = false;
  if (engine.working) await dispatchEvents(engine, services);
  for (const id of ids) {
    await untilLookedAt(session, services, id);
    for (const one of await listDispatches(services.db, { eventId: id, limit: 1000 })) {
      rules.push(one);
      failed ||= one.state === "failed";
      if (one.runId === undefined) continue;
      await follow(session, engine, one.runId);
      const outcome = (await engine.result(one.runId).catch(() => undefined)) as { runs?: string[] } | undefined;
      failed ||= outcome === undefined;
      for (const run of outcome?.runs ?? []) {
        session.output.say(`run ${run}`);
        await follow(session, engine, run);
        failed ||= (await engine.status(run)).state !== "done";
      }
    }
  }
  return { rules: await withRunStates(engine, rules), failed };
}

/** A service looks within seconds; what waits on purpose is not waited for. */
async function untilLookedAt(session: Session, services: Services, id: string): Promise<void> {
  for (const until = Date.now() + minutes(1); Date.now() < until; ) {
    session.signal.throwIfAborted();
    const [event] = await listKept(services.db, { id, limit: 1 });
    const open = await listDispatches(services.db, { eventId: id, states: ["waiting", "starting"], limit: 1000 });
    const due = open.filter(({ dueAt }) => Date.parse(dueAt) <= Date.now());
    if (event?.dispatched === true && due.length === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function eventOf(db: Services["db"], id: string): Promise<KeptEvent> {
  const [event] = await listKept(db, { id, limit: 1 });
  if (event !== undefined) return event;
  throw new SlipwayError("not-found", "there is no such event", { subject: id, next: "See slipway events list." });
}

function describeRules(rules: readonly Handled[], paint: Paint): string {
  if (rules.length === 0) return paint.dim("no rule meant it");
  return rules.map((one) => `${one.rule}${generation(one)} ${stateOf(one, paint)}`).join(", ");
}

function stateOf({ state, why, dueAt, run }: Handled, paint: Paint): string {
  if (run !== undefined) return run === "failed" ? paint.bad(run) : run === "done" ? paint.good(run) : paint.warn(run);
  const said = why === undefined ? state : `${state} (${harmless(why)})`;
  if (state === "failed") return paint.bad(said);
  if (state === "waiting") return paint.warn(`waiting until ${when(dueAt)} at least`);
  return state === "skipped" ? paint.dim(said) : paint.good(said);
}

function generation(one: Dispatched): string {
  return one.generation > 1 ? ` (replay ${one.generation - 1})` : "";
}

function when(iso: string): string {
  return iso.slice(0, 19).replace("T", " ");
}

/** `2h`, `3d`, or a time. */
export function momentOf(said: string): Date {
  const ago = /^(\d{1,5})(m|h|d)$/.exec(said);
  if (ago !== null) {
    const unit = { m: minutes(1), h: hours(1), d: hours(24) }[ago[2] as "m" | "h" | "d"];
    return new Date(Date.now() - Number(ago[1]) * unit);
  }
  const at = new Date(said);
  if (!Number.isNaN(at.getTime())) return at;
  throw new SlipwayError("invalid", `"${said}" is no time`, { next: "Write 30m, 2h, 3d or 2026-04-20T12:00Z." });
}

function countOf(said: string): number {
  const count = Number(said);
  if (Number.isInteger(count) && count > 0) return Math.min(count, 10_000);
  throw new SlipwayError("invalid", "--limit is no number of lines", { subject: said });
}
