import { dirname, resolve } from "node:path";
import type { Json } from "../model.ts";
import { type Path, type Positions, positionOf } from "./problem.ts";

/** Settings that are paths; `*` is any name. Beside them every `{file: PATH}`. */
const PATH_SETTINGS = [
  "data_dir",
  "attestations.trusted.*",
  "database.ca_file",
  "bus.fedora_messaging",
  "bus.ca_file",
  "bus.cert_file",
  "bus.key_file",
  "automation.playbooks",
  "automation.inventory",
  "automation.vault_password_file",
  "automation.users.*.key_file",
  "notifications.channels.*.ca_file",
  "rules.*.do.playbook.inventory",
  "targets.*.ca_file",
  "targets.*.directory",
  "targets.*.client_cert.cert",
  "targets.*.client_cert.key",
].map((setting) => setting.split("."));

/** Makes every path absolute, each relative to the file it stands in: an included file means its own neighbours. */
export function resolvePaths(value: Json, positions: Positions, path: Path = []): Json {
  if (Array.isArray(value)) return value.map((item, index) => resolvePaths(item, positions, [...path, index]));
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(
      Object.entries(value).map(([key, inner]) => [key, resolvePaths(inner, positions, [...path, key])]),
    );
  }
  if (typeof value !== "string" || value === "" || !isPathSetting(path)) return value;
  const file = positionOf(positions, path)?.file;
  return file === undefined ? value : resolve(dirname(file), value);
}

function isPathSetting(path: Path): boolean {
  // `repositories` maps names of strangers' choice, "file" among them.
  if (path.at(-1) === "file" && path.at(-2) !== "repositories") return true;
  return PATH_SETTINGS.some(
    (setting) => setting.length === path.length && setting.every((part, at) => part === "*" || part === path[at]),
  );
}
