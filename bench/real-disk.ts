/**
 * What releasing a real disk takes, against `xz -dc -T0` of the same files in the same run: the figures of the interop
 * suite real-disk.test.ts, which asserts everything but times. Prints one JSON line, or why there is none.
 *
 * The simulated clouds check every block on the same cores: they are in the time, the way a network would be.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
const NEEDED = ["qemu-system-x86_64", "mmdebstrap", "xz", "skopeo", "qemu-img"];

const missing = NEEDED.filter((program) => spawnSync(program, ["--version"]).error !== undefined);
if (missing.length > 0) {
  console.log(
    JSON.stringify({ what: "real-disk", notRun: `${missing.join(", ")} not installed (test/interop/setup)` }),
  );
} else {
  const folder = mkdtempSync(join(tmpdir(), "slipway-bench-"));
  try {
    const suite = "test/interop/real-disk.test.ts";
    const vitest = join(root, "node_modules/.bin/vitest");
    spawnSync(vitest, ["run", "--config", "test/interop/vitest.config.ts", suite], {
      cwd: root,
      // Standard output is for the figures.
      stdio: ["ignore", 2, 2],
      env: { ...process.env, SLIPWAY_BENCH_RESULTS: folder },
    });
    const result = join(folder, "real-disk.json");
    if (!existsSync(result)) throw new Error(`${suite} ended without figures`);
    console.log(JSON.stringify(JSON.parse(readFileSync(result, "utf8"))));
  } finally {
    rmSync(folder, { recursive: true });
  }
}
