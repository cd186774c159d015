import { existsSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { MiB } from "../../lib/units.ts";
import { duration, EXIT } from "../output.ts";
import { loadRehearsal, loadSample, writeRehearsalConfig } from "../rehearsal.ts";
import type { Session } from "../session.ts";
import { releaseWith } from "./release.ts";
import { parseListen, untilStopped } from "./serve.ts";

/** Half a second of bytes for a fast machine, some seconds for bars that can be watched. */
/** Google Cloud takes whole GiB. */
const DISK = { bytes: 1024 * MiB, dataBytes: 64 * MiB };

/**
 * The whole product in one command: makes a sample compose, starts simulated clouds, releases to them with live
 * progress, and leaves the console open. The simulated clouds forget when they stop, so each demo has a database of its
 * own; the compose is kept for the next one.
 */
export async function demo(session: Session, options: { once?: boolean; listen: string }): Promise<number> {
  const began = Date.now();
  const { output } = session;
  const rehearsalModule = await loadRehearsal();
  const root = resolve((await session.config()).data_dir, "demo");
  const compose = await sampleCompose(session, root);

  const directory = join(root, `run-${process.pid}`);
  await mkdir(join(directory, "blobs"), { recursive: true });
  output.say("Starting simulated AWS, Azure, Google Cloud and a container registry …");
  const rehearsal = await rehearsalModule.startRehearsal({ blobDir: join(directory, "blobs") });
  const configured = session.withConfig(await writeRehearsalConfig(rehearsal, directory, { gcp: true }));
  let code: number;
  try {
    const engine = await configured.engine("service");
    if (options.once !== true) {
      output.say(`Console at ${output.paint.bold(await configured.console(engine, parseListen(options.listen)))}`);
    }
    code = await releaseWith(configured, engine, compose, {});
    output.say(`${output.paint.dim("From nothing to released in")} ${duration(Date.now() - began)}`);
    if (options.once !== true) {
      output.say(
        [
          "",
          "Look around in another terminal:",
          `  bin/slipway --config ${join(directory, "slipway.yaml")} images list`,
          `  bin/slipway --config ${join(directory, "slipway.yaml")} runs logs --last`,
          `  bin/slipway --config ${join(directory, "slipway.yaml")} events list --sent`,
          `  bin/slipway --config ${join(directory, "slipway.yaml")} images verify Fedora-43-20251021.0 --bytes sample`,
          "Ctrl-C ends the demo.",
        ].join("\n"),
      );
      await untilStopped(session.signal);
    }
  } finally {
    await configured.close();
    await rehearsal.close();
    await rm(directory, { recursive: true, force: true });
  }
  return code ?? EXIT.failed;
}

async function sampleCompose(session: Session, root: string): Promise<string> {
  const id = "Fedora-43-20251021.0";
  // By size, so that a compose of an earlier version with another disk is not taken for this one.
  const out = join(root, "composes", String(DISK.bytes));
  const directory = join(out, id, "compose");
  // STATUS is written last: where it is, everything is.
  if (existsSync(join(out, id, "STATUS"))) return directory;
  const { makeSampleDisk, makeSampleCompose } = await loadSample();
  session.output.say(
    "Making a sample compose: a disk in the formats of AWS, Azure and GCP, and two container images …",
  );
  await mkdir(out, { recursive: true });
  const disk = join(root, "disk.raw");
  await makeSampleDisk(disk, DISK.bytes, DISK.dataBytes, "demo");
  await makeSampleCompose({ disk, out, id, onFile: (path) => session.output.say(`  ${path}`) });
  await rm(disk, { force: true });
  return directory;
}
