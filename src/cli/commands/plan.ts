import { readFile, writeFile } from "node:fs/promises";
import { SlipwayError } from "../../lib/errors.ts";
import {
  askPreflight,
  composeLocation,
  inspectCompose,
  livePlan,
  offlinePlan,
  type PlanItem,
  type PlanWithPreflight,
  readPlan,
  whatMoved,
  writePlan,
} from "../../workflows/index.ts";
import { EXIT, harmless, type Paint, table } from "../output.ts";
import type { Session } from "../session.ts";
import { describePreflight } from "./preflight.ts";
import { release } from "./release.ts";

export interface PlanOptions {
  readonly system?: string;
  readonly offline?: boolean;
  readonly detailedExitcode?: boolean;
  readonly out?: string;
}

/** Shows what a release would do and what it would meet. Nothing is downloaded but metadata, nothing is changed. */
export async function plan(session: Session, compose: string, options: PlanOptions): Promise<number> {
  if (options.out !== undefined && options.offline === true) {
    throw new SlipwayError("invalid", "a plan that asked no cloud cannot be applied", {
      next: "Leave out --offline, or --out.",
    });
  }
  const location = composeLocation(compose);
  const plans = await plansOf(session, location, options);
  if (options.out !== undefined) await writeFile(options.out, writePlan(location, plans, new Date()));
  session.output.data(plans.length === 1 ? plans[0] : plans, (paint) =>
    plans.map((one) => describePlan(one, paint)).join("\n\n"),
  );
  if (options.out !== undefined)
    session.output.say(`Written to ${options.out}; "slipway apply ${options.out}" does it.`);
  const changes = plans.some((one) => one.items.some((item) => !isDone(item)));
  return options.detailedExitcode === true && changes ? EXIT.changes : EXIT.done;
}

/** Does what a plan says, if the world is still what it was made for; else says exactly what moved and does nothing. */
export async function apply(session: Session, path: string, options: { wait?: boolean }): Promise<number> {
  const file = readPlan(
    await readFile(path, "utf8").catch((cause: unknown) => {
      throw new SlipwayError("not-found", "the plan cannot be read", { subject: path, cause });
    }),
    path,
  );
  const system = file.plans.length === 1 ? { system: file.plans[0]!.system } : {};
  const now = await plansOf(session, file.location, { ...system, offline: false });
  const moved = file.plans.flatMap((then) => {
    const same = now.find((one) => one.system === then.system);
    return same === undefined ? [`${then.system} does not take it any more`] : whatMoved(then, same);
  });
  for (const one of now) {
    if (!file.plans.some(({ system: name }) => name === one.system)) moved.push(`${one.system} takes it too now`);
  }
  const blocking = now.flatMap(({ preflight }) => preflight?.findings ?? []).filter((one) => one.severity === "error");
  const known = new Set(file.plans.flatMap((one) => one.preflight?.findings ?? []).map((one) => JSON.stringify(one)));
  for (const one of blocking) {
    if (!known.has(JSON.stringify(one)))
      moved.push(`${one.target}${one.region ? ` ${one.region}` : ""}: ${one.message}`);
  }
  if (moved.length > 0) {
    for (const line of moved) session.output.say(`  ${harmless(line)}`);
    throw new SlipwayError("conflict", `the world has moved since the plan was made (${file.made_at})`, {
      subject: path,
      tried: moved.join("; "),
      next: `Look at it and plan again: slipway plan ${file.location} --out ${path}`,
    });
  }
  return release(session, file.location, { ...system, ...(options.wait === undefined ? {} : { wait: options.wait }) });
}

async function plansOf(session: Session, location: string, options: PlanOptions): Promise<PlanWithPreflight[]> {
  const services = await session.planning();
  const { selections } = await inspectCompose(location, services, session.call, options.system);
  // A shadow asks no cloud.
  const offline = options.offline === true || (await session.config()).shadow !== undefined;
  const plans: PlanWithPreflight[] = [];
  for (const selection of selections) {
    if (offline) {
      plans.push(offlinePlan(selection));
      continue;
    }
    const live = await livePlan(selection, services, session.call);
    plans.push({ ...live, preflight: await askPreflight(selection, live, services, session.call) });
  }
  return plans;
}

function describePlan(found: PlanWithPreflight, paint: Paint): string {
  const rows = found.items.map((item) => [
    verbOf(item, paint),
    item.cloud,
    item.target,
    item.arch,
    item.name,
    regionsOf(item),
  ]);
  const head = `${paint.bold(found.compose)} in ${paint.bold(found.system)}`;
  const parts = [head, table(["", "cloud", "target", "arch", "name", "regions"], rows, paint)];
  const reasons = found.items.filter((item) => item.reason !== undefined);
  if (reasons.length > 0)
    parts.push(reasons.map((item) => `${paint.warn("!")} ${item.name}: ${item.reason}`).join("\n"));
  if (found.skipped.length > 0) {
    const skipped = found.skipped.map(({ artifact, reason }) => [artifact.split("/").at(-1)!, reason]);
    parts.push(`${paint.bold("Skipped")}\n${table(["artifact", "because"], skipped, paint)}`);
  }
  if (found.preflight !== undefined) parts.push(...describePreflight(found.preflight, paint));
  const todo = found.items.filter((item) => !isDone(item)).length;
  parts.push(
    todo === 0
      ? paint.good("Everything is there. Nothing to do.")
      : `${todo} of ${found.items.length} images to make. "slipway release" does it.`,
  );
  return parts.join("\n\n");
}

function isDone(item: PlanItem): boolean {
  return Object.values(item.regions).every((verb) => verb === "exists");
}

function verbOf(item: PlanItem, paint: Paint): string {
  if (isDone(item)) return paint.dim("=");
  return Object.values(item.regions).includes("resume") ? paint.warn("~") : paint.good("+");
}

/** `create us-east-1 · copy 21`: a list of 22 regions is read by nobody. */
function regionsOf(item: PlanItem): string {
  const byVerb = new Map<string, string[]>();
  for (const [region, verb] of Object.entries(item.regions)) {
    byVerb.set(verb, [...(byVerb.get(verb) ?? []), region]);
  }
  return [...byVerb]
    .map(([verb, regions]) => `${verb} ${regions.length <= 3 ? regions.join(", ") : `${regions.length} regions`}`)
    .join(" · ");
}
