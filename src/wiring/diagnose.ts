/** `slipway doctor`: looks at everything a release needs and changes nothing. */
import { statfs } from "node:fs/promises";
import { resolve } from "node:path";
import type { Diagnosis } from "../cli/session.ts";
import type { Config } from "../config/index.ts";
import type { Database } from "../database/index.ts";
import type { CallContext } from "../lib/call.ts";
import { reportOf } from "../lib/errors.ts";
import { GiB } from "../lib/units.ts";
import type { PlanningServices } from "../workflows/index.ts";

interface Patient {
  config(): Promise<Config>;
  planning(): Promise<PlanningServices>;
  database(): Promise<Database>;
  readonly call: CallContext;
}

export async function diagnose(patient: Patient): Promise<Diagnosis[]> {
  const found: Diagnosis[] = [{ what: "runtime", state: "good", found: `Node ${process.version}` }];
  const config = await attempt(found, "configuration", async () => {
    const settings = await patient.config();
    const files = settings.files.length === 0 ? "no slipway.yaml, defaults" : settings.files.join(", ");
    return [files, settings] as const;
  });
  if (config === undefined) return found;
  await attempt(found, "data directory", async () => {
    const directory = resolve(config.data_dir);
    const { bavail, bsize } = await statfs(directory).catch(() => statfs("."));
    const free = bavail * bsize;
    if (free < GiB) throw new Error(`${directory} has less than 1 GiB left`);
    return [`${directory}, ${Math.floor(free / GiB)} GiB free`, true] as const;
  });
  await attempt(found, "database", async () => {
    const { pool } = await patient.database();
    const { rows } = await pool.query<{ version: string }>("select split_part(version(), ' ', 2) as version");
    return [`PostgreSQL ${rows[0]?.version}${config.database.url === undefined ? ", embedded" : ""}`, true] as const;
  });
  const services = await patient.planning();
  for (const target of Object.values(config.targets)) {
    const what = `target ${target.name}`;
    if (!target.enabled) {
      found.push({ what, state: "warning", found: "switched off" });
      continue;
    }
    if (config.shadow !== undefined) {
      found.push({ what, state: "good", found: "not opened: this is a shadow" });
      continue;
    }
    await attempt(found, what, async () => {
      const findings =
        target.cloud === "registry"
          ? await (await services.targets.registry(target.name, patient.call)).check([], patient.call)
          : await (await services.targets.cloud(target.name, patient.call)).check([], patient.call);
      for (const { severity, subject, message, next } of findings) {
        if (severity === "info") continue;
        found.push({
          what: `${what}: ${subject}`,
          state: severity === "error" ? "bad" : "warning",
          found: message,
          next,
        });
      }
      return [findings.some((one) => one.severity === "error") ? "reached" : `${target.cloud}, all permissions`, true];
    });
  }
  return found;
}

async function attempt<T>(
  found: Diagnosis[],
  what: string,
  look: () => Promise<readonly [string, T]>,
): Promise<T | undefined> {
  try {
    const [text, value] = await look();
    found.push({ what, state: "good", found: text });
    return value;
  } catch (error) {
    const { code, message, subject, next } = reportOf(error);
    const about = subject === undefined ? "" : ` (${subject})`;
    found.push({ what, state: "bad", found: `[${code}] ${message}${about}`, next });
    return undefined;
  }
}
