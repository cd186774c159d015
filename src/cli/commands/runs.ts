import { setTimeout as sleep } from "node:timers/promises";
import type { Engine, LogLine, RunState, RunView, StepView } from "../../durable/index.ts";
import { SlipwayError } from "../../lib/errors.ts";
import { type OfferOutcome, type ReleaseOutcome, type Services, startRelease } from "../../workflows/index.ts";
import { follow } from "../follow.ts";
import { describeError, duration, EXIT, type Paint, table } from "../output.ts";
import type { Session } from "../session.ts";
import { describeOffer, exitOfOffer } from "./offers.ts";
import { asData, describeOutcome, exitOf } from "./release.ts";
import { explainRun } from "./why.ts";

const FOLLOW_LOG_MS = 500;

export async function listRuns(
  session: Session,
  options: { limit: string; state?: string; compose?: string; all?: boolean },
): Promise<number> {
  const engine = await session.engine("command");
  const runs = await engine.list({
    limit: Number(options.limit),
    rootsOnly: options.all !== true,
    ...(options.state === undefined ? {} : { state: options.state as RunState }),
    ...(options.compose === undefined ? {} : { labels: { compose: options.compose } }),
  });
  session.output.data(runs, (paint) =>
    runs.length === 0
      ? `No runs. ${paint.dim('Start one with "slipway release COMPOSE".')}`
      : table(
          ["state", "run", "what", "started", "took"],
          runs.map((run) => [stateOf(run.state, paint), run.id, run.title, clock(run.createdAt), took(run)]),
          paint,
        ),
  );
  return EXIT.done;
}

export async function showRun(session: Session, id: string | undefined, options: { last?: boolean }): Promise<number> {
  const engine = await session.engine("command");
  const run = await engine.status(await runId(engine, id, options));
  const steps = await engine.steps(run.id, { tree: true });
  const outcome = run.state === "done" ? ((await engine.result(run.id)) as ReleaseOutcome | undefined) : undefined;
  session.output.data({ run, steps, outcome }, (paint) => {
    const head = [
      `${stateOf(run.state, paint)}  ${paint.bold(run.title)}`,
      `run       ${run.id}`,
      `started   ${clock(run.createdAt)}${run.endedAt === undefined ? "" : `, took ${took(run)}`}`,
    ];
    const parts = [head.join("\n"), stepTable(steps, paint)];
    if (run.error !== undefined) parts.push(describeError(run.error, paint));
    if (outcome?.groups !== undefined) parts.push(describeOutcome(outcome, paint));
    return parts.join("\n\n");
  });
  return EXIT.done;
}

export async function showLogs(
  session: Session,
  id: string | undefined,
  options: { last?: boolean; follow?: boolean; debug?: boolean },
): Promise<number> {
  const engine = await session.engine("command");
  const run = await runId(engine, id, options);
  let after: string | undefined;
  for (;;) {
    // Asked before the page: what is written while a run ends is still read by the page that follows.
    const ended = !["waiting", "running"].includes((await engine.status(run)).state);
    const page = await engine.logs(run, { tree: true, ...(after === undefined ? {} : { after }) });
    after = page.next;
    for (const line of page.lines) {
      if (line.level === "debug" && options.debug !== true) continue;
      process.stdout.write(
        session.output.json ? `${JSON.stringify(line)}\n` : `${logLine(line, session.output.paint)}\n`,
      );
    }
    if (options.follow !== true || (ended && page.lines.length === 0)) return EXIT.done;
    if (page.lines.length === 0) await sleep(FOLLOW_LOG_MS, undefined, { signal: session.signal });
  }
}

export async function watchRun(session: Session, id: string | undefined, options: { last?: boolean }): Promise<number> {
  const engine = await session.engine("command");
  return finish(session, engine, await runId(engine, id, options));
}

/** Says what a run waits for, or why it failed: the question asked at three in the morning. */
export async function whyRun(session: Session, id: string | undefined, options: { last?: boolean }): Promise<number> {
  const engine = await session.engine("command");
  return explainRun(session, engine, await engine.status(await runId(engine, id, options)));
}

