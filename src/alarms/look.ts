/** One look at everything: each kind by itself, so that one that cannot be looked at hides no other. */
import { isDisconnected } from "../database/index.ts";
import type { Log } from "../lib/call.ts";
import { reportOf } from "../lib/errors.ts";
import { ALARM_KINDS, type Alarm, type AlarmKind } from "./alarm.ts";
import type { KeepSettings, Look } from "./keep.ts";
import type { Peer } from "./peer-certificate.ts";
import type { World } from "./watch.ts";
import { type BrokerState, type ShutSince, watchBroker } from "./watch-broker.ts";
import { type Expected, watchComposes } from "./watch-composes.ts";
import { type Certificate, type PeerEnds, watchCredentials, watchPeers } from "./watch-credentials.ts";
import { watchMessages } from "./watch-messages.ts";
import { watchQuarantine } from "./watch-quarantine.ts";
import { watchQueues } from "./watch-queues.ts";
import { watchRules } from "./watch-rules.ts";
import { type RunResults, watchRuns } from "./watch-runs.ts";

/** What is to be told of, and of what. Times are milliseconds. */
export interface AlarmSettings extends KeepSettings {
  /** Kinds that are absent are not looked at. */
  readonly after: { readonly [Kind in AlarmKind]?: number };
  /** How long a run may wait for a place in its queue. */
  readonly runsAfter: number;
  /** How often in a row a rule must fail. */
  readonly failures: number;
  readonly expected: readonly Expected[];
  readonly rules: readonly string[];
  readonly certificates: readonly Certificate[];
  /** Servers whose certificates end too. */
  readonly peers: readonly Peer[];
}

/** What a process remembers between two looks. */
export interface Memory {
  readonly results: RunResults;
  readonly shut: ShutSince;
  readonly peers: PeerEnds;
}

export function emptyMemory(): Memory {
  return { results: new Map(), shut: new Map(), peers: new Map() };
}

/**
 * @returns what is true now. A kind whose watch failed is not among its `kinds`, and said in the log
 * @throws what says that the database is away: then nothing is known
 */
export async function lookAround(
  world: World,
  settings: AlarmSettings,
  broker: () => BrokerState,
  memory: Memory,
  log: Log,
): Promise<Look> {
  const { after, expected, rules, failures, certificates, peers, runsAfter } = settings;
  // Before what may fail: it remembers since when, and the broker may be away together with the database.
  const shut = watchBroker(world.now, broker(), after.broker ?? Infinity, memory.shut);
  const watches: Record<AlarmKind, (after: number) => Promise<Alarm[]> | Alarm[]> = {
    "compose-missing": (grace) => watchComposes(world, expected, grace),
    "queue-age": (age) => watchQueues(world, { after: age, runsAfter, sending: broker().publishing !== undefined }),
    quarantine: (within) => watchQuarantine(world, within),
    undelivered: (age) => watchMessages(world, age),
    "rule-failing": () => watchRules(world, rules, failures),
    credentials: async (left) => [
      ...(await watchCredentials(world.now, certificates, left)),
      ...(await watchPeers(world.now, peers, left, memory.peers)),
    ],
    broker: () => shut,
    "run-failed": (within) => watchRuns(world, within, memory.results),
  };
  const alarms: Alarm[] = [];
  const kinds: AlarmKind[] = [];
  const off: AlarmKind[] = [];
  for (const kind of ALARM_KINDS) {
    const limit = after[kind];
    if (limit === undefined) {
      off.push(kind);
      continue;
    }
    try {
      alarms.push(...(await watches[kind](limit)));
      kinds.push(kind);
    } catch (error) {
      if (isDisconnected(error)) throw error;
      log.warn("a kind of alarm cannot be looked at", { kind, error: reportOf(error).message });
    }
  }
  return { alarms, kinds, off };
}
