/** `shadow report`: what the other service publishes against what we would. */
import { SlipwayError } from "../../lib/errors.ts";
import {
  type ComposeVerdict,
  DIFFERENCE_KINDS,
  type DifferenceKind,
  hasDifferences,
  reportShadow,
  type ShadowReport,
} from "../../workflows/index.ts";
import { EXIT, harmless, type Paint, table } from "../output.ts";
import type { Session } from "../session.ts";
import { momentOf } from "./events.ts";

export interface ReportOptions {
  readonly compose?: string;
  readonly since?: string;
  readonly detailedExitcode?: boolean;
}

/** Exit 10 with --detailed-exitcode if anything differs; what is only waited for does not. */
export async function report(session: Session, options: ReportOptions): Promise<number> {
  const since = options.since === undefined ? undefined : momentOf(options.since);
  const { db, automation, now } = await session.services();
  if (automation.shadow === undefined) {
    throw new SlipwayError("invalid", "this is no shadow", {
      subject: "shadow",
      next: "Set `shadow:` in slipway.yaml and run slipway serve beside the other service: docs/shadow.md.",
    });
  }
  const { within } = automation.shadow;
  const found = await reportShadow(db, { compose: options.compose, since, now: now(), within });
  session.output.data(found, (paint) => describeShadow(found, paint));
  return options.detailedExitcode === true && hasDifferences(found) ? EXIT.changes : EXIT.done;
}

const MEANINGS: Readonly<Record<DifferenceKind, string>> = {
  "missing-there": "we would publish it, they did not",
  "missing-here": "they published it, we would not",
  duplicate: "they published it again",
  topic: "published under another topic",
  name: "another image name, definition, version or family",
  release: "another release number",
  "regions-only-here": "regions that only we would have",
  "regions-only-there": "regions that only they have",
  tags: "other tags",
  registries: "other registries",
  architectures: "other architectures",
  id: "an id of theirs has not the form of that cloud",
  field: "another value, or a field that one side lacks",
  schema: "theirs names another schema, or breaks it",
  severity: "another severity",
};

/** Counts first: whoever decides about switching over may stop reading there. */
export function describeShadow(report: ShadowReport, paint: Paint): string {
  const { composes, unplaced, unreadable } = report;
  if (composes.length === 0 && unplaced.length === 0 && unreadable === 0 && report.counts.composes.silent === 0) {
    return 'Nothing to compare yet. "slipway serve" takes in events and the other service\'s messages.';
  }
  const parts = [describeCounts(report, paint)];
  const of = (verdict: ComposeVerdict["verdict"]) => composes.filter((one) => one.verdict === verdict);
  if (of("differs").length > 0) {
    parts.push(paint.bold("Differs"), ...of("differs").map((one) => describeCompose(one, paint)));
  }
  if (unplaced.length > 0) {
    const rows = unplaced.map(({ receivedAt, topic, id }) => [minute(receivedAt), line(topic), line(id)]);
    parts.push(paint.bold("Messages of theirs that name no compose"), table(["received", "topic", "id"], rows, paint));
  }
  if (unreadable > 0) {
    parts.push(`${unreadable} of their messages could not be read: slipway events list --quarantined`);
  }
  if (of("waiting").length > 0) {
    parts.push(paint.bold("Waiting"), ...of("waiting").map((one) => describeCompose(one, paint)));
  }
  if (of("agreed").length > 0) {
    parts.push(
      paint.bold("Agreed"),
      of("agreed")
        .map((one) => describeCompose(one, paint))
        .join("\n"),
    );
  }
  return parts.join("\n\n");
}

function describeCounts({ at, counts }: ShadowReport, paint: Paint): string {
  const { composes, messages, differences } = counts;
  const compared = composes.agreed + composes.differs;
  const aside = [
    ...(composes.waiting > 0 ? [`${composes.waiting} waited for`] : []),
    ...(composes.silent > 0 ? [`${composes.silent} that neither publishes anything of`] : []),
    ...(composes["left-out"] > 0 ? [`${composes["left-out"]} of systems that are left out`] : []),
  ];
  const differ = composes.differs === 0 ? paint.good("0 differ") : paint.bad(`${composes.differs} differ`);
  const facts = [
    ["composes", `${compared} compared: ${composes.agreed} agreed, ${differ}`],
    ...(aside.length > 0 ? [["", aside.join(", ")]] : []),
    ["messages", `${messages.theirs} theirs, ${messages.ours} ours, ${messages.agreed} the same on both sides`],
  ];
  const found = DIFFERENCE_KINDS.filter((kind) => differences[kind] !== undefined);
  const verdict =
    found.length > 0
      ? table(
          ["differences", "", ""],
          found.map((kind) => [`  ${kind}`, String(differences[kind]), MEANINGS[kind]]),
          paint,
        )
      : compared > 0
        ? paint.good("What was compared is the same on both sides.")
        : "Nothing could be compared yet.";
  const head = `${paint.bold("Shadow report")}  ${minute(at)} UTC`;
  return [head, table(["", ""], facts, paint).split("\n").slice(1).join("\n"), verdict].join("\n");
}

function describeCompose(one: ComposeVerdict, paint: Paint): string {
  const mark = { differs: paint.bad("✖"), waiting: paint.warn("…"), agreed: paint.good("✔") }[one.verdict as "agreed"];
  const where = one.systems.length === 0 ? "" : ` in ${one.systems.join(", ")}`;
  const counts = `theirs ${one.theirs}, ours ${one.ours}, the same ${one.agreed}`;
  const lines = [`${mark} ${paint.bold(line(one.compose))}${where}: ${counts}`];
  for (const about of [...new Set(one.differences.map((difference) => difference.about))]) {
    lines.push(`    ${line(about)}`);
    for (const { words } of one.differences.filter((difference) => difference.about === about)) {
      lines.push(`      ${line(words)}`);
    }
  }
  if (one.waitingFor.length > 0) {
    lines.push(`    ${paint.warn("waited for")} until ${minute(one.closesAt)}: ${line(one.waitingFor.join(", "))}`);
  }
  for (const note of one.notes) lines.push(`    ${paint.dim("note")} ${line(note)}`);
  return lines.join("\n");
}

/** A sender's text must not be able to look like a line of the report. */
function line(text: string): string {
  return harmless(text).replace(/\s+/g, " ");
}

function minute(iso: string): string {
  return iso.slice(0, 16).replace("T", " ");
}
