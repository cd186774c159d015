import type { z } from "zod";
import { nearest } from "../compose/index.ts";
import type { Json } from "../model.ts";
import { branchesOf, configJsonSchema, type JsonSchema } from "./json-schema.ts";
import { nameOf, type Path, type Positions, type Problem, positionOf } from "./problem.ts";

type Issue = z.core.$ZodIssue;

/**
 * What a schema found wrong, in an operator's words, with places. Names keys and what was expected; of values it
 * repeats none, because a value in the wrong place may be a secret.
 */
export function explain(issues: readonly Issue[], value: Json, positions: Positions): Problem[] {
  return issues.flatMap((issue) => explainIssue(issue, [], value, positions));
}

function explainIssue(issue: Issue, base: Path, value: Json, positions: Positions): Problem[] {
  const path: Path = [...base, ...issue.path.map((part) => (typeof part === "symbol" ? String(part) : part))];
  const problem = (message: string, at: Path = path): Problem[] => [
    { at: positionOf(positions, at), message: at.length === 0 ? message : `${nameOf(at)}: ${message}` },
  ];
  const given = valueAt(value, path);
  switch (issue.code) {
    case "unrecognized_keys":
      return issue.keys.flatMap((key) => {
        const close = nearest(key, knownKeys(path, value));
        const where = path.length === 0 ? "" : `${nameOf(path)}: `;
        const hint = close ? `; did you mean "${close}"?` : `; there are ${knownKeys(path, value).join(", ")}`;
        return [{ at: positionOf(positions, [...path, key]), message: `${where}unknown key "${key}"${hint}` }];
      });
    case "invalid_union": {
      if (issue.errors.length === 0) return problem(discriminatorMessage(given, issue));
      const branch = closestBranch(issue.errors, given);
      if (branch) return branch.flatMap((inner) => explainIssue(inner, path, value, positions));
      return problem(issue.message);
    }
    case "invalid_key":
      return problem(issue.issues[0]?.message ?? "this name cannot be used");
    case "invalid_value": {
      const options = issue.values.map(String);
      const close = typeof given === "string" ? nearest(given, options) : undefined;
      return problem(`expected ${options.join(", ")}${close ? `; did you mean ${close}?` : ""}`);
    }
    case "invalid_type":
      if (given === undefined) return problem("is missing");
      return problem(
        issue.message.startsWith("Invalid input")
          ? `expected ${EXPECTED[issue.expected] ?? issue.expected}, not ${typeName(given)}`
          : issue.message,
      );
    case "too_small":
      return problem(`expected ${issue.exact ? "exactly" : "at least"} ${boundOf(issue.origin, issue.minimum)}`);
    case "too_big":
      return problem(`expected ${issue.exact ? "exactly" : "at most"} ${boundOf(issue.origin, issue.maximum)}`);
    default:
      return problem(issue.message);
  }
}

/** The alternative that was meant: one whose faults lie inside it, an object with a misspelt key, a check of ours. */
function closestBranch(branches: readonly (readonly Issue[])[], given: Json | undefined): readonly Issue[] | undefined {
  const meant = branches.filter(
    (branch) =>
      branch.some((issue) => issue.path.length > 0 || issue.code === "custom") ||
      (typeof given === "object" && branch.some((issue) => issue.code === "unrecognized_keys")),
  );
  return meant.sort((a, b) => a.length - b.length)[0];
}

function discriminatorMessage(given: Json | undefined, issue: Issue): string {
  const options = "options" in issue && Array.isArray(issue.options) ? issue.options.map(String) : [];
  if (typeof given !== "string") return `is missing: one of ${options.join(", ")}`;
  const close = nearest(given, options);
  return `expected ${options.join(", ")}${close ? `; did you mean ${close}?` : ""}`;
}

/** The keys that may stand at a path, of those alternatives that fit what stands there already. */
function knownKeys(path: Path, value: Json): string[] {
  let schemas: readonly JsonSchema[] = [configJsonSchema()];
  for (const [depth, part] of path.entries()) {
    schemas = fitting(schemas, valueAt(value, path.slice(0, depth))).flatMap((schema) => {
      if (typeof part === "number") return schema.items ?? [];
      const inner = schema.properties?.[part] ?? schema.additionalProperties;
      return typeof inner === "object" ? inner : [];
    });
  }
  const keys = fitting(schemas, valueAt(value, path)).flatMap((schema) => Object.keys(schema.properties ?? {}));
  return [...new Set(keys)];
}

function fitting(schemas: readonly JsonSchema[], value: Json | undefined): JsonSchema[] {
  return schemas.flatMap(branchesOf).filter((schema) =>
    Object.entries(schema.properties ?? {}).every(([key, inner]) => {
      const has = valueAt(value ?? null, [key]);
      return inner.const === undefined || has === undefined || has === inner.const;
    }),
  );
}

function valueAt(value: Json, path: Path): Json | undefined {
  let at: Json | undefined = value;
  for (const part of path) {
    if (typeof at !== "object" || at === null || !Object.hasOwn(at, part)) return undefined;
    at = (at as { [key: string]: Json })[part];
  }
  return at;
}

function boundOf(origin: string, bound: number | bigint): string {
  if (origin === "array") return `${bound} of them`;
  return origin === "string" ? `${bound} characters` : String(bound);
}

const EXPECTED: Readonly<Record<string, string>> = {
  array: "a list",
  boolean: "true or false",
  int: "a whole number",
  number: "a number",
  object: "a mapping",
  record: "a mapping",
  string: "text",
};

function typeName(value: Json): string {
  if (value === null) return "nothing";
  return Array.isArray(value) ? "a list" : typeof value === "object" ? "a mapping" : `a ${typeof value}`;
}
