import type { Engine } from "../../durable/index.ts";
import {
  composeLocation,
  inspectCompose,
  type ReleaseOutcome,
  type Services,
  startRelease,
} from "../../workflows/index.ts";
import { follow } from "../follow.ts";
import { EXIT, type Paint, table } from "../output.ts";
import type { Session } from "../session.ts";

export interface ReleaseOptions {
  readonly system?: string;
  readonly wait?: boolean;
  readonly force?: boolean;
  readonly as?: "candidate";
}

/** Releases a compose in every system that takes it, and follows until all is done. Safe to repeat. */
export async function release(session: Session, compose: string, options: ReleaseOptions): Promise<number> {
  const engine = await session.engine("command");
  return releaseWith(session, engine, compose, options);
}

export async function releaseWith(
  session: Session,
  engine: Engine<Services>,
  compose: string,
  options: ReleaseOptions,
): Promise<number> {
  const services = await session.planning();
  const inspected = await inspectCompose(composeLocation(compose), services, session.call, options.system);
  const composeId = inspected.compose.id;
  const outcomes: ReleaseOutcome[] = [];
  for (const { system } of inspected.selections) {
    const as = options.as === undefined ? {} : { as: options.as };
    const request = { location: inspected.compose.location, composeId, system, ...as };
    const started = await startRelease(engine, request, { force: options.force === true });
    const how = { started: "run", joined: "joined run", finished: "already released by run" }[started.how];
    session.output.say(`${composeId} in ${system}: ${how} ${started.runId}`);
    if (options.wait === false) continue;
    if (started.how !== "finished") await follow(session, engine, started.runId);
    session.signal.throwIfAborted();
    outcomes.push(await started.handle.result());
  }
  if (options.wait === false) return EXIT.done;
  session.output.data(outcomes.length === 1 ? asData(outcomes[0]!) : outcomes.map(asData), (paint) =>
    outcomes.map((outcome) => describeOutcome(outcome, paint)).join("\n\n"),
  );
  return exitOf(outcomes);
}

export function exitOf(outcomes: readonly ReleaseOutcome[]): number {
  if (outcomes.every((outcome) => outcome.result === "done" || outcome.result === "nothing")) return EXIT.done;
  return outcomes.every((outcome) => outcome.result === "failed") ? EXIT.failed : EXIT.partial;
}

/** Image → target → region → id: a shape to look things up in, not a list to search. */
export function asData(outcome: ReleaseOutcome) {
  const images: Record<string, Record<string, object>> = {};
  for (const target of outcome.groups.flatMap((group) => group.targets)) {
    images[target.name] = {
      ...images[target.name],
      [target.target]: {
        cloud: target.cloud,
        arch: target.arch,
        state: target.state,
        regions: target.regions,
        ...(target.missing.length === 0
          ? {}
          : { missing: Object.fromEntries(target.missing.map(({ region, error }) => [region, error])) }),
        ...(target.error === undefined ? {} : { error: target.error }),
      },
    };
  }
  const { composeId, system, result, skipped } = outcome;
  const unattested = outcome.groups.flatMap((group) => (group.unattested === undefined ? [] : [group.unattested]));
  return { compose: composeId, system, result, images, skipped, ...(unattested.length === 0 ? {} : { unattested }) };
}

export function describeOutcome(outcome: ReleaseOutcome, paint: Paint): string {
  const states = { active: paint.good("offered"), candidate: paint.warn("candidate"), failed: paint.bad("failed") };
  const targets = outcome.groups.flatMap((group) => group.targets);
  const rows = targets.map((target) => {
    const ids = Object.values(target.regions);
    const where = ids.length > 1 ? `${ids[0]} and ${ids.length - 1} more regions` : (ids[0] ?? "");
    const note = target.error === undefined ? where : target.error.message;
    return [states[target.state], target.target, target.arch, target.name, note];
  });
  const results = {
    done: paint.good(`${outcome.composeId} is released.`),
    partial: paint.warn(`${outcome.composeId} is released in part. "slipway runs retry --last" does the rest.`),
    failed: paint.bad(`${outcome.composeId} is not released.`),
    nothing: `${outcome.composeId} has nothing that ${outcome.system} releases.`,
  };
  const missing = targets.flatMap((target) =>
    target.missing.map(
      ({ region, error }) => `${paint.warn("!")} ${target.name} is not in ${region}: ${error.message}`,
    ),
  );
  const unattested = outcome.groups.flatMap(({ unattested }) =>
    unattested === undefined ? [] : [`${paint.warn("!")} not attested: ${unattested.message}`],
  );
  return [
    table(["state", "target", "arch", "name", "id"], rows, paint),
    ...missing,
    ...new Set(unattested),
    results[outcome.result],
  ].join("\n");
}
