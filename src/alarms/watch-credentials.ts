import { X509Certificate } from "node:crypto";
import { open } from "node:fs/promises";
import { reportOf } from "../lib/errors.ts";
import { hours, MiB, minutes } from "../lib/units.ts";
import { type Alarm, alarmKey } from "./alarm.ts";
import { endOfPeer, type Peer } from "./peer-certificate.ts";
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

/** What servers showed, by name: when to ask again, and the end if it was seen. Milliseconds since 1970. */
export type PeerEnds = Map<string, { readonly askAt: number; readonly ends: number | undefined }>;

/** A server's certificate is exchanged once in months; one that is away shall not hold up every look. */
const ASK_AGAIN_MS = hours(6);
const AWAY_AGAIN_MS = minutes(10);

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
    let ends: number;
    try {
      ends = await endOf(file, use);
    } catch (error) {
      const why = plain(reportOf(error).message, 200);
      const next = `Correct ${file}, or who may read it.`;
      alarms.push(alarmOf(name, { subject: file, severity: "error", message: `${name} cannot be read: ${why}`, next }));
      continue;
    }
    const next = `Get a new one, put it into ${file}, and start Slipway again.`;
    alarms.push(...endingSoon(name, file, ends, { now, before, next }));
  }
  return alarms;
}

/**
 * The same for what servers show. One that cannot be reached is `broker`'s matter: what it showed last counts. `known`
 * is kept from look to look.
 */
export async function watchPeers(now: Date, peers: readonly Peer[], before: number, known: PeerEnds): Promise<Alarm[]> {
  const alarms: Alarm[] = [];
  for (const peer of peers) {
    const asked = known.get(peer.name);
    let ends = asked?.ends;
    if (now.getTime() >= (asked?.askAt ?? 0)) {
      const shown = await endOfPeer(peer).catch(() => undefined);
      ends = shown ?? ends;
      known.set(peer.name, { askAt: now.getTime() + (shown === undefined ? AWAY_AGAIN_MS : ASK_AGAIN_MS), ends });
    }
    if (ends === undefined) continue;
    const place = `${peer.host}:${peer.port}`;
    const next = `Whoever runs ${place} has to renew it; until then nothing that checks it connects.`;
    alarms.push(...endingSoon(peer.name, place, ends, { now, before, next }));
  }
  return alarms;
}

function endingSoon(
  name: string,
  subject: string,
  ends: number,
  { now, before, next }: { readonly now: Date; readonly before: number; readonly next: string },
): Alarm[] {
  const left = ends - now.getTime();
  if (left >= before) return [];
  const at = moment(new Date(ends));
  if (left <= 0) return [alarmOf(name, { subject, severity: "error", message: `${name} ended at ${at}.`, next })];
  const message = `${name} ends in ${forPeople(left)}, at ${at}.`;
  return [alarmOf(name, { subject, severity: "warning", message, next })];
}

function alarmOf(name: string, facts: Pick<Alarm, "subject" | "severity" | "message" | "next">): Alarm {
  return { key: alarmKey("credentials", name), kind: "credentials", ...facts };
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
