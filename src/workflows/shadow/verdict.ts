/** Whether the two services agree about a compose, at a moment. Pure: what comes later is judged later. */
import type { Expectation, Shadowed } from "../../bus/shadow.ts";
import { compareMessages } from "./compare.ts";
import type { Difference } from "./difference.ts";
import type { ExpectedMessage } from "./expected.ts";
import { identityOf } from "./subject.ts";

export type Agreement =
  | "agreed"
  | "differs"
  /** There is time left, and what has come does not differ. */
  | "waiting"
  /** Neither service has anything to say of it. */
  | "silent"
  /** Of systems that are not compared. */
  | "left-out";

export interface ComposeVerdict {
  readonly compose: string;
  readonly verdict: Agreement;
  /** Those that take it and are compared. */
  readonly systems: readonly string[];
  /** ISO. What has not come by then is missing. */
  readonly closesAt: string;
  /** Messages. */
  readonly theirs: number;
  readonly ours: number;
  readonly agreed: number;
  readonly differences: readonly Difference[];
  /** What is still waited for. */
  readonly waitingFor: readonly string[];
  /** What one has to know to read the rest. */
  readonly notes: readonly string[];
}

/**
 * @param expectations of one compose, every system's
 * @param messages of the same compose
 * @param within milliseconds that are waited after a message whose compose nobody has told us of
 */
export function judgeCompose(
  compose: string,
  expectations: readonly Expectation<ExpectedMessage>[],
  messages: readonly Shadowed[],
  { now, within }: { readonly now: Date; readonly within: number },
): ComposeVerdict {
  const takers = expectations.filter(({ system }) => system !== "");
  const compared = takers.filter((one) => one.compared);
  const others = takers.filter((one) => !one.compared);
  const ours = compared.flatMap(({ expected }) => expected);
  const notOurs = new Set(others.flatMap(({ expected }) => expected.map(identityOf)));
  const isLeftOut = takers.length > 0 && compared.length === 0;
  const theirs = isLeftOut ? [] : messages.filter((message) => !notOurs.has(identityOf(message)));

  const closes = Math.max(
    ...(expectations.length > 0
      ? expectations.map(({ closesAt }) => closesAt.getTime())
      : messages.map(({ receivedAt }) => receivedAt.getTime() + within).slice(0, 1)),
  );
  const isOpen = now.getTime() < closes;
  const unheardOf = expectations.length === 0;
  const { agreed, differences: all, notes } = compareMessages(ours, theirs);
  // In time, what is not there yet is not missing.
  const isEarly = ({ kind }: Difference) => isOpen && (kind === "missing-there" || unheardOf);
  const differences = all.filter((one) => !isEarly(one));
  const waitingFor = unheardOf && isOpen ? ["our event about it"] : all.filter(isEarly).map(({ about }) => about);
  const late = theirs.filter(({ receivedAt }) => receivedAt.getTime() >= closes).length;
  return {
    compose,
    verdict: verdictOf(),
    systems: compared.map(({ system }) => system),
    closesAt: new Date(closes).toISOString(),
    theirs: theirs.length,
    ours: ours.length,
    agreed,
    differences,
    waitingFor,
    notes: [
      ...(unheardOf && !isOpen ? ["no event has told us that it is finished, or no rule meant it"] : []),
      ...(takers.length === 0 ? expectations.flatMap(({ why }) => why ?? []) : []),
      ...notes,
      ...(late > 0 ? [`${late} of their messages came after the time to wait had ended`] : []),
    ],
  };

  function verdictOf(): Agreement {
    if (isLeftOut) return "left-out";
    if (differences.length > 0) return "differs";
    if (waitingFor.length > 0) return "waiting";
    return ours.length === 0 && theirs.length === 0 ? "silent" : "agreed";
  }
}
