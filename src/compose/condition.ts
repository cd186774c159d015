import { channelOf, kindOf, prereleaseOf } from "./channel.ts";
import { isCurrent } from "./releases.ts";
import type { Compose, Condition, ReleaseState, System } from "./types.ts";
import { matchesAny } from "./wildcard.ts";

/** Whether everything a condition asks is so for this compose. No condition always holds. */
export function holds(
  condition: Condition | undefined,
  compose: Compose,
  system: Pick<System, "channels">,
  releases: ReleaseState,
): boolean {
  if (!condition) return true;
  const { kind, channel, current, prerelease } = condition;
  if (kind && !kind.includes(kindOf(compose, releases))) return false;
  if (channel && !matchesAny(channel, channelOf(compose, system.channels, releases))) return false;
  if (current !== undefined && current !== isCurrent(compose.release.version, releases)) return false;
  return prerelease === undefined || prerelease === prereleaseOf(compose, releases);
}
