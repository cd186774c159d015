/** What a shadow has seen, for whoever decides about switching over: counts first, then every difference. */
import type { Kysely } from "kysely";
import type { InboxTables } from "../../bus/inbox.ts";
import {
  type Expectation,
  readShadow,
  type Shadowed,
  type ShadowRecords,
  type ShadowTables,
  takeShadowed,
} from "../../bus/shadow.ts";
import type { DifferenceKind } from "./difference.ts";
import type { ExpectedMessage } from "./expected.ts";
import { type Agreement, type ComposeVerdict, judgeCompose } from "./verdict.ts";

/** A public interface: fields are added, never renamed. */
export interface ShadowReport {
  /** ISO. */
  readonly at: string;
  readonly counts: {
    readonly composes: Readonly<Record<Agreement, number>>;
    readonly messages: { readonly theirs: number; readonly ours: number; readonly agreed: number };
    readonly differences: Readonly<Partial<Record<DifferenceKind, number>>>;
  };
  /** Those that differ, then those that are waited for, then those that agree; the newest last. */
  readonly composes: readonly ComposeVerdict[];
  /** Messages of theirs that name no compose: none can be compared, and each is a difference. */
  readonly unplaced: readonly { readonly id: string; readonly topic: string; readonly receivedAt: string }[];
  /** Messages of theirs that nobody could read; each is a difference. `slipway events list --quarantined` shows them. */
  readonly unreadable: number;
}

export interface ReportOptions {
  readonly compose?: string | undefined;
  readonly since?: Date | undefined;
  readonly now: Date;
  /** Milliseconds. */
  readonly within: number;
}

/** Looks at what has arrived first. Safe to repeat; the same records at the same moment give the same report. */
export async function reportShadow(
  db: Kysely<InboxTables & ShadowTables>,
  { compose, since, ...moment }: ReportOptions,
): Promise<ShadowReport> {
  while ((await takeShadowed(db)) > 0);
  return reportOf(await readShadow<ExpectedMessage>(db, { composeId: compose, since }), moment);
}

const SHOWN: readonly Agreement[] = ["differs", "waiting", "agreed"];

export function reportOf(
  { expectations, messages, unreadable }: ShadowRecords<ExpectedMessage>,
  moment: Pick<ReportOptions, "now" | "within">,
): ShadowReport {
  const known = new Map<string, { expectations: Expectation<ExpectedMessage>[]; messages: Shadowed[] }>();
  const of = (id: string) => {
    const about = known.get(id) ?? { expectations: [], messages: [] };
    known.set(id, about);
    return about;
  };
  for (const one of expectations) of(one.composeId).expectations.push(one);
  for (const one of messages) if (one.composeId !== undefined) of(one.composeId).messages.push(one);
  const all = [...known].map(([id, about]) => judgeCompose(id, about.expectations, about.messages, moment));
  const unplaced = messages.filter(({ composeId }) => composeId === undefined);
  const differences: Partial<Record<DifferenceKind, number>> = {};
  for (const { kind } of all.flatMap((one) => one.differences)) differences[kind] = (differences[kind] ?? 0) + 1;
  const faulty = unplaced.length + unreadable;
  if (faulty > 0) differences.schema = (differences.schema ?? 0) + faulty;
  const count = (verdict: Agreement) => all.filter((one) => one.verdict === verdict).length;
  const sum = (what: "theirs" | "ours" | "agreed") => all.reduce((total, one) => total + one[what], 0);
  return {
    at: moment.now.toISOString(),
    counts: {
      composes: {
        agreed: count("agreed"),
        differs: count("differs"),
        waiting: count("waiting"),
        silent: count("silent"),
        "left-out": count("left-out"),
      },
      messages: { theirs: sum("theirs") + faulty, ours: sum("ours"), agreed: sum("agreed") },
      differences,
    },
    composes: SHOWN.flatMap((verdict) => all.filter((one) => one.verdict === verdict)),
    unplaced: unplaced.map(({ id, topic, receivedAt }) => ({ id, topic, receivedAt: receivedAt.toISOString() })),
    unreadable,
  };
}

/** Whether anything speaks against switching over. */
export function hasDifferences({ counts }: ShadowReport): boolean {
  return Object.keys(counts.differences).length > 0;
}
