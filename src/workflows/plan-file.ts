/** A plan that was written down, and whether the world is still what it was made for. Pure. */
import { z } from "zod";
import type { Plan, PlanItem } from "../compose/index.ts";
import { SlipwayError } from "../lib/errors.ts";
import type { Preflight } from "./preflight.ts";

export interface PlanWithPreflight extends Plan {
  readonly preflight?: Preflight;
}

const item = z.looseObject({
  target: z.string(),
  arch: z.string(),
  name: z.string(),
  artifact: z.string(),
  sha256: z.string(),
  regions: z.record(z.string(), z.string()),
  reason: z.string().optional(),
});

const planFile = z.object({
  slipway_plan: z.literal(1),
  location: z.string(),
  made_at: z.string(),
  plans: z
    .array(
      z.looseObject({
        compose: z.string(),
        system: z.string(),
        items: z.array(item),
        preflight: z.looseObject({ findings: z.array(z.unknown()) }).optional(),
      }),
    )
    .min(1),
});

export type PlanFile = z.output<typeof planFile>;

export function writePlan(location: string, plans: readonly PlanWithPreflight[], madeAt: Date): string {
  return `${JSON.stringify({ slipway_plan: 1, location, made_at: madeAt.toISOString(), plans }, null, 2)}\n`;
}

/** @throws SlipwayError `invalid` for a file that is no plan */
export function readPlan(text: string, path: string): PlanFile {
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch {
    data = undefined;
  }
  const parsed = planFile.safeParse(data);
  if (parsed.success) return parsed.data;
  throw new SlipwayError("invalid", "this is no plan", {
    subject: path,
    next: '"slipway plan COMPOSE --out FILE" writes one.',
  });
}

/** Exactly what is not as it was, a line each; empty if nothing moved. */
export function whatMoved(then: PlanFile["plans"][number], now: Plan): string[] {
  if (then.compose !== now.compose) return [`the compose there is ${now.compose}, not ${then.compose}`];
  const moved: string[] = [];
  const keyOf = ({ target, arch, name }: Pick<PlanItem, "target" | "arch" | "name">) =>
    `${name} (${arch}) in ${target}`;
  const before = new Map(then.items.map((one) => [keyOf(one), one]));
  for (const item of now.items) {
    const key = keyOf(item);
    const old = before.get(key);
    before.delete(key);
    if (old === undefined) {
      moved.push(`${key} is new`);
      continue;
    }
    if (old.sha256 !== item.sha256)
      moved.push(
        `${key} is made from other bytes: ${old.artifact} was ${old.sha256}, ${item.artifact} is ${item.sha256}`,
      );
    for (const region of [...new Set([...Object.keys(old.regions), ...Object.keys(item.regions)])].sort()) {
      const [was, is] = [old.regions[region], item.regions[region]];
      if (was !== is) moved.push(`${key}, ${region}: ${was ?? "not planned"} then, ${is ?? "not planned"} now`);
    }
    if (old.reason !== item.reason) moved.push(`${key}: ${item.reason ?? `no longer: ${old.reason}`}`);
  }
  for (const key of before.keys()) moved.push(`${key} is not planned any more`);
  return moved;
}
