import { open } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { SlipwayError } from "../lib/errors.ts";
import { MiB } from "../lib/units.ts";
import type { Json } from "../model.ts";
import { configError, keyOf, type Path, type Position, positionOf } from "./problem.ts";
import { parseYaml, type Settings } from "./yaml.ts";

const MAX_FILE = MiB;
const MAX_FILES = 20;

/** The files' settings merged, the main file's winning over what it includes. */
export interface Files extends Settings {
  /** The main file first. */
  readonly files: readonly string[];
}

type Mapping = { [key: string]: Json };

/**
 * Reads a file and what it includes. Mappings are merged; anything else replaces what was there; `null` takes it back.
 * Included files are equals: that two of them name the same target or system is an error.
 * @throws SlipwayError `invalid`, `not-found`
 */
export async function readFiles(file: string): Promise<Files> {
  const files: string[] = [];
  const read = async (path: string, from: Position | undefined): Promise<Settings> => {
    if (files.includes(path))
      throw configError([{ at: from, message: `${path} is included twice, or includes itself` }]);
    if (files.length >= MAX_FILES)
      throw configError([{ at: from, message: `more than ${MAX_FILES} files are included` }]);
    files.push(path);
    const own = parseYaml(await readText(path, from), path);
    const { include, ...value } = own.value;
    const merged: Settings = { value: {}, positions: new Map() };
    for (const [index, name] of includesOf(include, own.positions).entries()) {
      const at = positionOf(own.positions, Array.isArray(include) ? ["include", index] : ["include"]);
      const part = await read(resolve(dirname(path), name), at);
      refuseCollisions(merged, part);
      merge(merged, part.value, part.positions);
    }
    merge(merged, value, own.positions);
    return merged;
  };
  const { value, positions } = await read(resolve(file), undefined);
  return { value, positions, files };
}

async function readText(path: string, from: Position | undefined): Promise<string> {
  try {
    await using file = await open(path);
    const { size } = await file.stat();
    if (size > MAX_FILE) throw new Error(`it is larger than ${MAX_FILE} bytes`);
    return await file.readFile("utf8");
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === "ENOENT";
    const why = missing ? "there is no such file" : cause instanceof Error ? cause.message : String(cause);
    const place = from ? ` (included at ${from.file}:${from.line}:${from.column})` : "";
    throw new SlipwayError(missing ? "not-found" : "invalid", `cannot read the configuration ${path}: ${why}${place}`, {
      subject: path,
      next: "Check --config, SLIPWAY_CONFIG and `include:`. Without a configuration file Slipway runs on its defaults.",
      cause,
    });
  }
}

function includesOf(include: Json | undefined, positions: Settings["positions"]): string[] {
  if (include === undefined || include === null) return [];
  const list = Array.isArray(include) ? include : [include];
  if (list.every((name): name is string => typeof name === "string" && name !== "")) return list;
  throw configError([
    { at: positionOf(positions, ["include"]), message: "include: expected a path, or a list of paths" },
  ]);
}

function refuseCollisions(merged: Settings, part: Settings): void {
  for (const section of ["targets", "systems"]) {
    const [before, added] = [merged.value[section], part.value[section]];
    if (!isMapping(before) || !isMapping(added)) continue;
    for (const name of Object.keys(added).filter((name) => Object.hasOwn(before, name))) {
      const other = positionOf(merged.positions, [section, name]);
      const where = other ? ` at ${other.file}:${other.line}:${other.column}` : "";
      throw configError([
        {
          at: positionOf(part.positions, [section, name]),
          message: `${section}: the name "${name}" is taken already${where}; give one of them another name`,
        },
      ]);
    }
  }
}

/** Lays `value` over what was merged so far, positions too. */
function merge(into: Settings, value: Mapping, positions: Settings["positions"], path: Path = []): void {
  const target = path.reduce<Json>((at, key) => (at as Mapping)[key]!, into.value) as Mapping;
  for (const [key, added] of Object.entries(value)) {
    const here = [...path, key];
    const position = positions.get(keyOf(here));
    if (position) into.positions.set(keyOf(here), position);
    if (isMapping(added) && isMapping(target[key])) {
      merge(into, added, positions, here);
      continue;
    }
    target[key] = added;
    const inside = keyOf(here).slice(0, -1);
    for (const [place, at] of positions) if (place.startsWith(`${inside},`)) into.positions.set(place, at);
  }
}

function isMapping(value: Json | undefined): value is Mapping {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
