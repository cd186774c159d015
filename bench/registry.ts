/**
 * What pushing a container takes, against reading and hashing its archive alone (`sha256sum`) and the wire alone (a bare
 * client that sends the same bytes in one request). The simulated registry has a core of its own.
 *
 *   node bench/registry.ts
 */
import { createHash, randomFillSync } from "node:crypto";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ociLayout, tar } from "../src/images/archives/testing/make-archive.ts";
import { MiB } from "../src/lib/units.ts";
import { askChild, CLIENT_CORE, canPin, SERVER_CORE, timed } from "./lib/pinned.ts";
import type { RegistryMeasured } from "./lib/registry-client.ts";
import { startServer } from "./lib/server.ts";

const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 3);
const client = fileURLToPath(new URL("./lib/registry-client.ts", import.meta.url));
/** Fedora's base image has 70 MiB, a desktop's layers some hundreds. */
const LAYERS = [256, 64, 16];

const folder = mkdtempSync(join(tmpdir(), "slipway-bench-"));
try {
  const path = join(folder, "image.oci.tar");
  writeFileSync(
    path,
    tar(ociLayout({ layers: LAYERS.map((size) => randomFillSync(Buffer.alloc(size * MiB))) } as never)),
  );
  const bytes = statSync(path).size;
  const sha256 = await digestOf(path);
  const best = { read: Number.POSITIVE_INFINITY, wire: Number.POSITIVE_INFINITY };
  let push: RegistryMeasured | undefined;
  for (let round = 0; round < ROUNDS; round++) {
    await using server = await startServer(SERVER_CORE);
    const task = { clouds: server.clouds, archive: { path, bytes, sha256 } };
    best.read = Math.min(best.read, await timed(CLIENT_CORE, ["sha256sum", path]));
    const wire = await askChild<RegistryMeasured>(CLIENT_CORE, client, { what: "wire", ...task });
    best.wire = Math.min(best.wire, wire.seconds);
    const one = await askChild<RegistryMeasured>(CLIENT_CORE, client, { what: "push", ...task });
    if (push === undefined || one.seconds < push.seconds) push = one;
  }
  const { seconds, cpuSeconds, sentBytes, peakMemoryMiB } = push!;
  const row = {
    cloud: "registry",
    cores: canPin ? "apart" : "shared",
    seconds: rounded(seconds),
    readSeconds: rounded(best.read),
    wireSeconds: rounded(best.wire),
    ratio: rounded(seconds / Math.max(best.read, best.wire)),
    cpuSeconds: rounded(cpuSeconds),
    sentMiB: Math.round(sentBytes / MiB),
    peakMemoryMiB,
  };
  console.log(
    JSON.stringify({ what: "push, container", fileMiB: Math.round(bytes / MiB), rounds: ROUNDS, rows: [row] }),
  );
} finally {
  rmSync(folder, { recursive: true });
}

async function digestOf(path: string): Promise<string> {
  const { createReadStream } = await import("node:fs");
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: MiB })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}
