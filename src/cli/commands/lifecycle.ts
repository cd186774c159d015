/** `lifecycle drift`: what the catalog says against what the clouds hold. */
import {
  choiceToCompare,
  compareImages,
  type Drift,
  type ReconcileOutcome,
  startReconcile,
} from "../../workflows/index.ts";
import { follow } from "../follow.ts";
import { EXIT, type Paint, table } from "../output.ts";
import type { Session } from "../session.ts";

export interface DriftOptions {
  readonly system?: string;
  readonly target?: string;
  readonly repair?: boolean;
  readonly detailedExitcode?: boolean;
}

/** Without --repair nothing is changed. Exit 77: repaired in part; 1: nothing could be repaired. */
export async function drift(session: Session, names: readonly string[], options: DriftOptions): Promise<number> {
  const services = await session.services();
  const choice = await choiceToCompare(services.db, names, options);
  if (options.repair !== true) {
    const compared = await compareImages(services, choice, true, session.call);
    session.output.data({ drift: compared.drift }, (paint) => describeDrift(compared.drift, paint));
    return options.detailedExitcode === true && compared.drift.length > 0 ? EXIT.changes : EXIT.done;
  }
  const engine = await session.engine("command");
  const title = `repair ${names.join(", ") || "everything"}`;
  const { runId, handle } = await startReconcile(engine, choice, { strays: true, title });
  session.output.say(`run ${runId}`);
  await follow(session, engine, runId);
  session.signal.throwIfAborted();
  const outcome = await handle.result();
  session.output.data(outcome, (paint) => describeReconcile(outcome, paint));
  return { done: EXIT.done, nothing: EXIT.done, partial: EXIT.partial, failed: EXIT.failed }[outcome.result];
}

function describeReconcile({ repaired, left, result }: ReconcileOutcome, paint: Paint): string {
  if (result === "nothing") return paint.good("The clouds hold what the catalog says.");
  const parts: string[] = [];
  if (repaired.length > 0) parts.push(`${paint.bold("Repaired")}\n${rows(repaired, paint)}`);
  if (left.length > 0) parts.push(`${paint.bold("Left to you")}\n${rows(left, paint)}`);
  return parts.join("\n\n");
}

function describeDrift(found: readonly Drift[], paint: Paint): string {
  if (found.length === 0) return paint.good("The clouds hold what the catalog says.");
  const repairable = found.filter((one) => one.repairable).length;
  const next = repairable === 0 ? "" : `\n${repairable} of ${found.length} can be repaired: --repair.`;
  return `${rows(found, paint)}${next}`;
}

function rows(found: readonly Drift[], paint: Paint): string {
  return table(
    ["what", "target", "region", "name", "id", ""],
    found.map((one) => [
      one.kind,
      one.target,
      one.region,
      one.name,
      one.id ?? "",
      one.error?.message ?? one.detail ?? "",
    ]),
    paint,
  );
}
