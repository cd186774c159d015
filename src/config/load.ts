import { stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { Json } from "../model.ts";
import { explain } from "./explain.ts";
import { type Files, readFiles } from "./files.ts";
import { resolvePaths } from "./paths.ts";
import { configError, nameOf, positionOf } from "./problem.ts";
import { checkReferences } from "./references.ts";
import { type Config, configSchema } from "./schema.ts";
import type { Environment } from "./secrets.ts";
import { parseYaml } from "./yaml.ts";

export interface LoadOptions {
  /** SLIPWAY_CONFIG and SLIPWAY_DATA_DIR are read from it; secrets are not. */
  readonly env: Environment;
  /** Where relative paths begin that stand in no file. Default: the working directory. */
  readonly cwd?: string;
}

/**
 * Loads the configuration: the file given, else SLIPWAY_CONFIG, else ./slipway.yaml, else defaults alone.
 * @throws SlipwayError `invalid`, every problem with file, line and column; `not-found` for a file that was named
 */
export async function loadConfig(path: string | undefined, options: LoadOptions): Promise<Config> {
  const cwd = options.cwd ?? process.cwd();
  const named = path ?? (options.env.SLIPWAY_CONFIG || undefined);
  const usual = join(cwd, "slipway.yaml");
  const file = named === undefined ? ((await exists(usual)) ? usual : undefined) : resolve(cwd, named);
  const files = file === undefined ? { value: {}, positions: new Map(), files: [] } : await readFiles(file);
  const config = configOf(files);
  return { ...config, data_dir: resolve(cwd, options.env.SLIPWAY_DATA_DIR || config.data_dir) };
}

/** The same from text, without includes and with `data_dir` as it stands. For tests and editors. */
export function parseConfig(text: string, file = "slipway.yaml"): Config {
  return configOf({ ...parseYaml(text, file), files: [file] });
}

function configOf({ value, positions, files }: Files): Config {
  const settings = withoutNulls(resolvePaths(value, positions));
  const result = configSchema.safeParse(settings);
  if (!result.success) throw configError(explain(result.error.issues, settings, positions));
  const { include: _, targets, systems, ...rest } = result.data;
  const config: Config = { ...rest, targets: named(targets), systems: named(systems), files };
  const broken = checkReferences(config);
  if (broken.length === 0) return config;
  throw configError(
    broken.map(({ path, message }) => ({ at: positionOf(positions, path), message: `${nameOf(path)}: ${message}` })),
  );
}

/** Gives each entry its own name, so that it can travel alone. */
function named<T extends object>(entries: Readonly<Record<string, T>>): Record<string, T & { readonly name: string }> {
  return Object.fromEntries(Object.entries(entries).map(([name, entry]) => [name, { ...entry, name }]));
}

/** A setting without a value is one that was not set, or taken back by an overlay. */
function withoutNulls(value: Json): Json {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== "object" || value === null) return value;
  const set = Object.entries(value).filter(([, inner]) => inner !== null);
  return Object.fromEntries(set.map(([key, inner]) => [key, withoutNulls(inner)]));
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
