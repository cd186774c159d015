import { type Alias, isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument, type YAMLMap } from "yaml";
import type { Json } from "../model.ts";
import { configError, keyOf, type Path, type Position } from "./problem.ts";

/** A file's settings as plain data, and where each stands. */
export interface Settings {
  readonly value: { [key: string]: Json };
  readonly positions: Map<string, Position>;
}

/** Aliases can make a small file large: this bounds what they expand to. */
const MAX_NODES = 50_000;
const MAX_DEPTH = 32;

/**
 * Reads one YAML file. An empty file is an empty configuration.
 * @throws SlipwayError `invalid` with line and column: not YAML, one name twice, not a mapping, too large
 */
export function parseYaml(text: string, file: string): Settings {
  const lines = new LineCounter();
  const at = (offset: number): Position => {
    const { line, col } = lines.linePos(offset);
    return { file, line: Math.max(line, 1), column: Math.max(col, 1) };
  };
  const fail = (offset: number, message: string) => configError([{ at: at(offset), message }]);

  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, version: "1.2" });
  const problems = [...document.errors, ...document.warnings];
  if (problems.length > 0) {
    throw configError(
      problems.map((problem) => ({
        at: at(problem.pos[0]),
        message:
          problem.code === "DUPLICATE_KEY"
            ? `the name ${JSON.stringify(wordAt(text, problem.pos[0]))} stands here twice; give one of them another name`
            : `this is not YAML: ${problem.message}`,
      })),
    );
  }

  const positions = new Map<string, Position>();
  let nodes = 0;
  const plain = (node: Node | null | undefined, path: Path): Json => {
    const offset = node?.range?.[0] ?? 0;
    if (++nodes > MAX_NODES || path.length > MAX_DEPTH)
      throw fail(offset, "there is too much here: is an alias repeated?");
    if (!positions.has(keyOf(path))) positions.set(keyOf(path), at(offset));
    if (isAlias(node)) {
      const anchored = (node as Alias).resolve(document);
      if (!anchored) throw fail(offset, `there is no anchor "${(node as Alias).source}" before this`);
      return plain(anchored, path);
    }
    if (isMap(node)) return plainMap(node, path);
    if (isSeq(node)) return node.items.map((item, index) => plain(item as Node, [...path, index]));
    if (isScalar(node)) return scalar(node.value, offset);
    return null;
  };
  const plainMap = (map: YAMLMap, path: Path): { [key: string]: Json } => {
    const result: { [key: string]: Json } = {};
    for (const { key, value } of map.items) {
      const offset = (key as Node | null)?.range?.[0] ?? 0;
      if (!isScalar(key)) throw fail(offset, "a name must be plain text");
      const name = String(key.value);
      if (name === "__proto__") throw fail(offset, "no setting can be named __proto__");
      positions.set(keyOf([...path, name]), at(offset));
      result[name] = plain(value as Node | null, [...path, name]);
    }
    return result;
  };
  const scalar = (value: unknown, offset: number): Json => {
    if (value === null || typeof value === "string" || typeof value === "boolean") return value;
    if (typeof value === "number" && Number.isFinite(value)) return value;
    throw fail(offset, "this kind of value has no meaning here; put it in quotes");
  };

  const value = plain(document.contents as Node | null, []);
  if (value === null) return { value: {}, positions };
  if (typeof value !== "object" || Array.isArray(value)) throw fail(0, "the file must be a mapping of settings");
  return { value, positions };
}

function wordAt(text: string, offset: number): string {
  return /^[^\s:]{1,80}/.exec(text.slice(offset, offset + 80))?.[0] ?? "";
}
