import { isBranched, isEln, isRawhide, isStable } from "./releases.ts";
import type { ChannelRule, Compose, ComposeFilter, Kind, ReleaseState } from "./types.ts";
import { matchesAny } from "./wildcard.ts";

type Described = Pick<Compose, "type" | "label" | "release">;

/**
 * The kind of compose, as topics name it. A production compose is not always a release candidate: the nightlies after
 * a release (Fedora-Cloud, -Container, -IoT) are production composes with a dated label.
 */
export function kindOf(compose: Described, releases: ReleaseState): Kind {
  const { version } = compose.release;
  if (isRawhide(version)) return "rawhide";
  if (isEln(version)) return "eln";
  if (compose.type === "production" && compose.label && !compose.label.dated) return "rc";
  if (isBranched(version, releases)) return "branched";
  if (compose.type === "production" || isStable(version, releases)) return "nightly";
  return "branched";
}

/**
 * True for what comes before a release: an early milestone, or a nightly of a branched release. A release candidate is
 * not one: the candidate that is accepted *is* the release, under the name it was given.
 */
export function prereleaseOf(compose: Described, releases: ReleaseState): boolean {
  const kind = kindOf(compose, releases);
  return kind === "branched" || (kind === "rc" && compose.label?.early === true);
}

/** The line of composes it belongs to: what the system's rules say, else rawhide, eln, updates, rc, cloud, branched … */
export function channelOf(compose: Described, rules: readonly ChannelRule[], releases: ReleaseState): string {
  const rule = rules.find((candidate) => whyNot(compose, candidate.when) === undefined);
  if (rule) return rule.channel;
  const kind = kindOf(compose, releases);
  if (kind === "rawhide" || kind === "eln") return kind;
  if (compose.release.type.startsWith("updates")) return "updates";
  if (kind === "rc") return kind;
  const dash = compose.release.short.indexOf("-");
  if (dash >= 0) return compose.release.short.slice(dash + 1).toLowerCase();
  return kind;
}

/** Why a filter does not take a compose, in words; undefined if it does. */
export function whyNot(compose: Described, filter: Omit<ComposeFilter, "channel">): string | undefined {
  const { short, version, type } = compose.release;
  const label = compose.label?.text ?? "";
  const questions: readonly [string, readonly string[] | undefined, string][] = [
    ["composes of", filter.short, short],
    ["version", filter.version, version],
    ["release type", filter.release, type],
    ["compose type", filter.type, compose.type],
    ["label", filter.label, label],
  ];
  for (const [what, wanted, has] of questions) {
    if (wanted && !matchesAny(wanted, has)) return `${what} ${has === "" ? "(none)" : has}`;
  }
  return undefined;
}
