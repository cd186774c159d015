import { z } from "zod";
import type { PlanTarget, System } from "../compose/index.ts";
import { automation } from "./schema-automation.ts";
import { bus, shadow, timers, webhooks } from "./schema-events.ts";
import { notifications } from "./schema-notifications.ts";
import { rule } from "./schema-rules.ts";
import { type SystemSettings, system } from "./schema-systems.ts";
import { type TargetSettings, target } from "./schema-targets.ts";
import {
  byteSize,
  duration,
  endpoint as httpUrl,
  isoDate,
  isoMoment,
  ownName,
  secret,
  urlWithoutSecret,
} from "./values.ts";

/**
 * slipway.yaml, once: from this come the defaults, the checks, the JSON Schema for editors and the reference page.
 * Strict everywhere: a key that is not known is an error, because a misspelt one would be a setting nobody obeys.
 */
const path = z.string().min(1);
const URL_WORDS = "expected a URL, {env: NAME} or {file: PATH}";

const database = z
  .strictObject({
    url: z
      .union([urlWithoutSecret(["postgres:", "postgresql:"]), ...secret.options], { error: URL_WORDS })
      .optional()
      .describe("A PostgreSQL server. Default: one of our own, in the data directory."),
    password: secret.optional().describe("Of the URL's user."),
    ca_file: path.optional().describe("PEM file of the authority that signed the server's certificate."),
  })
  .prefault({})
  .describe("Where Slipway remembers.");

const releases = z
  .strictObject({
    stable: z.array(z.int().min(1)).default([]).describe("Released and not yet at their end."),
    branched: z.array(z.int().min(1)).default([]).describe("Branched from Rawhide, not yet released."),
    rawhide: z.int().min(1).optional().describe("Default: one more than the highest of the others."),
    end_of_life: z
      .record(z.string(), isoDate)
      .default({})
      .describe("Release → last day: `{43: 2026-12-02}`. Images carry it where the cloud can."),
    schedule: z
      .strictObject({
        url: httpUrl.describe(
          "Bodhi's `https://bodhi.fedoraproject.org/releases/?rows_per_page=100`, or a service like it.",
        ),
        cache: duration
          .prefault("6h")
          .describe("How long an answer counts as new. A last good one is used while there is none."),
      })
      .optional()
      .describe("Where the rest is asked for: what is set beside it wins. Default: nowhere."),
    unknown_end_of_life_months: z
      .int()
      .min(1)
      .max(120)
      .default(13)
      .describe("Months after the compose's date that other releases are taken to live."),
  })
  .prefault({})
  .describe("Which releases exist: decides kinds, numbers, prerelease names and the tag `latest`.");

const freeze = z.strictObject({
  from: isoMoment.describe("`2026-04-20T12:00Z`"),
  until: isoMoment,
  reason: z.string().min(1).describe("Shown to whoever asks why nothing moves."),
  systems: z.array(ownName).optional().describe("Default: all."),
});

const perCloud = z.int().min(1).max(64);

const limits = z
  .strictObject({
    max_disk_bytes: byteSize.prefault("64 GiB").describe("Virtual size above which a disk is refused."),
    concurrency: z
      .strictObject({
        aws: perCloud.default(4),
        azure: perCloud.default(4),
        gcp: perCloud.default(4),
        registry: perCloud.default(4),
        local: perCloud.default(4),
      })
      .prefault({})
      .describe("Transfers at once for each kind of target."),
  })
  .prefault({});

const sources = z
  .strictObject({
    allow_private: z
      .array(z.string().regex(/^[A-Za-z0-9.:[\]-]+(\/\d{1,3})?$/, "expected a host name, an address or a range"))
      .default([])
      .describe("Hosts, addresses or ranges (10.0.0.0/8) that a public location may redirect to although private."),
  })
  .prefault({})
  .describe("Where composes may be read.");

const attestations = z
  .strictObject({
    key: secret
      .optional()
      .describe(
        "Private key in PEM that signs what is released: ECDSA P-256 or Ed25519, or one cosign made. Default: none.",
      ),
    passphrase: secret.optional().describe("Opens the key, if it is encrypted."),
    trusted: z
      .array(path)
      .max(100)
      .default([])
      .describe(
        "PEM files of further public keys that `images verify` believes: earlier ones, another installation's.",
      ),
  })
  .prefault({})
  .describe("Signed statements that bind an artifact to the clouds' ids.");

const LISTEN = /^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):\d{1,5}$/;

const console_ = z
  .strictObject({
    listen: z
      .union([z.literal("off"), z.literal(false), z.string().regex(LISTEN)], {
        error: "expected host:port, or off",
      })
      .transform((given) => (given === false ? ("off" as const) : given))
      .prefault("127.0.0.1:8080")
      .describe("`host:port`, or `off` for no incoming connections at all."),
  })
  .prefault({});

export const configSchema = z.strictObject({
  include: z
    .union([path, z.array(path)])
    .optional()
    .describe(
      "Other files, relative to this one. Their settings are read first; this file's win. `null` takes one back.",
    ),
  data_dir: path.default(".slipway").describe("Everything Slipway writes. `SLIPWAY_DATA_DIR` wins."),
  database,
  bus: bus.optional().describe("The message broker. Default: none; releases start by command."),
  releases,
  targets: z.record(ownName, target).default({}).describe("Where images go, by names of your choice."),
  systems: z.record(ownName, system).default({}).describe("Distributions, by names of your choice."),
  rules: z.array(rule).default([]).describe("What is done about which events."),
  webhooks,
  timers,
  shadow: shadow
    .optional()
    .describe(
      "Run beside another service: work out what would be published, compare it with what that one publishes, upload " +
        "nothing. Default: absent, images are released.",
    ),
  lifecycle: z
    .strictObject({
      heal_every: z
        .union([z.literal("off"), duration])
        .prefault("15m")
        .describe("How often `slipway serve` brings offered images to regions that lacked them; `off` for never."),
    })
    .prefault({})
    .describe("How released images are looked after."),
  automation,
  console: console_,
  notifications,
  freeze: z.array(freeze).default([]).describe("Windows in which nothing is offered."),
  limits,
  sources,
  attestations,
});

type Settings = z.output<typeof configSchema>;

export type Target = TargetSettings & { readonly name: string };
type TargetOf<Cloud extends TargetSettings["cloud"]> = Extract<Target, { cloud: Cloud }>;
export type AwsTarget = TargetOf<"aws">;
export type AzureTarget = TargetOf<"azure">;
export type GcpTarget = TargetOf<"gcp">;
export type RegistryTarget = TargetOf<"registry">;
export type LocalTarget = TargetOf<"local">;
export type ConfiguredSystem = SystemSettings & System;

/** The whole configuration, complete: every default is filled in, every path is absolute. */
export interface Config extends Omit<Settings, "include" | "targets" | "systems"> {
  readonly targets: Readonly<Record<string, Target>>;
  readonly systems: Readonly<Record<string, ConfiguredSystem>>;
  /** The files it came from, the main one first; empty when there was none. */
  readonly files: readonly string[];
}

export type PlanTargets = Readonly<Record<string, PlanTarget>>;
