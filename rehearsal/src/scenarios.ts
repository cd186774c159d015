/** The scenarios that come along, by name. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readScenario, type Scenario } from "./proxy/scenario.ts";

const DIRECTORY = fileURLToPath(new URL("../scenarios/", import.meta.url));

/** Names, in order, with what each says of itself. */
export function listScenarios(): { readonly name: string; readonly description: string }[] {
  return namesOfAll().map((name) => ({
    name,
    description: readScenario(join(DIRECTORY, `${name}.yaml`)).description.trim(),
  }));
}

/**
 * One that comes along by its name, any other by the path of its file.
 * @throws Error that names those there are
 */
export function findScenario(nameOrPath: string): Scenario {
  if (namesOfAll().includes(nameOrPath)) return readScenario(join(DIRECTORY, `${nameOrPath}.yaml`));
  if (existsSync(nameOrPath)) return readScenario(nameOrPath);
  throw new Error(`no scenario and no file is called ${nameOrPath}; there are: ${namesOfAll().join(", ")}`);
}

function namesOfAll(): string[] {
  return readdirSync(DIRECTORY)
    .filter((name) => name.endsWith(".yaml"))
    .map((name) => name.slice(0, -".yaml".length))
    .sort();
}
