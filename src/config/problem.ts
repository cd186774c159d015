import { SlipwayError } from "../lib/errors.ts";

/** Where something stands in a file. Lines and columns count from 1. */
export interface Position {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** One thing wrong with the configuration. Its message never holds a value that may be a secret. */
export interface Problem {
  readonly at: Position | undefined;
  readonly message: string;
}

export type Path = readonly (string | number)[];

/** Position of every key and list item, by path. */
export type Positions = ReadonlyMap<string, Position>;

export const keyOf = (path: Path): string => JSON.stringify(path.map(String));

/** Of the path itself or the nearest thing around it. */
export function positionOf(positions: Positions, path: Path): Position | undefined {
  for (let length = path.length; length >= 0; length--) {
    const position = positions.get(keyOf(path.slice(0, length)));
    if (position) return position;
  }
  return undefined;
}

/** `systems.fedora-cloud.images[0].name` */
export function nameOf(path: Path): string {
  return path
    .map((part) => (typeof part === "number" ? `[${part}]` : `.${part}`))
    .join("")
    .replace(/^\./, "");
}

const SHOWN = 20;

/** All problems as one error, the first ones in full. */
export function configError(problems: readonly Problem[]): SlipwayError {
  const lines = problems.map(({ at, message }) => (at ? `${placeOf(at)}: ${message}` : message));
  const shown = lines.slice(0, SHOWN);
  if (lines.length > SHOWN) shown.push(`and ${lines.length - SHOWN} more`);
  const first = problems[0]?.at;
  return new SlipwayError("invalid", shown.join("\n"), {
    subject: first ? placeOf(first) : "configuration",
    next: "Correct it, then run `slipway config check`. Every setting is in docs/configuration.md.",
  });
}

function placeOf({ file, line, column }: Position): string {
  return `${file}:${line}:${column}`;
}