/** Does what an earlier release left undone: a new generation, which finds what is there. */
export async function retryRun(
  session: Session,
  id: string | undefined,
  options: { last?: boolean; wait?: boolean },
): Promise<number> {
  const engine = await session.engine("command");
  const run = await engine.status(await runId(engine, id, options));
  const root = await engine.status(run.root);
  const { compose, system, location } = root.labels;
  if (compose === undefined || system === undefined || location === undefined) {
    throw new SlipwayError("unsupported", "only releases can be retried", { subject: root.id });
  }
  const as = root.labels.as === "candidate" ? { as: "candidate" as const } : {};
  const started = await startRelease(engine, { composeId: compose, system, location, ...as });
  session.output.say(`${started.how === "finished" ? "already done by" : started.how} run ${started.runId}`);
  if (options.wait === false) return EXIT.done;
  return finish(session, engine, started.runId);
}

export async function cancelRun(session: Session, id: string): Promise<number> {
  const engine = await session.engine("command");
  await engine.cancel(id);
  session.output.say(`${id} is cancelled. Nothing it made is removed; "slipway runs resume ${id}" goes on.`);
  return EXIT.done;
}

export async function resumeRun(session: Session, id: string): Promise<number> {
  const engine = await session.engine("command");
  await engine.resume(id);
  return finish(session, engine, id);
}

async function finish(session: Session, engine: Engine<Services>, id: string): Promise<number> {
  await follow(session, engine, id);
  const result = (await engine.result(id)) as ReleaseOutcome;
  if (Array.isArray((result as Partial<OfferOutcome>)?.containers)) {
    const offer = result as unknown as OfferOutcome;
    session.output.data(offer, (paint) => describeOffer(offer, paint));
    return exitOfOffer(offer);
  }
  if (!Array.isArray((result as Partial<ReleaseOutcome>)?.groups)) {
    session.output.data(result, (paint) => paint.good("done"));
    return EXIT.done;
  }
  session.output.data(asData(result), (paint) => describeOutcome(result, paint));
  return exitOf([result]);
}

async function runId(engine: Engine<Services>, id: string | undefined, options: { last?: boolean }): Promise<string> {
  if (id !== undefined) return id;
  if (options.last !== true) {
    throw new SlipwayError("invalid", "which run?", {
      next: 'Give a run\'s id or --last; "slipway runs list" shows them.',
    });
  }
  const [latest] = await engine.list({ rootsOnly: true, limit: 1 });
  if (latest === undefined) throw new SlipwayError("not-found", "there is no run yet");
  return latest.id;
}

function stepTable(steps: readonly StepView[], paint: Paint): string {
  return table(
    ["step", "state", "attempts", "took", "run"],
    steps.map((step) => [
      step.key,
      step.state === "done"
        ? paint.good("done")
        : step.state === "failed"
          ? paint.bad("failed")
          : paint.warn(step.state),
      String(step.attempts.length),
      step.endedAt === undefined ? "" : duration(step.endedAt - step.startedAt),
      paint.dim(step.run),
    ]),
    paint,
  );
}

function stateOf(state: RunState, paint: Paint): string {
  if (state === "done") return paint.good(state);
  return state === "failed" || state === "cancelled" ? paint.bad(state) : paint.warn(state);
}

function logLine(line: LogLine, paint: Paint): string {
  const level = { debug: paint.dim("debug"), info: "info ", warn: paint.warn("warn "), error: paint.bad("error") }[
    line.level
  ];
  const where = [line.step, line.attempt !== undefined && line.attempt > 1 ? `#${line.attempt}` : undefined];
  const fields = Object.entries(line.fields ?? {}).map(([name, value]) => {
    return `${paint.dim(`${name}=`)}${typeof value === "string" ? value : JSON.stringify(value)}`;
  });
  const parts = [paint.dim(clock(line.at)), level, paint.dim(where.filter(Boolean).join(" ")), line.message, ...fields];
  return parts.filter((part) => part !== "").join(" ");
}

function clock(at: number): string {
  return new Date(at).toISOString().replace("T", " ").slice(0, 19);
}

function took(run: RunView): string {
  if (run.endedAt === undefined) return "";
  return duration(run.endedAt - (run.startedAt ?? run.createdAt));
}
