import {
  composeLocation,
  inspectCompose,
  livePlan,
  offlinePlan,
  type Plan,
  type PlanItem,
} from "../../workflows/index.ts";
import { EXIT, type Paint, table } from "../output.ts";
import type { Session } from "../session.ts";

export interface PlanOptions {
  readonly system?: string;
  readonly offline?: boolean;
  readonly detailedExitcode?: boolean;
}

/** Shows what a release would do. Nothing is downloaded but metadata, nothing is changed. */
export async function plan(session: Session, compose: string, options: PlanOptions): Promise<number> {
  const services = await session.planning();
  const { selections } = await inspectCompose(composeLocation(compose), services, session.call, options.system);
  const plans: Plan[] = [];
  for (const selection of selections) {
    plans.push(options.offline === true ? offlinePlan(selection) : await livePlan(selection, services, session.call));
  }
  session.output.data(plans.length === 1 ? plans[0] : plans, (paint) =>
    plans.map((one) => describePlan(one, paint)).join("\n\n"),
  );
  const changes = plans.some((one) => one.items.some((item) => !isDone(item)));
  return options.detailedExitcode === true && changes ? EXIT.changes : EXIT.done;
}

function describePlan(found: Plan, paint: Paint): string {
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
