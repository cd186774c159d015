// Runs every bench beside this file, one after the other. Each prints JSON lines; they are kept in results/<name>.json
// with the versions of what was measured, and as tables in results/README.md. Ratios within one run are the figures;
// absolute times belong to the machine they were taken on.
//
//   node bench/run.ts [NAME ...]        default: all
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { arch, availableParallelism, cpus } from "node:os";
import { basename, join } from "node:path";

type Value = string | number | readonly Figures[];
interface Figures {
  readonly [name: string]: Value;
}

interface Result {
  readonly machine: readonly string[];
  readonly figures: readonly Figures[];
}

const here = import.meta.dirname;
const results = join(here, "results");
mkdirSync(results, { recursive: true });
const machine = [
  `node ${process.version}`,
  firstLine("xz", ["--version"]),
  `${cpus()[0]?.model ?? "unknown processor"}, ${availableParallelism()} cores, ${arch()}`,
];

const asked = process.argv.slice(2);
const names = readdirSync(here)
  .filter((name) => name.endsWith(".ts") && name !== "run.ts")
  .map((name) => basename(name, ".ts"));
let failed = 0;
for (const name of names.filter((one) => asked.length === 0 || asked.includes(one))) {
  console.log(`\n== ${name}`);
  const ended = spawnSync(process.execPath, [join(here, `${name}.ts`)], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  process.stdout.write(ended.stdout);
  if (ended.status !== 0) {
    failed++;
    continue;
  }
  const figures = ended.stdout
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as Figures);
  // What could not run here says nothing about what an earlier run measured.
  if (figures.every((line) => "notRun" in line)) continue;
  writeFileSync(pathOf(name), `${JSON.stringify({ machine, figures } satisfies Result, null, 2)}\n`);
}
writeFileSync(join(results, "README.md"), readable());
process.exitCode = failed === 0 ? 0 : 1;

function pathOf(name: string): string {
  return join(results, `${name}.json`);
}

function readable(): string {
  const parts = [
    "# What the benches said",
    'Written by `make bench`. A ratio compares two things of one run; "seconds" are those of the machine.',
  ];
  for (const name of names.filter((one) => existsSync(pathOf(one)))) {
    const result = JSON.parse(readFileSync(pathOf(name), "utf8")) as Result;
    parts.push(`## ${name}`, result.machine.join(" · "));
    for (const line of result.figures) {
      parts.push(table([line]));
      for (const value of Object.values(line)) if (Array.isArray(value)) parts.push(table(value));
    }
  }
  return `${parts.join("\n\n")}\n`;
}

/** One row for each; figures that are lists are left for tables of their own. */
function table(rows: readonly Figures[]): string {
  const columns = Object.entries(rows[0] ?? {}).flatMap(([name, value]) => (typeof value === "object" ? [] : [name]));
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [
    line(columns),
    line(columns.map(() => "---")),
    ...rows.map((row) => line(columns.map((name) => String(row[name] ?? "")))),
  ].join("\n");
}

function firstLine(program: string, args: readonly string[]): string {
  const { stdout } = spawnSync(program, args, { encoding: "utf8" });
  return stdout?.split("\n")[0] ?? `${program} is not installed`;
}
