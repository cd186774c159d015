/** From the rules as they are written to rules that can judge: names, defaults, the action as plain data. */
import { compileRule, type Rule, type RuleSettings } from "../rules/index.ts";
import type { Config } from "./schema.ts";
import type { SecretRef } from "./values.ts";

export interface RuleConfig extends RuleSettings<Action> {
  readonly retry: { readonly attempts: number; readonly backoff: number };
  readonly timeout: number;
}

/** What a rule does. Plain data: a run that it starts keeps it. */
export type Action =
  | { readonly kind: "release"; readonly system?: string | undefined; readonly as?: "candidate" | undefined }
  | ({ readonly kind: "promote" | "attest"; readonly deprecate?: undefined } & Chosen)
  | ({ readonly kind: "rollback"; readonly deprecate: boolean } & Chosen)
  | { readonly kind: "heal" }
  | PlaybookAction;

interface Chosen {
  /** An expression. */
  readonly what: string;
  readonly system?: string | undefined;
  readonly target?: string | undefined;
}

export interface PlaybookAction {
  readonly kind: "playbook";
  /** Default: the event's topic. */
  readonly name?: string | undefined;
  readonly user?: string | undefined;
  readonly inventory?: string | undefined;
  readonly limit?: readonly string[] | undefined;
  readonly tags?: readonly string[] | undefined;
  readonly check: boolean;
  readonly secrets: Readonly<Record<string, SecretRef>>;
  readonly on_takeover: "rerun" | "hold";
}

type Written = Config["rules"][number];

/** Every rule, `by_topic`'s own included. Names may repeat only in what `checkReferences` has refused. */
export function ruleConfigs(config: Pick<Config, "rules" | "automation">): RuleConfig[] {
  const rules = config.rules.map((written): RuleConfig => {
    const action = actionOf(written);
    const { system: _, do: __, ...rest } = written;
    return {
      ...rest,
      name: written.name ?? defaultName(written, action),
      // Its topic tells of every state that a compose is in.
      when: written.when ?? (action.kind === "release" ? RELEASED_WHEN : undefined),
      during_freeze: written.during_freeze ?? (action.kind === "release" ? "run" : "hold"),
      action,
    };
  });
  return config.automation.by_topic ? [...rules, PLAYBOOKS_BY_TOPIC] : rules;
}

const RELEASED_WHEN =
  '(has(body.status) && body.status in ["FINISHED", "FINISHED_INCOMPLETE"]) || ' +
  '(has(body.compose) && body.compose.state_name == "done")';

/** Its events are those that have a playbook, which only the directory knows. */
export const BY_TOPIC = "by-topic";

const PLAYBOOKS_BY_TOPIC: RuleConfig = {
  name: BY_TOPIC,
  topic: "#",
  enabled: true,
  during_freeze: "hold",
  retry: { attempts: 3, backoff: 60_000 },
  timeout: 3_600_000,
  action: { kind: "playbook", check: false, secrets: {}, on_takeover: "rerun" },
};

/** Rules that were checked compile. */
export function compiledRules(config: Pick<Config, "rules" | "automation">): (Rule<Action> & RuleConfig)[] {
  return ruleConfigs(config).flatMap((settings) => {
    const rule = compileRule(settings);
    return "judge" in rule ? [{ ...settings, ...rule }] : [];
  });
}

function actionOf({ do: action, system }: Written): Action {
  if (action === undefined) return { kind: "release", system };
  if ("release" in action) return { kind: "release", ...action.release };
  if ("playbook" in action) return { kind: "playbook", ...action.playbook };
  if ("promote" in action) return { kind: "promote", ...action.promote };
  if ("rollback" in action) return { kind: "rollback", ...action.rollback };
  if ("attest" in action) return { kind: "attest", ...action.attest };
  return { kind: "heal" };
}

function defaultName({ topic }: Written, action: Action): string {
  if (action.kind === "release")
    return action.system === undefined ? "release" : `release-${action.system}`.slice(0, 40);
  const words = topic.split(".").filter((word) => /^[A-Za-z0-9]/.test(word));
  const last = (words.at(-1) ?? "all").toLowerCase().replace(/[^a-z0-9-]/g, "-");
  return `${action.kind}-${last}`.slice(0, 40);
}
