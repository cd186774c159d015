/**
 * What a rule does about an event. Releases, promotions and the like are started and go on by themselves: this run ends
 * when they have begun, so that one that takes hours holds up no other.
 */
import type { Action } from "../config/index.ts";
import { defineStep, defineWorkflow, type Flow } from "../durable/index.ts";
import { SlipwayError } from "../lib/errors.ts";
import { minutes } from "../lib/units.ts";
import { databaseRetry } from "./policies.ts";
import type { Ctx, Services } from "./services.ts";
import type { Expected } from "./shadow/expect-release.ts";
import { type Acted, actOnEventStep } from "./steps/act-on-event.ts";
import { type Played, playPlaybookStep } from "./steps/play-playbook.ts";

export interface HandleInput {
  readonly eventId: string;
  /** The other one of a pair. */
  readonly otherEvent?: string;
  readonly rule: string;
  readonly generation: number;
}

interface ReadRule {
  readonly action: Action;
  readonly attempts: number;
  readonly backoff: number;
  readonly timeout: number;
}

/** The rule as it is when the run begins is the one it is carried out by, whatever is changed meanwhile. */
const readRuleStep = defineStep({
  name: "read-rule",
  retry: databaseRetry,
  timeoutMs: minutes(1),
  async run(ctx: Ctx, { rule: name }: { rule: string }): Promise<ReadRule> {
    const rule = ctx.services.automation.rules.find((one) => one.name === name);
    if (rule === undefined) {
      throw new SlipwayError("not-found", `there is no rule ${name} any more`, {
        next: "Start the service again with the configuration that has it, or cancel this run.",
      });
    }
    return { action: rule.action, ...rule.retry, timeout: rule.timeout };
  },
});

export const handleEvent = defineWorkflow({
  name: "handle-event",
  async run(flow: Flow<Services>, input: HandleInput): Promise<Acted | Expected | Played> {
    const { action, ...policy } = await flow.step(readRuleStep, { rule: input.rule }, { key: "read rule" });
    if (action.kind === "playbook") {
      const { eventId, rule } = input;
      return flow.step(playPlaybookStep(policy), { eventId, rule, action }, { key: "playbook" });
    }
    return flow.step(actOnEventStep(policy), { eventId: input.eventId, action }, { key: action.kind });
  },
});
