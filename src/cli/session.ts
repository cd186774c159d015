/**
 * What a command is given. main.ts makes it, so that no command knows how a database is opened or a cloud is reached.
 * Everything is opened when it is first asked for: `plan --offline` needs no database, `--help` needs nothing.
 */
import type { Kysely } from "kysely";
import type { AlarmTables, Channel } from "../alarms/index.ts";
import type { DoorsState } from "../bus/doors.ts";
import type { Config } from "../config/index.ts";
import type { Engine } from "../durable/index.ts";
import type { CallContext, Log } from "../lib/call.ts";
import type { PlanningServices, Services } from "../workflows/index.ts";
import type { Output } from "./output.ts";

export interface Session {
  readonly output: Output;
  readonly log: Log;
  /** Aborted by Ctrl-C and SIGTERM. */
  readonly signal: AbortSignal;
  readonly call: CallContext;
  readonly version: string;
  config(): Promise<Config>;
  planning(): Promise<PlanningServices>;
  services(): Promise<Services>;
  /** A `command` works itself only while no service does. `service` is asked for by serve, worker and demo. */
  engine(role: "command" | "service", queues?: readonly string[]): Promise<Engine<Services>>;
  /** Looks at everything a release needs, without changing anything. */
  diagnose(): Promise<readonly Diagnosis[]>;
  /** Opens the doors for events and acts on what comes; closed with the session. */
  events(engine: Engine<Services>): Promise<{ state(): DoorsState }>;
  /** What was told of what is wrong, and the ways it is told. */
  alarms(): Promise<{ readonly db: Kysely<AlarmTables>; readonly channels: readonly Channel[] }>;
  /** Starts the console on the configured address, or on the one given. Returns its URL. */
  console(engine: Engine<Services>, listen?: { host: string; port: number }): Promise<string>;
  /** The same session with another configuration file: the demo writes one of its own. */
  withConfig(path: string): Session;
  close(): Promise<void>;
}

export interface Diagnosis {
  readonly what: string;
  readonly state: "good" | "warning" | "bad";
  readonly found: string;
  readonly next?: string | undefined;
}
