import { type Alarm, alarmKey } from "./alarm.ts";
import { watchedSince } from "./keep.ts";
import { forPeople, moment } from "./text.ts";
import { RELEASE_WORKFLOW, type World } from "./watch.ts";

/** A system that something is expected for. Milliseconds. */
export interface Expected {
  readonly system: string;
  readonly every: number;
}

/**
 * `compose-missing`: no release was begun and nothing was cataloged for a system within the time it says, or since it is
 * watched. A release that failed has arrived: `run-failed` tells of it.
 */
export async function watchComposes(
  { db, runs, now }: World,
  expected: readonly Expected[],
  grace: number,
): Promise<Alarm[]> {
  if (expected.length === 0) return [];
  const [since, cataloged] = await Promise.all([
    watchedSince(
      db,
      expected.map(({ system }) => nameOf(system)),
      now,
    ),
    lastCataloged(db),
  ]);
  const alarms: Alarm[] = [];
  for (const { system, every } of expected) {
    const [run] = await runs.list({ workflow: RELEASE_WORKFLOW, labels: { system }, rootsOnly: true, limit: 1 });
    const arrived = Math.max(run?.createdAt ?? 0, cataloged.get(system)?.getTime() ?? 0);
    const from = arrived > 0 ? arrived : (since.get(nameOf(system)) ?? now).getTime();
    if (now.getTime() - from < every + grace) continue;
    const last = arrived > 0 ? `the last one came at ${moment(new Date(arrived))}` : "none ever came";
    alarms.push({
      ...{ key: alarmKey("compose-missing", system), kind: "compose-missing", severity: "error", subject: system },
      message: `No compose of ${system} has arrived for ${forPeople(now.getTime() - from)}; one is expected every ${forPeople(every)}, and ${last}.`,
      next: `Look whether it was built. If it was, see what became of its event: slipway events list --since 2d. By hand: slipway release COMPOSE --system ${system}`,
    });
  }
  return alarms;
}

async function lastCataloged(db: World["db"]): Promise<ReadonlyMap<string, Date>> {
  const newest = (table: "image_versions" | "container_images") =>
    db
      .selectFrom(table)
      .select((all) => ["system", all.fn.max("created_at").as("at")])
      .groupBy("system")
      .execute();
  const found = new Map<string, Date>();
  for (const { system, at } of [...(await newest("image_versions")), ...(await newest("container_images"))]) {
    const when = at as Date;
    const known = found.get(system);
    if (known === undefined || known < when) found.set(system, when);
  }
  return found;
}

/** In the list of what is watched. */
function nameOf(system: string): string {
  return `system ${system}`;
}
