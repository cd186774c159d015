import { readFileSync } from "node:fs";
import { parse } from "yaml";
import { z } from "zod";
import { world } from "../world.ts";

/** A word, several, or words with `*`: `PutSnapshotBlock`, `[us-east-1, eu-*]`. Any of them has to fit. */
const words = z.union([z.string(), z.array(z.string()).min(1)]);

const match = z.strictObject({
  /** Which proxy: `aws`, `azure`, `gcp`, `registry`. */
  cloud: words.optional(),
  /** `ec2`, `ebs`, `sts`, `s3`; `blob`, `management`, `authority`; `registry`. */
  service: words.optional(),
  /** The vendor's name of the call, as `vendors.ts` reads it from the request. */
  operation: words.optional(),
  region: words.optional(),
  method: words.optional(),
  host: words.optional(),
  /** The path as sent, without its query. */
  path: words.optional(),
  /** Header names in lower case. */
  header: z.record(z.string(), words).optional(),
});

/** When a rule acts on a request it matches; all that is given has to hold. */
const trigger = {
  name: z.string().regex(/^[a-z0-9][a-z0-9-]*$/),
  match: match.default({}),
  /** Every n-th matching request. */
  every: z.int().min(1).optional(),
  /** Of all matching requests this share, by the scenario's seed. */
  chance: z.number().min(0).max(1).optional(),
  /** The first ones go through. */
  after: z.int().min(0).optional(),
  /** Acts so many times and then no more. */
  times: z.int().min(1).optional(),
  /** A rule that waits to be switched on while the rehearsal runs. */
  enabled: z.boolean().default(true),
};

const milliseconds = z.number().min(0).max(600_000);

const rule = z.discriminatedUnion("fault", [
  /** Waits before anything else happens. The waits of several rules add up. */
  z.strictObject({ ...trigger, fault: z.literal("latency"), ms: milliseconds, jitter_ms: milliseconds.default(0) }),
  /** A bucket of `burst` tokens that fills at `rate` a second; who finds none gets the vendor's throttling answer. */
  z.strictObject({
    ...trigger,
    fault: z.literal("throttle"),
    rate: z.number().positive(),
    burst: z.number().min(1).optional(),
    /** A bucket of its own for each. Default: one for all. */
    per: z.array(z.enum(["region", "service", "operation", "path", "caller"])).default([]),
  }),
  /** The vendor's own answer for a failure on its side; nothing reaches it. */
  z.strictObject({ ...trigger, fault: z.literal("status"), status: z.int().min(400).max(599) }),
  /** The connection is cut before the request reaches the other side. */
  z.strictObject({ ...trigger, fault: z.literal("reset") }),
  /** Accepts and never answers; `headers`: begins to answer and stops. */
  z.strictObject({
    ...trigger,
    fault: z.literal("silence"),
    after_sending: z.enum(["nothing", "headers"]).default("nothing"),
  }),
  /** The request is carried out, the answer is lost on its way back. */
  z.strictObject({ ...trigger, fault: z.literal("lost-answer") }),
  /** One bit of the body is turned over. */
  z.strictObject({ ...trigger, fault: z.literal("flip-bit"), in: z.enum(["request", "response"]) }),
  /** A limit of the account is reached: the vendor's own answer, and waiting does not help. `after` says how many pass. */
  z.strictObject({ ...trigger, fault: z.literal("quota") }),
  /**
   * The credentials of the request that it acts on have expired: that and every later request with them is refused in
   * the vendor's own words. New ones are good.
   */
  z.strictObject({ ...trigger, fault: z.literal("expire") }),
  /** Bodies pass at this pace, in both directions together unless one is named. */
  z.strictObject({
    ...trigger,
    fault: z.literal("bandwidth"),
    bytes_per_second: z.number().min(1),
    in: z.enum(["request", "response"]).optional(),
    /** A line of its own for each. Default: one for all. */
    per: z.array(z.enum(["region", "service", "operation", "path", "caller"])).default([]),
  }),
  /** Nobody there. */
  z.strictObject({
    ...trigger,
    fault: z.literal("outage"),
    as: z.enum(["reset", "silence", "status"]).default("reset"),
  }),
]);

const scenario = z.strictObject({
  description: z.string().default(""),
  /** The same seed, the same faults for the same order of requests. */
  seed: z.int().default(1),
  rules: z.array(rule).default([]),
  /** How the simulators themselves behave. Only they read it: another server is as it is. */
  world: world.optional(),
});

export type Rule = z.output<typeof rule>;
export type RuleInput = z.input<typeof rule>;
export type Scenario = z.output<typeof scenario>;
export type ScenarioInput = z.input<typeof scenario>;
export type Match = z.output<typeof match>;

/** @throws Error that names each field that is wrong */
export function parseScenario(input: unknown, source = "scenario"): Scenario {
  const result = scenario.safeParse(input);
  if (result.success) {
    const names = result.data.rules.map((entry) => entry.name);
    const twice = names.find((name, index) => names.indexOf(name) !== index);
    if (twice !== undefined) throw new Error(`${source}: two rules are named ${twice}`);
    return result.data;
  }
  throw new Error(`${source} is not a scenario:\n${z.prettifyError(result.error)}`);
}

export function parseRule(input: RuleInput): Rule {
  const result = rule.safeParse(input);
  if (result.success) return result.data;
  throw new Error(`not a rule:\n${z.prettifyError(result.error)}`);
}

/** Reads a scenario from a YAML or JSON file. */
export function readScenario(path: string): Scenario {
  return parseScenario(parse(readFileSync(path, "utf8")), path);
}
