import { X509Certificate } from "node:crypto";
import { open } from "node:fs/promises";
import { reportOf } from "../lib/errors.ts";
import { MiB } from "../lib/units.ts";
import { type Alarm, alarmKey } from "./alarm.ts";
import { forPeople, moment, plain } from "./text.ts";

/** A certificate that is used and will end. */
export interface Certificate {
  /** For people: `the broker's client certificate`. The same for as long as it is in the configuration. */
  readonly name: string;
  readonly file: string;
  /** `authority`: one of several is enough, so the last to end counts. `own`: the first in the file does. */
  readonly use: "own" | "authority";
}

const MOST_BYTES = MiB;

/**
 * `credentials`: a certificate that ends within `before` milliseconds, has ended, or cannot be read. Files are read each
 * time, so that a renewed one is seen.
 */
export async function watchCredentials(
  now: Date,
  certificates: readonly Certificate[],
  before: number,
): Promise<Alarm[]> {
  const alarms: Alarm[] = [];
  for (const { name, file, use } of certificates) {
    const alarm = (severity: Alarm["severity"], message: string, next: string): Alarm => ({
      ...{ key: alarmKey("credentials", name.replaceAll(" ", "-")), kind: "credentials", subject: file },
      ...{ severity, message, next },
    });
    let ends: number;
    try {
      ends = await endOf(file, use);
    } catch (error) {
      const why = plain(reportOf(error).message, 200);
      alarms.push(alarm("error", `${name} cannot be read: ${why}`, `Correct ${file}, or who may read it.`));
      continue;
    }
    const left = ends - now.getTime();
    if (left >= before) continue;
    const next = `Get a new one, put it into ${file}, and start Slipway again.`;
    alarms.push(
      left <= 0
        ? alarm("error", `${name} ended at ${moment(new Date(ends))}.`, next)
        : alarm("warning", `${name} ends in ${forPeople(left)}, at ${moment(new Date(ends))}.`, next),
    );
  }
  return alarms;
}

/** Milliseconds since 1970. @throws what is wrong with the file */
async function endOf(file: string, use: Certificate["use"]): Promise<number> {
  await using handle = await open(file);
  if ((await handle.stat()).size > MOST_BYTES) throw new Error("it is larger than 1 MiB");
  const pem = await handle.readFile("utf8");
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  if (blocks.length === 0) throw new Error("there is no certificate in it");
  const ends = (use === "own" ? blocks.slice(0, 1) : blocks).map((block) => endOfBlock(block));
  return Math.max(...ends);
}

function endOfBlock(block: string): number {
  try {
    return Date.parse(new X509Certificate(block).validTo);
  } catch {
    // What was wrong with it is told in OpenSSL's words, which help nobody.
    throw new Error("what is in it is no certificate");
  }
}
