import { readdirSync, readFileSync, statSync } from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import { dirname, join, relative, resolve } from "node:path";
import { init, parse } from "es-module-lexer";
import { expect, test } from "vitest";

/**
 * Who may import whom, one row a room of `src/`. Everyone may import `model.ts` and `lib/`.
 * Arrows are direct imports; a type is an import too, because it is knowledge.
 */
const MAY_IMPORT: Record<string, readonly string[]> = {
  lib: [],
  images: [],
  compose: [],
  attestations: [],
  lifecycle: [],
  rules: [],
  programs: [],
  durable: ["database"],
  database: [],
  config: ["compose", "rules"],
  catalog: ["database"],
  bus: ["database", "rules"],
  alarms: ["database", "durable", "bus", "catalog", "rules"],
  clouds: ["images"],
  registries: ["images"],
  builds: ["programs", "registries", "images"],
  workflows: [
    ...["compose", "images", "clouds", "registries", "builds", "programs"],
    ...["catalog", "lifecycle", "durable", "bus", "config", "attestations", "rules"],
  ],
  cli: ["attestations", "alarms", "workflows", "catalog", "lifecycle", "durable", "bus", "config", "rules"],
  console: ["alarms", "workflows", "catalog", "lifecycle", "durable", "bus", "config", "rules"],
};

/** What puts the rooms together may know them all. */
const WIRING = ["main.ts", "wiring"];

/** Vendor SDKs and the one folder that may know each. */
const SDK_HOMES: readonly [RegExp, string][] = [
  [/^@aws-sdk\/|^@smithy\//, "clouds/aws/"],
  [/^@azure\//, "clouds/azure/"],
  [/^@google-cloud\/|^google-auth-library/, "clouds/gcp/"],
  [/^@dbos-inc\//, "durable/"],
];

const src = resolve(import.meta.dirname, "../src");

test("rooms import only what the table allows", async () => {
  await init;
  const wrong: string[] = [];
  for (const file of sourceFiles(src)) {
    const from = relative(src, file);
    const room = from.includes("/") ? from.split("/")[0]! : from;
    for (const specifier of await importsOf(file)) {
      if (!specifier.startsWith(".")) {
        for (const [sdk, home] of SDK_HOMES) {
          if (sdk.test(specifier) && !from.startsWith(home) && !isTest(from)) wrong.push(`${from}: SDK ${specifier}`);
        }
        continue;
      }
      const target = relative(src, resolve(dirname(file), specifier));
      const other = target.includes("/") ? target.split("/")[0]! : target;
      if (other === room || other === "model.ts" || other === "lib" || WIRING.includes(room) || isTest(from)) continue;
      if (!(MAY_IMPORT[room] ?? []).includes(other)) wrong.push(`${from} imports ${target}`);
    }
  }
  expect(wrong).toEqual([]);
});

test("nothing but main.ts and tests reads the environment", () => {
  const readers = sourceFiles(src)
    .map((file) => relative(src, file))
    .filter((file) => file !== "main.ts" && !isTest(file))
    .filter((file) =>
      /\bprocess\.env\b/.test(readFileSync(join(src, file), "utf8").replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, "")),
    );
  expect(readers).toEqual([]);
});

function isTest(path: string): boolean {
  return path.endsWith(".test.ts") || path.includes("/testing/");
}

function sourceFiles(directory: string): string[] {
  return readdirSync(directory).flatMap((name) => {
    const path = join(directory, name);
    if (statSync(path).isDirectory()) return name === "testdata" ? [] : sourceFiles(path);
    return path.endsWith(".ts") ? [path] : [];
  });
}

async function importsOf(file: string): Promise<string[]> {
  const text = readFileSync(file, "utf8");
  const [imports] = parse(stripTypeScriptTypes(text, { mode: "strip" }));
  const values = imports.flatMap((found) => ("specifier" in found && found.specifier ? [found.specifier] : []));
  // Type-only imports vanish with the types; a line that begins with one is easy to read.
  const types = [...text.matchAll(/^(?:import|export) type [^;]*? from "([^"]+)"/gm)].map((match) => match[1]!);
  return [...new Set([...values, ...types])];
}
