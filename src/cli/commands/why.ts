/** Why is it not out yet? What a run, an event's rule or an image waits for, and what would make it go on. */
import { listPauses } from "../../bus/dispatch/pauses.ts";
import { listDispatches } from "../../bus/dispatch/read.ts";
import { listImages } from "../../catalog/catalog.ts";
import type { Engine, RunView } from "../../durable/index.ts";
import { errorFrom, reportOf, SlipwayError } from "../../lib/errors.ts";
import { type ReleaseOutcome, type Services, windowAt } from "../../workflows/index.ts";
import { describeError, duration, EXIT, harmless, type Paint } from "../output.ts";
import type { Session } from "../session.ts";

/** So many runs are looked through for one that is about an image the catalog does not have. */
const LOOKED_THROUGH = 1000;

interface Reason {
  readonly what: string;
  readonly detail?: string;
  readonly next?: string;
}

/** A line each; the first is what stands in the way most. */
export async function reasonsOfRun(engine: Engine<Services>, services: Services, run: RunView): Promise<Reason[]> {
  const reasons: Reason[] = [];
  const { event, rule } = run.labels;
  if (run.state === "waiting") {
    reasons.push({
      what: `it waits in the queue "${run.queue}" for a worker`,
      next: `"slipway serve" is one, and "slipway worker --queues ${run.queue}".`,
    });
  }
  const steps = await engine.steps(run.id, { tree: true });
  for (const step of steps.filter(({ state }) => state === "running")) {
    const last = step.attempts.findLast((attempt) => attempt.error !== undefined);
    reasons.push({
      what: `${step.run}: ${step.name} has been running for ${duration(Date.now() - step.startedAt)}, attempt ${step.attempts.length}`,
      ...(last?.error === undefined ? {} : { detail: last.error.message, next: last.error.next }),
    } as Reason);
  }
  for (const step of steps.filter(({ state }) => state === "failed")) {
    reasons.push({
      what: `${step.run}: ${step.name} failed after ${step.attempts.length} attempts`,
      ...(step.error === undefined ? {} : { detail: step.error.message }),
      ...(step.error?.next === undefined ? {} : { next: step.error.next }),
    });
  }
  if (run.state === "cancelled") {
    reasons.push({ what: "somebody cancelled it", next: `slipway runs resume ${run.id}` });
  }
  if (run.state === "failed" && reasons.length === 0 && run.error !== undefined) {
    reasons.push({ what: run.error.message, ...(run.error.next === undefined ? {} : { next: run.error.next }) });
  }
  if (run.state === "done") reasons.push(...(await reasonsOfOutcome(engine, run)));
  if (event !== undefined && rule !== undefined) {
    const others = await listDispatches(services.db, { eventId: event, limit: 100 });
    const waiting = others.filter((one) => one.state === "waiting" && one.rule === rule);
    for (const one of waiting) reasons.push({ what: `a replay of it waits until ${one.dueAt}` });
  }
  return reasons;
}

/** What a release that is done did not do. */
async function reasonsOfOutcome(engine: Engine<Services>, run: RunView): Promise<Reason[]> {
  const outcome = (await engine.result(run.id).catch(() => undefined)) as Partial<ReleaseOutcome> | undefined;
  const reasons: Reason[] = [];
  for (const group of outcome?.groups ?? []) {
    if (group.held !== undefined) {
      reasons.push({
        what: `${group.id} is not offered: ${group.held.reason}`,
        detail: `until ${new Date(group.held.until).toISOString()}, then a service offers it`,
        next: "slipway images promote … --despite-freeze offers it now.",
      });
    }
    for (const target of group.targets) {
      const where = `${target.name} in ${target.target}`;
      if (target.error !== undefined) {
        const { message, next } = reportOf(errorFrom(target.error));
        reasons.push({ what: `${where}: ${message}`, next: next ?? "slipway runs retry does what is left." });
      } else if (target.missing.length > 0) {
        const regions = target.missing.map(({ region }) => region).join(", ");
        const [first] = target.missing;
        reasons.push({
          what: `${where} is missing in ${regions}`,
          ...(first === undefined ? {} : { detail: first.error.message }),
          next: "A service brings it there when it can: lifecycle.heal_every.",
        });
      } else if (target.state === "candidate" && group.held === undefined) {
        reasons.push({ what: `${where} is a candidate`, next: `slipway images promote ${target.name}` });
      }
    }
  }
  return reasons;
}

/**
 * Of an image, by its name or a cloud's id: what the catalog says of it, what holds its offer, which run works on it.
 * @throws SlipwayError `not-found` when neither the catalog nor a run knows it
 */
