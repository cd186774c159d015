import type { Kysely } from "kysely";
import { listImages } from "../../catalog/catalog.ts";
import { specsOf } from "../../catalog/offers.ts";
import type { CloudResource } from "../../clouds/cloud.ts";
import { defineStep } from "../../durable/index.ts";
import type { CallContext } from "../../lib/call.ts";
import { reportOf } from "../../lib/errors.ts";
import { hours } from "../../lib/units.ts";
import { type Choice, type ChosenContainer, readChosen } from "../chosen.ts";
import { audienceDrift, type Drift, driftOf, straysOf } from "../drift.ts";
import { cloudRetry } from "../policies.ts";
import type { Ctx, Services, Tables } from "../services.ts";
import { compareContainers } from "./compare-containers.ts";
import { type LookedAt, lookAtChosen } from "./look-at-images.ts";

export interface Comparison {
  readonly drift: readonly Drift[];
  readonly looked: readonly LookedAt[];
  readonly containers: readonly ChosenContainer[];
}

/** Compares a choice of the catalog with the clouds; with `strays`, also what lies in the accounts and is on no record. */
export const compareImagesStep = defineStep({
  name: "compare-images",
  retry: cloudRetry,
  timeoutMs: hours(1),
  run: (ctx: Ctx, input: { choice: Choice; strays: boolean }): Promise<Comparison> =>
    compareImages(ctx.services, input.choice, input.strays, ctx),
});

export async function compareImages(
  services: Services,
  choice: Choice,
  strays: boolean,
  call: CallContext,
): Promise<Comparison> {
  const { images, containers } = await lookAtChosen(await readChosen(services.db, choice), services, call);
  const drift: Drift[] = await compareContainers(services, containers, call);
  for (const target of [...new Set(images.map((image) => image.target))].sort()) {
    const ours = images.filter((image) => image.target === target);
    const regions = [...new Set(ours.flatMap((image) => image.spec.regions))].sort();
    const { resources, error, canRetag } = await listed(services, target, regions, call);
    const held = new Map(resources.map((resource) => [`${resource.region} ${resource.id}`, resource]));
    for (const image of ours) {
      drift.push(...driftOf(image, held, canRetag), ...(await audiencesOf(services, image, call)));
    }
    if (error !== undefined) {
      drift.push({ kind: "silent", target, region: "", name: "everything else", error, repairable: false });
    } else if (strays) drift.push(...straysOf(target, resources, await onRecord(services.db, target)));
  }
  return {
    drift,
    looked: images.filter((image) => drift.some((one) => concerns(one, image))),
    containers: containers.filter((container) => drift.some((one) => concernsContainer(one, container))),
  };
}

export function concernsContainer(drift: Drift, { target, registry, repository, digest }: ChosenContainer): boolean {
  return drift.target === target && drift.name === `${registry}/${repository}` && drift.id === digest;
}

export function concerns(drift: Drift, image: LookedAt): boolean {
  return drift.target === image.target && drift.name === image.name;
}

/** Asked of what is offered on record and in the cloud; a region that does not answer is reported as silent already. */
async function audiencesOf(services: Services, looked: LookedAt, call: CallContext): Promise<Drift[]> {
  const offered = looked.images.filter(({ region, state }) => state === "active" && looked.known[region] === "active");
  const { audience } = services.targets.facts(looked.target);
  if (offered.length === 0 || audience.to === "nobody") return [];
  const cloud = await services.targets.cloud(looked.target, call);
  if (cloud.strangers === undefined) return [];
  const found = await Promise.all(
    offered.map(async (image) => {
      try {
        return audienceDrift(looked, image, await cloud.strangers!(image, audience, call));
      } catch (error) {
        call.signal.throwIfAborted();
        call.log.warn("who is let in cannot be told", { target: looked.target, id: image.id, error: reportOf(error) });
        return [];
      }
    }),
  );
  return found.flat();
}

async function listed(services: Services, target: string, regions: readonly string[], call: CallContext) {
  const resources: CloudResource[] = [];
  try {
    const cloud = await services.targets.cloud(target, call);
    for await (const resource of cloud.list(regions, call)) resources.push(resource);
    return { resources, canRetag: cloud.retag !== undefined };
  } catch (error) {
    call.signal.throwIfAborted();
    return { resources, error: reportOf(error), canRetag: false };
  }
}

/** Of the whole catalog: an image of another compose is no stray. */
async function onRecord(db: Kysely<Tables>, target: string) {
  const rows = await listImages(db, { target, limit: 1_000_000 });
  const specs = await specsOf(
    db,
    rows.map((row) => row.version.id),
  );
  const keys = new Set<string>(rows.map((row) => row.key));
  for (const spec of specs.values()) keys.add(spec.diskKey);
  return { keys, ids: new Set(rows.map((row) => `${row.region} ${row.id ?? ""}`)) };
}
