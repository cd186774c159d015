/** `images promote` and `images rollback`: what is a candidate becomes what users get, and back. */

import { SlipwayError } from "../../lib/errors.ts";
import {
  type Choice,
  choose,
  lookAtChosen,
  type OfferOutcome,
  type OfferRequest,
  readChosen,
  type Services,
  startOffer,
  whyNotPromoted,
  windowAt,
} from "../../workflows/index.ts";
import { follow } from "../follow.ts";
import { describeError, EXIT, type Paint, table } from "../output.ts";
import type { Session } from "../session.ts";

interface CommonOptions {
  readonly system?: string;
  readonly target?: string;
  readonly dryRun?: boolean;
}

/** Offers candidates everywhere in one batch. Exit 77: a part of it could not be taken back, or lacks a region. */
export async function promote(
  session: Session,
  names: readonly string[],
  options: CommonOptions & { allowMissing?: boolean; despiteFreeze?: boolean },
): Promise<number> {
  const services = await session.services();
  const { db } = services;
  const choice = await choose(db, names, options);
  if (options.dryRun !== true && options.despiteFreeze !== true) await refuseInFreeze(services, choice);
  const allowMissing = options.allowMissing === true;
  if (options.dryRun === true) return rehearse(session, choice, "active", allowMissing);
  return carryOut(session, { verb: "promote", choice, allowMissing }, names);
}

/** @throws SlipwayError `conflict` while a window holds what is chosen */
async function refuseInFreeze(services: Services, choice: Choice): Promise<void> {
  const { images, containers } = await readChosen(services.db, choice);
  const systems = new Set([...images, ...containers].map(({ facts }) => facts.system));
  for (const system of systems) {
    const window = windowAt(services.automation.freeze, services.now(), system);
    if (window === undefined) continue;
    throw new SlipwayError("conflict", `nothing of ${system} is offered now: ${window.reason}`, {
      subject: `freeze window until ${new Date(window.until).toISOString()}`,
      next: "Wait for its end, or offer it all the same with --despite-freeze.",
    });
  }
}

/** Takes back what was offered, in every cloud. Exit 77: some regions did not answer; a repeat does the rest. */
export async function rollback(
  session: Session,
  names: readonly string[],
  options: CommonOptions & { deprecate?: boolean },
): Promise<number> {
  const { db } = await session.services();
  const choice = await choose(db, names, options);
  const to = options.deprecate === true ? "deprecated" : "candidate";
  if (options.dryRun === true) return rehearse(session, choice, to, true);
  return carryOut(session, { verb: "rollback", choice, to }, names);
}

async function carryOut(session: Session, request: OfferRequest, names: readonly string[]): Promise<number> {
  const engine = await session.engine("command");
  const started = await startOffer(engine, request, names.join(", "));
  session.output.say(`${request.verb}: ${started.how === "joined" ? "joined run" : "run"} ${started.runId}`);
  await follow(session, engine, started.runId);
  session.signal.throwIfAborted();
  const outcome = await started.handle.result();
  session.output.data(outcome, (paint) => describeOffer(outcome, paint));
  return exitOfOffer(outcome);
}

export function exitOfOffer({ result }: OfferOutcome): number {
  return { done: EXIT.done, nothing: EXIT.done, partial: EXIT.partial, failed: EXIT.failed }[result];
}

export function describeOffer(outcome: OfferOutcome, paint: Paint): string {
  const rows = outcome.images.map((image) => {
    const failed = image.failed.map(({ region, error }) => `not in ${region}: ${error.message}`).join("; ");
    const count = Object.keys(image.regions).length;
    return [image.state, image.target, image.arch, image.name, failed || `${count} region${count === 1 ? "" : "s"}`];
  });
  for (const one of outcome.containers) {
    const tags = Object.entries(one.tags).map(([tag, digest]) => `${tag} → ${digest?.slice(0, 19) ?? "gone"}`);
    const later = one.moved.map((tag) => `${tag} belongs to a later version`);
    const note = one.error?.message ?? [...tags, ...later].join(", ");
    rows.push([one.state, one.target, "", `${one.registry}/${one.repository}`, note]);
  }
  const ends = {
    done: paint.good("Done."),
    partial: paint.warn("Done in part. The same command again does the rest."),
    failed: paint.bad("Nothing was changed."),
    nothing: "It was so before. Nothing was changed.",
  };
  const parts = [table(["state", "target", "arch", "name", "where"], rows, paint)];
  if (outcome.error !== undefined) {
    parts.push(describeError({ ...outcome.error, code: outcome.error.code as never }, paint).trimEnd());
  }
  if (outcome.offerSeconds !== undefined) parts.push(`Offered within ${outcome.offerSeconds.toFixed(1)} s.`);
  if (outcome.witnessed > 0) parts.push(`A second identity was asked about ${outcome.witnessed} images.`);
  return [...parts, ends[outcome.result]].join("\n");
}

/** What would be changed, from the catalog and the clouds as they are. */
async function rehearse(
  session: Session,
  choice: Choice,
  to: "active" | "candidate" | "deprecated",
  allowMissing: boolean,
): Promise<number> {
  const services = await session.services();
  const looked = await lookAtChosen(await readChosen(services.db, choice), services, session.call);
  const refused = to === "active" ? whyNotPromoted(looked, allowMissing) : undefined;
  const images = looked.images.map(({ name, target, cloud, arch, images: all, missing, absent }) => ({
    name,
    target,
    cloud,
    arch,
    to,
    change: Object.fromEntries(all.filter(({ state }) => state !== to).map(({ region, id }) => [region, id])),
    absent: [...missing, ...absent].map(({ region }) => region),
  }));
  const indexTo = to === "active" ? "active" : "candidate";
  const containers = looked.containers.map(({ repository, target, registry, digest, state, floating }) => ({
    repository,
    target,
    registry,
    digest,
    to: indexTo,
    tags: state === indexTo ? [] : floating,
  }));
  session.output.data({ images, containers, ...(refused === undefined ? {} : { refused }) }, (paint) => {
    const rows = images.map((image) => {
      const regions = Object.keys(image.change).join(", ") || paint.dim("nothing to do");
      return [image.to, image.target, image.arch, image.name, regions];
    });
    for (const one of containers) {
      const tags = one.tags.join(", ") || paint.dim("nothing to do");
      rows.push([one.to, one.target, "", `${one.registry}/${one.repository}`, tags]);
    }
    const parts = [table(["to", "target", "arch", "name", "where"], rows, paint)];
    if (refused !== undefined) parts.push(describeError({ ...refused, code: refused.code as never }, paint).trimEnd());
    return parts.join("\n");
  });
  return refused === undefined ? EXIT.done : EXIT.failed;
}