export async function whyImage(session: Session, name: string): Promise<number> {
  const services = await session.services();
  const engine = await session.engine("command");
  const rows = (await listImages(services.db, { search: name })).filter((one) => one.name === name || one.id === name);
  const wanted = rows[0]?.name ?? name;
  const runs = (await engine.list({ limit: LOOKED_THROUGH })).filter(
    ({ title, workflow }) => workflow.startsWith("release-") && title.split(" → ")[0] === wanted,
  );
  if (rows.length === 0 && runs.length === 0) {
    throw new SlipwayError("not-found", "neither the catalog nor a run knows such an image", {
      subject: name,
      next: "slipway plan COMPOSE says whether a compose would make it, and why not; slipway events list whether it was told of.",
    });
  }
  const all =
    rows.length === 0 ? [] : (await listImages(services.db, { search: wanted })).filter((one) => one.name === wanted);
  const reasons: Reason[] = [];
  for (const target of new Set(all.map((one) => one.target))) {
    const here = all.filter((one) => one.target === target);
    const system = here[0]!.version.system;
    const missing = here.filter(({ state }) => state === "missing");
    if (missing.length > 0) {
      const { error } = missing[0]!;
      reasons.push({
        what: `${target} lacks it in ${missing.map(({ region }) => region).join(", ")}`,
        ...(error === undefined ? {} : { detail: error.message }),
        next: `slipway lifecycle drift ${wanted} --repair tries now.`,
      });
    }
    if (here.some(({ state }) => state === "candidate")) {
      const held = await heldOffer(services, here[0]!.version.composeId, system);
      const window = windowAt(services.automation.freeze, services.now(), system);
      if (held !== undefined) {
        reasons.push({
          what: `${target} has it as a candidate, held by a freeze window: ${held.reason}`,
          detail: `until ${held.until}; then a service offers it`,
          next: `slipway images promote ${wanted} --despite-freeze`,
        });
      } else {
        reasons.push({
          what: `${target} has it as a candidate: nobody has promoted it`,
          ...(window === undefined ? {} : { detail: `and a freeze window is open: ${window.reason}` }),
          next: `slipway images promote ${wanted}`,
        });
      }
    }
  }
  const [latest] = runs;
  if (latest !== undefined && latest.state !== "done") reasons.push(...(await reasonsOfRun(engine, services, latest)));
  const pauses = await listPauses(services.db);
  for (const pause of all.length === 0 ? pauses : []) {
    const what = pause.rule === "*" ? "every rule is paused" : `the rule ${pause.rule} is paused`;
    reasons.push({ what: `${what}: ${pause.reason}`, next: "slipway resume" });
  }
  const states = [...new Set(all.map(({ state }) => state))];
  session.output.data({ name: wanted, states, run: latest, reasons }, (paint) =>
    [
      paint.bold(harmless(wanted)),
      describeReasons(reasons, paint, `Nothing is in its way: it is ${states.join(", ") || latest?.state}.`),
    ].join("\n"),
  );
  return EXIT.done;
}

async function heldOffer(services: Services, composeId: string, system: string) {
  const row = await services.db
    .selectFrom("held_offers")
    .select(["reason", "until_at"])
    .where("compose_id", "=", composeId)
    .where("system", "=", system)
    .where("offered_by", "is", null)
    .executeTakeFirst();
  return row && { reason: row.reason, until: row.until_at.toISOString() };
}

export function describeReasons(reasons: readonly Reason[], paint: Paint, none: string): string {
  if (reasons.length === 0) return none;
  return reasons
    .map(({ what, detail, next }) =>
      [
        `  ${harmless(what)}`,
        ...(detail === undefined ? [] : [`    ${paint.dim(harmless(detail))}`]),
        ...(next === undefined ? [] : [`    ${paint.dim("next")} ${harmless(next)}`]),
      ].join("\n"),
    )
    .join("\n");
}

/** Of a run: what it waits for, or why it failed. */
export async function explainRun(session: Session, engine: Engine<Services>, run: RunView): Promise<number> {
  const reasons = await reasonsOfRun(engine, await session.services(), run);
  session.output.data({ run, reasons }, (paint) => {
    const head = `${run.state}  ${paint.bold(run.title)}`;
    const error = run.state === "failed" && run.error !== undefined ? [describeError(run.error, paint).trimEnd()] : [];
    const none = run.state === "done" ? "Nothing is in its way: it is done." : "No step is open.";
    return [head, describeReasons(reasons, paint, none), ...error].join("\n");
  });
  return EXIT.done;
}
