/**
 * What the stories act through: everything that is not plain JSON and so cannot be stored with a run. Made once by
 * main.ts, faked by tests.
 */
import type { Kysely } from "kysely";
import type { SigningKey, VerifyingKey } from "../attestations/index.ts";
import type { DispatchTables } from "../bus/dispatch/schema.ts";
import type { OutboxTables } from "../bus/outbox.ts";
import type { MessageStyle } from "../bus/published.ts";
import type { ShadowTables } from "../bus/shadow.ts";
import type { CatalogTables } from "../catalog/schema.ts";
import type { Cloud } from "../clouds/cloud.ts";
import type { PlanTarget, ReleaseState, System } from "../compose/index.ts";
import type { Action, Config, RuleConfig, SecretRef } from "../config/index.ts";
import type { Engine, StepContext } from "../durable/index.ts";
import type { ByteSourceOptions } from "../images/byte-source.ts";
import type { CallContext } from "../lib/call.ts";
import { SlipwayError } from "../lib/errors.ts";
import type { Audience } from "../model.ts";
import type { PlaybookRunner } from "../programs/playbooks/runner.ts";
import type { ResourceLimits } from "../programs/run-program.ts";
import type { Registry } from "../registries/registry.ts";
import type { Rule } from "../rules/index.ts";

export type Tables = CatalogTables & OutboxTables & DispatchTables & ShadowTables;

export interface Services extends PlanningServices {
  readonly db: Kysely<Tables>;
  readonly attester: Attester;
  /** How announcements are written; as readers know them, if absent. */
  readonly messages?: MessageStyle | undefined;
  readonly automation: Automation;
}

export type ActingRule = Rule<Action> & RuleConfig;

/** What is done about events. */
export interface Automation {
  readonly rules: readonly ActingRule[];
  readonly freeze: readonly FreezeWindow[];
  /** Undefined: no directory of playbooks is configured. */
  readonly playbooks?: Playbooks | undefined;
  /** There is one: this only compares, and nothing that an event asks for is done. */
  readonly shadow?: Shadow | undefined;
  /** The engine that carries these runs out: a rule's run starts others, which are not its children. */
  engine(): Promise<Engine<Services>>;
}

/** Beside which other service this runs. */
export interface Shadow {
  /** Patterns of its messages' topics. */
  readonly topics: readonly string[];
  /** Milliseconds after a compose has finished in which its messages are waited for. */
  readonly within: number;
  /** Undefined: all. */
  readonly systems?: readonly string[] | undefined;
}

/** Where playbooks are, and as whom they act. */
export interface Playbooks {
  readonly directory: string;
  readonly layout: "name" | "directories";
  readonly inventory?: string | undefined;
  readonly vaultPasswordFile?: string | undefined;
  readonly requireUser: boolean;
  readonly users: Readonly<Record<string, AutomationUser>>;
  readonly limits: ResourceLimits;
  /** Private directories of running playbooks are made here. */
  readonly root: string;
  /** The PATH programs are found in. */
  readonly path?: string | undefined;
  readonly runner: PlaybookRunner;
  /** @throws SlipwayError `unauthenticated` */
  secret(ref: SecretRef): Promise<string>;
}

export type AutomationUser = Config["automation"]["users"][string];

/** Times are milliseconds since 1970. */
export interface FreezeWindow {
  readonly from: number;
  readonly until: number;
  readonly reason: string;
  /** Undefined: all. */
  readonly systems?: readonly string[] | undefined;
}

/** Where no event ever comes: nothing is done about any. */
export const NO_AUTOMATION: Automation = {
  rules: [],
  freeze: [],
  engine: () => Promise.reject(new SlipwayError("unsupported", "nothing here acts on events")),
};

/** Keys for statements about what was released. Secrets are read when they are asked for. */
export interface Attester {
  /** Undefined if none is configured: nothing is attested. @throws SlipwayError if there is one and it cannot be used */
  signer(): Promise<SigningKey | undefined>;
  /** Whose signatures are believed: the signer's own and those of earlier keys. */
  trusted(): Promise<readonly VerifyingKey[]>;
}

/** The part that needs no database: enough to read a compose and to ask the clouds. */
export interface PlanningServices {
  readonly targets: Targets;
  readonly systems: readonly System[];
  readonly releases: ReleaseState;
  /** How artifacts and metadata are fetched: allowed addresses, proxies, extra CAs, deadlines. */
  readonly sources: ByteSourceOptions;
  /** No disk is decoded beyond this: what a decompression bomb meets. Bytes. */
  readonly maxDiskBytes: number;
  readonly now: () => Date;
}

/** What a step of ours is given. */
export type Ctx = StepContext<Services>;

/** The configured places to publish to. Opening is lazy and happens once per target. */
export interface Targets {
  /** In the form selection reads them. */
  readonly plan: Readonly<Record<string, PlanTarget>>;
  /** @throws SlipwayError `not-found` */
  facts(target: string): TargetFacts;
  /** @throws SlipwayError `not-found` for a target the configuration lacks. */
  cloud(target: string, call: CallContext): Promise<Cloud>;
  registry(target: string, call: CallContext): Promise<Registry>;
  /** Runs `body` when each of these targets has a place for one more upload; all are held until it ends. */
  uploading<T>(targets: readonly string[], call: CallContext, body: () => Promise<T>): Promise<T>;
}

/** What a step has to know of a target besides its driver. */
export interface TargetFacts {
  readonly name: string;
  readonly cloud: "aws" | "azure" | "gcp" | "local" | "registry";
  readonly audience: Audience;
  /** A registry's address as readers of messages know it. */
  readonly address: string;
}
