/**
 * What a person and a host notice of Slipway at rest: how long a command takes before it does anything, over a catalog of
 * a hundred thousand images, and how much memory a service holds that has nothing to do.
 *
 *   node bench/commands.ts
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { CATALOG_MIGRATIONS } from "../src/catalog/schema.ts";
import { openDatabase } from "../src/database/index.ts";
import { silent } from "../src/lib/call.ts";

const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 3) * 3;
const slipway = join(import.meta.dirname, "../bin/slipway");
const VERSIONS = 5000;
const REGIONS = 20;
/** Memory of an idle service falls for a while after its start. */
const IDLE_SECONDS = 30;

const folder = mkdtempSync(join(tmpdir(), "slipway-bench-"));
// The database does not run as root, and has to find its way there.
chmodSync(folder, 0o755);
const data = join(folder, "data");
let service: ChildProcess | undefined;
try {
  mkdirSync(data, { recursive: true });
  writeFileSync(join(folder, "slipway.yaml"), "data_dir: data\n");
  service = spawn(slipway, ["serve", "--listen", "127.0.0.1:0"], { cwd: folder, stdio: ["ignore", "ignore", "pipe"] });
  for await (const line of createInterface({ input: service.stderr! })) if (/Waiting for work/.test(line)) break;
  await seed();
  const node = fastest([process.execPath, "-e", "0"]);
  const rows = [
    row("node -e 0", node, undefined),
    row("slipway --help", fastest([slipway, "--help"]), 150),
    row("slipway images list", fastest([slipway, "images", "list"]), 1000),
    row("slipway images show NAME", fastest([slipway, "images", "show", "image-4242"]), 1000),
  ];
  console.log(JSON.stringify({ what: "commands", images: VERSIONS * REGIONS, rounds: ROUNDS, rows }));

  await sleep(IDLE_SECONDS * 1000);
  const idleMemoryMiB = residentMiB(service.pid!);
  console.log(JSON.stringify({ what: "idle service", idleSeconds: IDLE_SECONDS, idleMemoryMiB, budgetMiB: 150 }));

  function row(command: string, milliseconds: number, budget: number | undefined) {
    return { command, milliseconds, timesNode: Math.round((milliseconds / node) * 10) / 10, budget: budget ?? "" };
  }
} finally {
  if (service?.exitCode === null) {
    service.kill("SIGTERM");
    await once(service, "exit");
  }
  rmSync(folder, { recursive: true, force: true });
}

/** Five thousand image versions, each in twenty regions, beside the service that has the database open. */
async function seed(): Promise<void> {
  const database = await openDatabase({ url: undefined, dataDir: data, log: silent });
  try {
    await database.migrate("catalog", CATALOG_MIGRATIONS);
    await database.pool.query(
      `insert into image_versions (id, system, compose_id, kind, subvariant, arch, release_number, run_id, created_at)
       select 'version-' || n, 'cloud', 'Fedora-43-' || (n / 4), 'rc', 'Cloud_Base', 'x86_64', 43, 'run', now() - n * interval '1 hour'
       from generate_series(1, $1) n`,
      [VERSIONS],
    );
    await database.pool.query(
      `insert into cloud_images (id, version_id, target, cloud, region, cloud_id, name, key, state)
       select 'image-' || n || '-' || r, 'version-' || n, 'aws', 'aws', 'region-' || r, 'ami-' || n || '-' || r,
              'image-' || n, 'key-' || n, 'active'
       from generate_series(1, $1) n, generate_series(1, $2) r`,
      [VERSIONS, REGIONS],
    );
    await database.pool.query("analyze");
  } finally {
    await database.close();
  }
}

/** Milliseconds from its start to its end; the best of the rounds. @throws Error when it fails */
function fastest([program, ...args]: readonly [string, ...string[]]): number {
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) {
    const began = performance.now();
    const ended = spawnSync(program, args, { cwd: folder, encoding: "utf8" });
    best = Math.min(best, performance.now() - began);
    if (ended.status !== 0) throw new Error(`${args.join(" ")} ended with ${ended.status}: ${ended.stderr}`);
  }
  return Math.round(best);
}

function residentMiB(pid: number): number {
  const [, kib] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return Math.round(Number(kib) / 1024);
}
