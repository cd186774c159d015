import type { Action } from "../../config/index.ts";
import { defineStep } from "../../durable/index.ts";
import { codeOf, SlipwayError } from "../../lib/errors.ts";
import { compileExpression } from "../../rules/index.ts";
import { startAttest } from "../attest-images.ts";
import { choose } from "../chosen.ts";
import { composeOfEvent } from "../event-compose.ts";
import { type ReceivedEvent, receivedEvent } from "../received-event.ts";
import type { Ctx } from "../services.ts";
import { type Expected, expectRelease, NOT_DONE } from "../shadow/expect-release.ts";
import { startOffer } from "../start-offer.ts";
import { choiceToHeal, startReconcile } from "../start-reconcile.ts";
import { inspectCompose, startRelease } from "../start-release.ts";

export interface Acted {
  readonly result: "started" | "nothing";
  /** Runs that go on by themselves. */
  readonly runs: readonly string[];
  readonly why?: string;
}

export interface ActInput {
  readonly eventId: string;
  readonly action: Exclude<Action, { kind: "playbook" }>;
}

/** How often and how long is the rule's to say. Safe to repeat: what was started before is joined. */
export function actOnEventStep(policy: { attempts: number; backoff: number; timeout: number }) {
  return defineStep({
    name: "act-on-event",
    retry: { attempts: policy.attempts, backoffMs: policy.backoff, factor: 2, maxMs: policy.backoff * 32 },
    timeoutMs: policy.timeout,
    async run(ctx: Ctx, { eventId, action }: ActInput): Promise<Acted | Expected> {
      const event = await receivedEvent(ctx.services.db, eventId);
      const { shadow } = ctx.services.automation;
      if (shadow !== undefined) {
        return action.kind === "release" ? expectRelease(ctx, event, action, shadow) : nothing(ctx, NOT_DONE);
      }
      switch (action.kind) {
        case "release":
          return release(ctx, event, action);
        case "heal":
          return heal(ctx);
        default:
          return act(ctx, event, action);
      }
    },
  });
}

/** The one place where an event starts releases. */
async function release(ctx: Ctx, event: ReceivedEvent, action: Extract<Action, { kind: "release" }>): Promise<Acted> {
  const { services } = ctx;
  // Asserted here too: whatever is changed around it, a shadow uploads nothing.
  if (services.automation.shadow !== undefined) throw new SlipwayError("unsupported", NOT_DONE);
  const compose = composeOfEvent(event.body);
  if ("not" in compose) return nothing(ctx, compose.not);
  const inspected = await inspectCompose(compose.location, services, ctx, action.system).catch((error: unknown) => {
    // What no system wants is not a fault of the message.
    if (codeOf(error) === "not-found" && (error as SlipwayError).message.startsWith("no system takes"))
      return undefined;
    throw error;
  });
  if (inspected === undefined) return nothing(ctx, `no system takes ${compose.id ?? "the compose"}`);
  const engine = await services.automation.engine();
  const runs: string[] = [];
  for (const { system } of inspected.selections) {
    const input = {
      location: inspected.compose.location,
      system,
      composeId: inspected.compose.id,
      ...(action.as === undefined ? {} : { as: action.as }),
    };
    const started = await startRelease(engine, input);
    ctx.log.info("release", { run: started.runId, how: started.how });
    runs.push(started.runId);
  }
  return { result: "started", runs };
}

async function heal(ctx: Ctx): Promise<Acted> {
  const choice = await choiceToHeal(ctx.services.db);
  if (choice.images.length === 0) return nothing(ctx, "no region is missing");
  const engine = await ctx.services.automation.engine();
  const { runId } = await startReconcile(engine, choice, { strays: false, title: "catch up with late regions" });
  return { result: "started", runs: [runId] };
}

async function act(
  ctx: Ctx,
  event: ReceivedEvent,
  action: Extract<Action, { kind: "promote" | "rollback" | "attest" }>,
): Promise<Acted> {
  const { services } = ctx;
  const name = nameIn(event, action.what);
  const only = { system: action.system, target: action.target };
  const choice = await choose(services.db, [name], only);
  const engine = await services.automation.engine();
  const started =
    action.kind === "attest"
      ? await startAttest(engine, services, choice, name)
      : await startOffer(
          engine,
          action.kind === "promote"
            ? { verb: "promote", choice, allowMissing: false }
            : { verb: "rollback", choice, to: action.deprecate ? "deprecated" : "candidate" },
          name,
        );
  return { result: "started", runs: [started.runId] };
}

function nameIn(event: ReceivedEvent, text: string): string {
  const expression = compileExpression(text);
  const said = "evaluate" in expression ? expression.evaluate(event) : { error: expression.message };
  if ("value" in said && typeof said.value === "string" && said.value !== "") return said.value;
  const why = "missing" in said ? `the event has no ${said.missing}` : "error" in said ? said.error : "it is no text";
  throw new SlipwayError("invalid", `the event does not say what is meant: ${why}`, {
    subject: text,
    next: "Correct `what` of the rule, then: slipway events replay.",
  });
}

function nothing(ctx: Ctx, why: string): Acted {
  ctx.log.info("nothing to do", { why });
  return { result: "nothing", runs: [], why };
}
