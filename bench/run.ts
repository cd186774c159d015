// Runs every bench beside this file, one after the other, and keeps what each said in results/, with the versions of
// what was measured. Ratios within one run are the figures; absolute times belong to the machine they were taken on.
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { arch, availableParallelism, cpus } from "node:os";
import { basename, join } from "node:path";

const here = import.meta.dirname;
const results = join(here, "results");
mkdirSync(results, { recursive: true });
const machine = [
  `node ${process.version}`,
  firstLine("xz", ["--version"]),
  `${cpus()[0]?.model ?? "unknown processor"}, ${availableParallelism()} cores, ${arch()}`,
];

let failed = 0;
for (const file of readdirSync(here).filter((name) => name.endsWith(".ts") && name !== "run.ts")) {
  const name = basename(file, ".ts");
  console.log(`\n== ${name}`);
  const ended = spawnSync(process.execPath, [join(here, file)], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  process.stdout.write(ended.stdout);
  if (ended.status !== 0) failed++;
  else writeFileSync(join(results, `${name}.txt`), `${machine.join("\n")}\n\n${ended.stdout}`);
}
process.exitCode = failed === 0 ? 0 : 1;

function firstLine(program: string, args: readonly string[]): string {
  const { stdout } = spawnSync(program, args, { encoding: "utf8" });
  return stdout?.split("\n")[0] ?? `${program} is not installed`;
}
