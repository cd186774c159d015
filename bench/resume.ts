/**
 * What going on after a stop costs: an upload is stopped when a share of the disk has been sent, and another process's
 * driver goes on with its journal. The rest of a whole upload is the yardstick.
 *
 *   node bench/resume.ts
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { MiB } from "../src/lib/units.ts";
import { madeUpDisk } from "./lib/disks.ts";
import { askChild, CLIENT_CORE, canPin, SERVER_CORE } from "./lib/pinned.ts";
import { startServer } from "./lib/server.ts";
import type { Measured } from "./lib/upload-client.ts";

const client = fileURLToPath(new URL("./lib/upload-client.ts", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "slipway-bench-"));
try {
  const disk = await madeUpDisk(folder, { name: "without zeros", virtualMiB: 256, zeros: 0, preset: 0 });
  const rows = [];
  for (const cloud of ["aws", "azure"] as const) {
    const task = { what: "upload", cloud, variant: { zeros: "skip" }, disk };
    const ask = async (more: object) => {
      await using server = await startServer(SERVER_CORE);
      return await askChild<Measured>(CLIENT_CORE, client, { ...task, clouds: server.clouds, ...more });
    };
    const whole = await ask({});
    for (const stopAt of [0.25, 0.5, 0.75]) {
      const { resumed } = await ask({ stopAt });
      rows.push({
        cloud,
        stoppedAt: stopAt,
        wholeSeconds: rounded(whole.seconds),
        resumedSeconds: rounded(resumed!.seconds),
        // 1: as long as the share of a whole upload that was left.
        ratio: rounded(resumed!.seconds / (whole.seconds * (1 - stopAt))),
        sentMiB: Math.round(resumed!.sentBytes / MiB),
        decodedMiB: Math.round(resumed!.decodedBytes / MiB),
        leftMiB: Math.round((disk.virtualBytes * (1 - stopAt)) / MiB),
      });
    }
  }
  console.log(
    JSON.stringify({
      what: "resumed uploads",
      virtualMiB: disk.virtualBytes / MiB,
      cores: canPin ? "apart" : "shared",
      rows,
    }),
  );
} finally {
  rmSync(folder, { recursive: true });
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}
