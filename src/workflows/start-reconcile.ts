/** What is compared, and how such a run begins. */
import type { Kysely } from "kysely";
import { listContainers, listImages } from "../catalog/catalog.ts";
import type { Engine, RunHandle } from "../durable/index.ts";
import { type Choice, choose } from "./chosen.ts";
import { type ReconcileOutcome, reconcileImages } from "./reconcile-images.ts";
import type { Services, Tables } from "./services.ts";
import { startOnce } from "./start-once.ts";

/** Newest images that are compared when nobody says which: half a year of Fedora in 22 regions. */
const NEWEST = 20_000;

/** What people named, or the newest of everything that is not removed. */
export async function choiceToCompare(
  db: Kysely<Tables>,
  names: readonly string[],
  only: { readonly system?: string | undefined; readonly target?: string | undefined },
): Promise<Choice> {
  if (names.length > 0) return choose(db, names, only);
  const rows = await listImages(db, { ...only, limit: NEWEST });
  const containers = (await listContainers(db, { system: only.system, limit: NEWEST })).filter(
    ({ target }) => only.target === undefined || target === only.target,
  );
  return {
    ...imagesOf(rows.filter((row) => row.state !== "removed" && row.state !== "obsolete")),
    containers: containers.map(({ id }) => id).sort(),
  };
}

/** Versions that are out and lack a region: what a schedule catches up with. */
export async function choiceToHeal(db: Kysely<Tables>): Promise<Choice> {
  const missing = await listImages(db, { state: "missing", limit: NEWEST });
  const healing: typeof missing = [];
  for (const { id, target } of imagesOf(missing).images.map((one) => ({ id: one.versionId, target: one.target }))) {
    const rows = await listImages(db, { versionId: id, target });
    if (rows.some((row) => row.state === "active")) healing.push(...rows);
  }
  return imagesOf(healing);
}

function imagesOf(rows: readonly { version: { id: string }; target: string }[]): Choice {
  const images = new Map(
    rows.map((row) => [`${row.version.id} ${row.target}`, { versionId: row.version.id, target: row.target }]),
  );
  return { images: [...images.values()], containers: [] };
}

/** Joins a run of the same choice that is under way; `id` makes it one run for whoever starts it. */
export async function startReconcile(
  engine: Engine<Services>,
  choice: Choice,
  options: { readonly strays: boolean; readonly title: string; readonly id?: string },
): Promise<{ readonly runId: string; readonly handle: RunHandle<ReconcileOutcome> }> {
  const { strays, title, id } = options;
  const input = { choice, strays };
  if (id === undefined) {
    return startOnce(engine, reconcileImages, input, { verb: "reconcile", thing: [choice, strays], title });
  }
  const labels = { reconcile: id, ...HEALING };
  return {
    runId: id,
    handle: await engine.start(reconcileImages, input, { runId: id, queue: "offers", title, labels }),
  };
}

/** Marks the runs of the schedule. */
const HEALING = { heal: "late regions" };

/**
 * One run a period however many services there are, and none while an earlier one is at it: where regions are slow, runs
 * would pile up and only slow each other. Resolves to undefined if there is nothing to catch up with.
 */
export async function healOnce(
  engine: Engine<Services>,
  db: Kysely<Tables>,
  period: { readonly now: number; readonly everyMs: number },
): Promise<string | undefined> {
  const choice = await choiceToHeal(db);
  if (choice.images.length === 0) return undefined;
  const underWay = await engine.list({ labels: HEALING, state: ["waiting", "running"], rootsOnly: true, limit: 1 });
  if (underWay.length > 0) return undefined;
  const id = `heal.${Math.floor(period.now / period.everyMs)}`;
  return (await startReconcile(engine, choice, { strays: false, title: "catch up with late regions", id })).runId;
}
