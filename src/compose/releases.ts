import { SlipwayError } from "../lib/errors.ts";
import type { Compose, ReleaseState } from "./types.ts";

export function isRawhide(version: string): boolean {
  return version.toLowerCase() === "rawhide";
}

export function isEln(version: string): boolean {
  return version.toLowerCase() === "eln";
}

/**
 * The integer that stands for a compose's release in messages, gallery versions and tags: 43 for "43", 4230 for
 * "4230.2.1", Rawhide's number for Rawhide and for ELN, which is built from it.
 * @throws SlipwayError `invalid` when Rawhide's number cannot be told
 */
export function releaseNumberOf(version: string, releases: ReleaseState): number {
  const leading = /^\d{1,9}/.exec(version);
  if (leading) return Number(leading[0]);
  if (!isRawhide(version) && !isEln(version)) {
    throw new SlipwayError("invalid", `release "${version}" has no number, and names or messages need one`, {
      subject: "release version",
      next: "Only Rawhide, ELN and versions that begin with a digit have numbers.",
    });
  }
  const known = [...releases.stable, ...releases.branched];
  const rawhide = releases.rawhide ?? (known.length > 0 ? Math.max(...known) + 1 : undefined);
  if (rawhide === undefined) {
    throw new SlipwayError("invalid", `the number of ${version} is not known`, {
      subject: "releases.rawhide",
      next: "Set releases.rawhide, or releases.stable and releases.branched, in slipway.yaml.",
    });
  }
  return rawhide;
}

/** True for the newest stable release: the one `latest` means. */
export function isCurrent(version: string, releases: ReleaseState): boolean {
  return /^\d+$/.test(version) && Number(version) === Math.max(...releases.stable);
}

export function isStable(version: string, releases: ReleaseState): boolean {
  return /^\d+$/.test(version) && releases.stable.includes(Number(version));
}

export function isBranched(version: string, releases: ReleaseState): boolean {
  return /^\d+$/.test(version) && releases.branched.includes(Number(version));
}

/** ISO date after which the compose's images should not be started: the release's, else some months after the compose. */
export function endOfLifeOf(compose: Pick<Compose, "date" | "release">, releases: ReleaseState): string {
  const { version } = compose.release;
  const known = Object.hasOwn(releases.end_of_life, version) ? releases.end_of_life[version] : undefined;
  if (known !== undefined) return known;
  const [year, month, day] = [compose.date.slice(0, 4), compose.date.slice(4, 6), compose.date.slice(6)].map(Number);
  // Day 0 of the month after is the last day of the month: 31 January + 13 months is 28 February, not 3 March.
  const months = month! - 1 + releases.unknown_end_of_life_months;
  const lastDay = new Date(Date.UTC(year!, months + 1, 0)).getUTCDate();
  return new Date(Date.UTC(year!, months, Math.min(day!, lastDay))).toISOString().slice(0, 10);
}
