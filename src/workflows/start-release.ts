/** How a release begins: which systems take the compose, and under which id it runs. */
import { type Compose, readCompose, type Selection, selectImages, systemTakes } from "../compose/index.ts";
import type { Engine, RunHandle, RunView } from "../durable/index.ts";
import type { CallContext } from "../lib/call.ts";
import { SlipwayError } from "../lib/errors.ts";
import { fetchComposeFiles } from "./compose-files.ts";
import type { ReleaseOutcome } from "./groups.ts";
import { type ReleaseInput, releaseCompose } from "./release-compose.ts";
import type { PlanningServices, Services } from "./services.ts";

export interface Inspected {
  readonly compose: Compose;
  /** One a system that takes this compose. */
  readonly selections: readonly Selection[];
}

/**
 * Reads a compose and what it means to every system, or to the one named. Only metadata is fetched.
 * @throws SlipwayError `invalid` for a compose that is not finished, `not-found` if no system takes it
 */
export async function inspectCompose(
  location: string,
  services: PlanningServices,
  call: CallContext,
  only?: string,
): Promise<Inspected> {
  const compose = readCompose(await fetchComposeFiles(location, services.sources, call));
  if (compose.status !== undefined && !["FINISHED", "FINISHED_INCOMPLETE"].includes(compose.status)) {
    throw new SlipwayError("invalid", `${compose.id} is ${compose.status}; only finished composes are released`, {
      subject: location,
      next: "Wait for FINISHED or FINISHED_INCOMPLETE.",
    });
  }
  const named = services.systems.filter((system) => only === undefined || system.name === only);
  if (only !== undefined && named.length === 0) {
    throw new SlipwayError("not-found", `no system is called ${only}`, {
      subject: "systems",
      next: `The configuration has: ${services.systems.map((system) => system.name).join(", ")}.`,
    });
  }
  const verdicts = named.map((system) => systemTakes(compose, system, services.releases));
  const takers = named.filter((_, position) => verdicts[position]!.takes);
  if (takers.length === 0) {
    const reasons = verdicts.flatMap((verdict) => (verdict.takes ? [] : [verdict.reason]));
    throw new SlipwayError("not-found", `no system takes ${compose.id}`, {
      subject: location,
      tried: reasons.join("; ") || "no system is configured",
      next: "See `composes:` of the systems in the configuration.",
    });
  }
  const targets = services.targets.plan;
  return { compose, selections: takers.map((system) => selectImages(compose, system, services.releases, targets)) };
}

export interface StartedRelease {
  readonly runId: string;
  /** `finished`: done before, nothing was started. `joined`: somebody had started it and it runs. */
  readonly how: "started" | "joined" | "finished";
  readonly handle: RunHandle<ReleaseOutcome>;
}

/**
 * Starts the release of a compose in a system, once: whoever asks first, from whichever process. A run that is under
 * way is joined, one that did everything is returned, one that failed in part is followed by a new generation, which
 * finds what is there and does the rest. So is one that stopped at candidates when the whole release is asked for.
 */
export async function startRelease(
  engine: Engine<Services>,
  release: ReleaseInput,
  options: { force?: boolean } = {},
): Promise<StartedRelease> {
  const labels = { compose: release.composeId, system: release.system };
  const earlier = (await engine.list({ labels, workflow: releaseCompose.name, rootsOnly: true, limit: 1000 })).sort(
    (a, b) => generationOf(b) - generationOf(a),
  );
  const latest = earlier[0];
  let how: StartedRelease["how"] = "started";
  let generation = 1;
  if (latest !== undefined) {
    generation = generationOf(latest);
    if (latest.state === "waiting" || latest.state === "running") how = "joined";
    else if (
      latest.state === "done" &&
      options.force !== true &&
      (latest.labels.as === undefined || latest.labels.as === release.as) &&
      (await didEverything(engine, latest.id))
    )
      how = "finished";
    else generation++;
  }
  const runId = `${release.composeId}.${release.system}.${generation}`;
  const handle = await engine.start(releaseCompose, release, {
    runId,
    queue: "releases",
    title: `${release.composeId} → ${release.system}`,
    labels: { ...labels, location: release.location, ...(release.as === undefined ? {} : { as: release.as }) },
  });
  return { runId, how, handle };
}

async function didEverything(engine: Engine<Services>, runId: string): Promise<boolean> {
  const outcome = (await engine.result(runId)) as ReleaseOutcome;
  return outcome.result === "done" || outcome.result === "nothing";
}

function generationOf(run: RunView): number {
  return Number(run.id.slice(run.id.lastIndexOf(".") + 1)) || 0;
}
