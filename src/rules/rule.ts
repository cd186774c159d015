/**
 * What a rule says about one event: whether it is meant, and under which keys it is counted, held and locked. Pure;
 * what other events have to do with it (repeats, floods, quiet, pairs) is kept and decided where events are.
 */
import { compileExpression, type EventFacts, type Expression, type ExpressionProblem } from "./expression.ts";
import { topicMatches } from "./topic-pattern.ts";

/** A rule as the configuration has it, defaults filled in. All times are milliseconds. */
export interface RuleSettings<A = unknown> {
  /** Unique. What was done about an event is remembered under it. */
  readonly name: string;
  readonly topic: string;
  readonly when?: string | undefined;
  readonly enabled: boolean;
  /** Once for all events with this key within the time; the others are skipped. */
  readonly once?: { readonly per: string; readonly within: number } | undefined;
  /** So many in so much time; those beyond are skipped. */
  readonly throttle?: { readonly most: number; readonly per: number; readonly by?: string | undefined } | undefined;
  /** Acts on the last of several, when none came for a while or the first has waited long enough. */
  readonly debounce?:
    | { readonly quiet: number; readonly at_most: number; readonly by?: string | undefined }
    | undefined;
  /** Acts when an event of each of both kinds came, with one key. */
  readonly join?:
    | {
        readonly topic: string;
        readonly when?: string | undefined;
        readonly by: string;
        /** The other event's key; the same expression when absent. */
        readonly other_by?: string | undefined;
        readonly within: number;
      }
    | undefined;
  /** Runs of one key, of whichever rule, one after another. */
  readonly lock?: string | undefined;
  readonly during_freeze: "hold" | "drop" | "run";
  readonly action: A;
}

export interface Keys {
  readonly once?: string;
  readonly throttle?: string;
  readonly debounce?: string;
  readonly join?: string;
  readonly lock?: string;
}

export type Verdict =
  /** `side`: which of a pair it is; always `this` without a join. */
  | { readonly matches: true; readonly side: "this" | "other"; readonly keys: Keys }
  | { readonly matches: false; readonly why: string }
  /** The rule cannot be applied to this event: somebody has to look. */
  | { readonly matches: "error"; readonly why: string };

export interface Rule<A = unknown> extends RuleSettings<A> {
  /** Never throws. */
  judge(event: EventFacts): Verdict;
}

/** A problem with one of a rule's expressions. */
export interface RuleProblem extends ExpressionProblem {
  /** Where in the rule: `["once", "per"]`. */
  readonly path: readonly string[];
}

const MOST_KEY_CHARACTERS = 500;

/** The rule with its expressions compiled, or everything that is wrong with them and where. Never throws. */
export function compileRule<A>(settings: RuleSettings<A>): Rule<A> | { readonly problems: readonly RuleProblem[] } {
  const problems: RuleProblem[] = [];
  const compiled = (text: string | undefined, ...path: string[]): Expression | undefined => {
    if (text === undefined) return undefined;
    const made = compileExpression(text);
    if ("evaluate" in made) return made;
    problems.push({ ...made, path });
    return undefined;
  };
  const when = compiled(settings.when, "when");
  const otherWhen = compiled(settings.join?.when, "join", "when");
  const joinBy = compiled(settings.join?.by, "join", "by");
  const otherBy = compiled(settings.join?.other_by, "join", "other_by") ?? joinBy;
  const perEvent = {
    once: compiled(settings.once?.per, "once", "per"),
    throttle: compiled(settings.throttle?.by, "throttle", "by"),
    debounce: compiled(settings.debounce?.by, "debounce", "by"),
    lock: compiled(settings.lock, "lock"),
  };
  if (problems.length > 0) return { problems };
  const { topic, join } = settings;

  function judge(event: EventFacts): Verdict {
    const thisWay = topicMatches(topic, event.topic) ? holds(when, "when", event) : undefined;
    if (thisWay?.holds === true) {
      const keys = keysOf(perEvent, event);
      if ("why" in keys) return keys;
      if (joinBy === undefined) return { matches: true, side: "this", keys };
      const joined = keyOf(joinBy, "join.by", event);
      return "why" in joined ? joined : { matches: true, side: "this", keys: { ...keys, join: joined.key } };
    }
    if (thisWay?.holds === "error") return { matches: "error", why: thisWay.why };
    const otherWay = join && topicMatches(join.topic, event.topic) ? holds(otherWhen, "join.when", event) : undefined;
    if (otherWay?.holds === true) {
      const joined = keyOf(otherBy!, "join.other_by", event);
      return "why" in joined ? joined : { matches: true, side: "other", keys: { join: joined.key } };
    }
    if (otherWay?.holds === "error") return { matches: "error", why: otherWay.why };
    return { matches: false, why: thisWay?.why ?? otherWay?.why ?? `the topic is not ${topic}` };
  }
  return { ...settings, judge };
}

type Holds = { holds: true; why?: undefined } | { holds: false | "error"; why: string };

function holds(condition: Expression | undefined, name: string, event: EventFacts): Holds {
  if (condition === undefined) return { holds: true };
  const said = condition.evaluate(event);
  if ("error" in said) return { holds: "error", why: `${name}: ${said.error}` };
  // Messages of one topic differ: one that lacks what is asked for is not meant.
  if ("missing" in said) return { holds: false, why: `${name}: the event has no ${said.missing}` };
  if (typeof said.value !== "boolean") return { holds: "error", why: `${name} is neither true nor false` };
  return said.value ? { holds: true } : { holds: false, why: `${name} is false: ${oneLine(condition.text)}` };
}

function keysOf(
  expressions: Readonly<Record<"once" | "throttle" | "debounce" | "lock", Expression | undefined>>,
  event: EventFacts,
): Keys | { matches: "error"; why: string } {
  const keys: Record<string, string> = {};
  for (const [name, expression] of Object.entries(expressions)) {
    if (expression === undefined) continue;
    const said = keyOf(expression, name, event);
    if ("why" in said) return said;
    keys[name] = said.key;
  }
  return keys;
}

function keyOf(
  expression: Expression,
  name: string,
  event: EventFacts,
): { key: string } | { matches: "error"; why: string } {
  const said = expression.evaluate(event);
  if ("error" in said) return { matches: "error", why: `${name}: ${said.error}` };
  if ("missing" in said) return { matches: "error", why: `${name}: the event has no ${said.missing}` };
  // A text column holds no NUL, and an index no long key.
  const key = String(said.value).toWellFormed().replaceAll("\u0000", "\\0");
  if (key.length <= MOST_KEY_CHARACTERS) return { key };
  return {
    matches: "error",
    why: `${name}: the key has ${key.length} characters, at most ${MOST_KEY_CHARACTERS} are kept`,
  };
}

function oneLine(text: string): string {
  const line = text.replace(/\s+/g, " ").trim();
  return line.length <= 120 ? line : `${line.slice(0, 119)}…`;
}
