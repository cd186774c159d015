/**
 * Conditions and keys of rules, in CEL (https://cel.dev): an expression about one event, which can look and compare and
 * nothing else. Compiled once; what a sender puts into an event can make it neither run anything nor take long.
 *
 * `@bufbuild/cel` among several: it follows the language's conformance tests, and its regular expressions are RE2's, in
 * linear time. One with JavaScript's own could be stopped by a message made for that.
 */
import { createRequire } from "node:module";
import type { Json } from "../model.ts";

/** What an expression may name. */
export interface EventFacts {
  readonly id: string;
  readonly topic: string;
  readonly severity: number;
  readonly priority: number;
  readonly source: string;
  readonly headers: Readonly<Record<string, Json>>;
  readonly body: Readonly<Record<string, Json>>;
}

export const VARIABLES = ["id", "topic", "severity", "priority", "source", "headers", "body"] as const;

export type Evaluated =
  | { readonly value: boolean | string | number }
  /** A field the event does not have, by its name. */
  | { readonly missing: string }
  /** It cannot be said of this event: kinds that cannot be compared, a pattern that is none. */
  | { readonly error: string };

export interface Expression {
  readonly text: string;
  /** Never throws. */
  evaluate(event: EventFacts): Evaluated;
}

export interface ExpressionProblem {
  readonly message: string;
  /** From 1. */
  readonly line: number;
  readonly column: number;
}

const MOST_CHARACTERS = 4000;
/** A macro (all, exists, map …) walks a list; one in another walks it for each element of the other. */
const MOST_NESTED_MACROS = 2;
/** Characters of an event's JSON up to which it is looked at: without macros, with one, with one in another. */
const MOST_EVENT_CHARACTERS = [16 * 1024 * 1024, 1024 * 1024, 32 * 1024] as const;

type Cel = typeof import("@bufbuild/cel");

/** A tenth of a second, which commands without rules need not wait for; rules are checked where nothing can be awaited. */
let loaded:
  | (Pick<Cel, "isCelError" | "parse" | "plan"> & { environment: ReturnType<Cel["celEnv"]>; functions: Set<string> })
  | undefined;
function cel() {
  if (loaded === undefined) {
    const library = createRequire(import.meta.url)("@bufbuild/cel") as Cel;
    const environment = library.celEnv();
    loaded = { ...library, environment, functions: new Set([...environment.funcs].map(({ name }) => name)) };
  }
  return loaded;
}

/** What macros and operators become. */
const OPERATOR = /^[@_!-]|_$/;

/** @returns the expression, or what is wrong with it and where */
export function compileExpression(text: string): Expression | ExpressionProblem {
  const at = (offset: number, message: string): ExpressionProblem => {
    const before = text.slice(0, offset).split("\n");
    return { message, line: before.length, column: before.at(-1)!.length + 1 };
  };
  if (text.length > MOST_CHARACTERS) return at(0, `an expression has at most ${MOST_CHARACTERS} characters`);
  const { environment, parse, plan } = cel();
  let parsed: Parsed;
  try {
    parsed = parse(text);
  } catch (error) {
    const offset = (error as { location?: { start: { offset: number } } }).location?.start.offset ?? 0;
    return at(offset, syntaxWords(error, text));
  }
  const walked = walk(parsed.expr, new Set(VARIABLES), 0);
  if ("problem" in walked) return at(parsed.sourceInfo?.positions[String(walked.id)] ?? 0, walked.problem);
  const evaluate = plan(environment, parsed);
  const most = MOST_EVENT_CHARACTERS[walked.macros]!;
  return {
    text,
    evaluate(event) {
      if (walked.macros > 0 && JSON.stringify(event.body).length > most) {
        return { error: `the event is larger than the ${most} characters that an expression with macros looks at` };
      }
      try {
        return outcomeOf(evaluate(event as never));
      } catch (error) {
        return { error: wordsOf(error) };
      }
    },
  };
}

function outcomeOf(result: unknown): Evaluated {
  if (cel().isCelError(result)) {
    const { message } = result as Error;
    const missing = /^(?:field not found|key not found|no such key|map key not found): ?(.*)$/i.exec(message);
    return missing === null ? { error: wordsOf(result) } : { missing: missing[1]!.slice(0, 80) };
  }
  if (typeof result === "bigint") return { value: Number(result) };
  if (typeof result === "boolean" || typeof result === "string" || typeof result === "number") return { value: result };
  return { error: "the result is neither true or false, text nor a number" };
}

type Parsed = ReturnType<Cel["parse"]>;
type Node = NonNullable<Parsed["expr"]>;
type Walked = { macros: number } | { id: bigint; problem: string };

/** Names that nothing has are found here, long before an event comes. */
function walk(node: Node | undefined, names: ReadonlySet<string>, depth: number): Walked {
  if (node === undefined) return { macros: depth };
  const { exprKind, id } = node;
  const all = (children: readonly (Node | undefined)[], known = names, level = depth): Walked => {
    let macros = level;
    for (const child of children) {
      const said = walk(child, known, level);
      if ("problem" in said) return said;
      macros = Math.max(macros, said.macros);
    }
    return { macros };
  };
  switch (exprKind.case) {
    case "identExpr": {
      const { name } = exprKind.value;
      if (names.has(name) || name.startsWith("@") || TYPES.has(name)) return { macros: depth };
      return { id, problem: `there is no "${name}"; there are ${VARIABLES.join(", ")}` };
    }
    case "selectExpr":
      return walk(exprKind.value.operand, names, depth);
    case "callExpr": {
      const { function: name, target, args } = exprKind.value;
      if (!cel().functions.has(name) && !OPERATOR.test(name)) return { id, problem: `there is no function "${name}"` };
      return all([target, ...args]);
    }
    case "listExpr":
      return all(exprKind.value.elements);
    case "structExpr":
      return all(
        exprKind.value.entries.flatMap((entry) => [
          entry.value,
          ...(entry.keyKind.case === "mapKey" ? [entry.keyKind.value] : []),
        ]),
      );
    case "comprehensionExpr": {
      if (depth === MOST_NESTED_MACROS) return { id, problem: "macros are nested too deep" };
      const { iterVar, iterVar2, iterRange, accuInit, loopCondition, loopStep, result } = exprKind.value;
      const range = walk(iterRange, names, depth);
      if ("problem" in range) return range;
      const within = all(
        [accuInit, loopCondition, loopStep, result],
        new Set([...names, iterVar, iterVar2]),
        depth + 1,
      );
      return "problem" in within ? within : { macros: Math.max(range.macros, within.macros) };
    }
    default:
      return { macros: depth };
  }
}

const TYPES = new Set(["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"]);

function syntaxWords(error: unknown, text: string): string {
  if (error instanceof RangeError) return "it is nested too deep";
  const found = (error as { found?: unknown }).found;
  if (found === null) return "it ends too early";
  return typeof found === "string" && text !== "" ? `${JSON.stringify(found)} is not expected here` : wordsOf(error);
}

function wordsOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n")[0]!.slice(0, 200);
}
