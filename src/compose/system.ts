import { channelOf, whyNot } from "./channel.ts";
import type { Compose, ReleaseState, System } from "./types.ts";
import { matchesAny } from "./wildcard.ts";

/** Test, CI and development composes are released only by a system that asks for them. */
const RELEASED_TYPES = ["production", "nightly"] as const;

/** FINISHED_INCOMPLETE lacks something that was allowed to fail: normal for Rawhide. */
const RELEASED_STATUSES: ReadonlySet<string> = new Set(["FINISHED", "FINISHED_INCOMPLETE"]);

/** Whether a compose is this system's, and if not, why. */
export function systemTakes(
  compose: Compose,
  system: System,
  releases: ReleaseState,
): { readonly takes: true } | { readonly takes: false; readonly reason: string } {
  if (system.enabled === false) return { takes: false, reason: `system ${system.name} is switched off` };
  const filter = { type: RELEASED_TYPES, ...definedOnly(system.composes) };
  const refused = whyNot(compose, filter);
  if (refused) return { takes: false, reason: `${system.name} does not take ${refused}` };
  const channel = channelOf(compose, system.channels, releases);
  if (system.composes.channel && !matchesAny(system.composes.channel, channel)) {
    return { takes: false, reason: `${system.name} does not take channel ${channel}` };
  }
  if (compose.status !== undefined && !RELEASED_STATUSES.has(compose.status)) {
    return { takes: false, reason: `the compose is ${compose.status}, not FINISHED` };
  }
  return { takes: true };
}

/** The fields that were given: spreading an explicit `undefined` would undo a default. */
function definedOnly<T extends object>(fields: T): Partial<T> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Partial<T>;
}
