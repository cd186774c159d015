/**
 * How much of what a cloud allows an upload uses: behind a bucket of so many puts a second, and behind a peer that refuses
 * three in ten. 1 is all of the limit; what is refused is asked again and costs the cloud a request.
 *
 *   node bench/pacing.ts
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { RuleInput } from "@slipway/rehearsal";
import { MiB } from "../src/lib/units.ts";
import { madeUpDisk } from "./lib/disks.ts";
import { askChild, CLIENT_CORE, canPin, SERVER_CORE } from "./lib/pinned.ts";
import { startServer } from "./lib/server.ts";
import type { Measured } from "./lib/upload-client.ts";

const client = fileURLToPath(new URL("./lib/upload-client.ts", import.meta.url));
const BLOCKS = 512;
const puts = { cloud: "aws", operation: "PutSnapshotBlock" };
const RULES: Record<string, RuleInput> = {
  "50 puts/s": { name: "limit", match: puts, fault: "throttle", rate: 50, burst: 50 },
  "20 puts/s": { name: "limit", match: puts, fault: "throttle", rate: 20, burst: 20 },
  "3 in 10 refused": { name: "limit", match: puts, chance: 0.3, fault: "throttle", rate: 0.001 },
};

const folder = mkdtempSync(join(tmpdir(), "slipway-bench-"));
try {
  const disk = await madeUpDisk(folder, { name: "without zeros", virtualMiB: 256, zeros: 0, preset: 0 });
  const rows = [];
  const measure = async (rules: readonly RuleInput[]) => {
    await using server = await startServer(SERVER_CORE, { rules });
    const task = { what: "upload", cloud: "aws", variant: { zeros: "skip" }, disk, clouds: server.clouds };
    const measured = await askChild<Measured>(CLIENT_CORE, client, task);
    return { ...measured, ...(await server.end()).limit };
  };
  const free = await measure([]);
  for (const [name, rule] of Object.entries(RULES)) {
    const { seconds, matched = 0, applied = 0 } = await measure([rule]);
    const rate = "rate" in rule && rule.rate > 1 ? rule.rate : undefined;
    // A full bucket at the start is not waited for; without a rate, what is asked for is to be as fast as without refusals.
    const ideal = rate === undefined ? free.seconds / 0.7 : Math.max((BLOCKS - rate) / rate, free.seconds);
    rows.push({
      limit: name,
      seconds: rounded(seconds),
      idealSeconds: rounded(ideal),
      used: rounded(ideal / seconds),
      refusedShare: rounded(matched === 0 ? 0 : applied / matched),
    });
  }
  const cores = canPin ? "apart" : "shared";
  console.log(JSON.stringify({ what: "pacing", puts: BLOCKS, virtualMiB: disk.virtualBytes / MiB, cores, rows }));
} finally {
  rmSync(folder, { recursive: true });
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}
