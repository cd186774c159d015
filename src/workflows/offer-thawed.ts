/** When a freeze window ends, what it held is offered without a person. */
import type { Engine } from "../durable/index.ts";
import type { Choice } from "./chosen.ts";
import { windowAt } from "./freeze.ts";
import type { Services } from "./services.ts";
import { startOffer } from "./start-offer.ts";

/**
 * Starts the promotion of everything whose window is over, one run for each compose and system. Safe to repeat and to do
 * side by side: a run of the same choice is joined.
 * @returns ids of the runs
 */
export async function offerThawed(engine: Engine<Services>, services: Services): Promise<string[]> {
  const { db, automation } = services;
  const now = services.now();
  const rows = await db
    .selectFrom("held_offers")
    .selectAll()
    .where("offered_by", "is", null)
    .where("until_at", "<=", now)
    .orderBy("held_at")
    .execute();
  const releases = new Map<string, typeof rows>();
  for (const row of rows) {
    // The window was made longer, or another one has begun.
    if (windowAt(automation.freeze, now, row.system) !== undefined) continue;
    const id = JSON.stringify([row.compose_id, row.system]);
    releases.set(id, [...(releases.get(id) ?? []), row]);
  }
  const started: string[] = [];
  for (const held of releases.values()) {
    const choice: Choice = {
      images: held.flatMap((row) => row.choice.images as unknown as Choice["images"]),
      containers: held.flatMap((row) => row.choice.containers),
    };
    const { compose_id: composeId, system, reason } = held[0]!;
    // Its policy was met when it was held.
    const request = { verb: "promote", choice, allowMissing: true } as const;
    const { runId } = await startOffer(engine, request, `${composeId} after the freeze (${reason})`);
    await db
      .updateTable("held_offers")
      .set({ offered_by: runId })
      .where("compose_id", "=", composeId)
      .where("system", "=", system)
      .where(
        "group_id",
        "in",
        held.map((row) => row.group_id),
      )
      .where("offered_by", "is", null)
      .execute();
    started.push(runId);
  }
  return started;
}
