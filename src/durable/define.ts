import { SlipwayError } from "../lib/errors.ts";
import { minutes, seconds } from "../lib/units.ts";
import type { RetryPolicy, StepDefinition, WorkflowDefinition } from "./types.ts";

// Names are stored with every run and become part of keys; anything longer is a mistake.
const NAME = /^[a-z][a-z0-9-]{0,79}$/;

/** For calls over a network: five attempts over about a minute. */
export const networkRetry: RetryPolicy = { attempts: 5, backoffMs: seconds(1), factor: 3, maxMs: minutes(1) };

/** For steps that either work or never will. */
export const noRetry: RetryPolicy = { attempts: 1, backoffMs: 0, factor: 1, maxMs: 0 };

/** @throws SlipwayError `invalid` when the name or the policy makes no sense */
export function defineStep<I, O, S>(step: StepDefinition<I, O, S>): StepDefinition<I, O, S> {
  checkName("step", step.name);
  const { attempts, backoffMs, factor, maxMs } = step.retry;
  if (!Number.isInteger(attempts) || attempts < 1 || backoffMs < 0 || factor < 1 || maxMs < 0) {
    throw new SlipwayError("invalid", "the retry policy of a step makes no sense", { subject: step.name });
  }
  if (!(step.timeoutMs > 0)) {
    throw new SlipwayError("invalid", "a step needs a time limit above 0", { subject: step.name });
  }
  return step;
}

/** @throws SlipwayError `invalid` when the name makes no sense */
export function defineWorkflow<I, O, S>(workflow: WorkflowDefinition<I, O, S>): WorkflowDefinition<I, O, S> {
  checkName("workflow", workflow.name);
  return workflow;
}

function checkName(what: string, name: string): void {
  if (!NAME.test(name)) {
    throw new SlipwayError("invalid", `a ${what}'s name is lower-case words joined by hyphens`, { subject: name });
  }
}
