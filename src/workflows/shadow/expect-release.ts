/**
 * What a release rule does in a shadow: it works out what would be published, from metadata alone, and remembers it.
 * No cloud, no registry and no credential is touched.
 */
import { type Expectation, recordExpectation } from "../../bus/shadow.ts";
import { codeOf, isTransient, reportOf } from "../../lib/errors.ts";
import { composeOfEvent } from "../event-compose.ts";
import type { ReceivedEvent } from "../received-event.ts";
import type { Ctx, Shadow } from "../services.ts";
import { inspectCompose } from "../start-release.ts";
import { type ExpectedMessage, expectedMessages } from "./expected.ts";

/** What is said of every other action. */
export const NOT_DONE = "not done: shadow";

export interface Expected {
  readonly result: "expected" | "nothing";
  /** None, ever. */
  readonly runs: readonly string[];
  readonly why?: string;
}

/**
 * Safe to repeat: the newest expectation counts. A compose that no system takes, or that cannot be read, is remembered
 * with the reason, so that what the other service says of it is not a riddle.
 * @throws SlipwayError as `inspectCompose` does, but for composes that no system takes
 */
export async function expectRelease(
  ctx: Ctx,
  event: ReceivedEvent,
  action: { readonly system?: string | undefined; readonly as?: "candidate" | undefined },
  shadow: Shadow,
): Promise<Expected> {
  const { services } = ctx;
  const told = composeOfEvent(event.body);
  if ("not" in told) return { result: "nothing", runs: [], why: told.not };
  const finishedAt = finishedBy(event);
  const remember = (
    what: Pick<Expectation<ExpectedMessage>, "composeId" | "system" | "expected" | "why" | "compared">,
  ) =>
    recordExpectation(services.db, {
      ...{ eventId: event.id, finishedAt, closesAt: new Date(finishedAt.getTime() + shadow.within) },
      ...what,
    });
  const none = async (why: string): Promise<Expected> => {
    if (told.id !== undefined) await remember({ composeId: told.id, system: "", expected: [], why, compared: true });
    return { result: "nothing", runs: [], why };
  };
  try {
    const { compose, selections } = await inspectCompose(told.location, services, ctx, action.system);
    let count = 0;
    for (const selection of selections) {
      const { system } = selection;
      const expected = expectedMessages(selection, { facts: (name) => services.targets.facts(name), as: action.as });
      const compared = shadow.systems === undefined || shadow.systems.includes(system);
      await remember({ composeId: compose.id, system, expected, why: undefined, compared });
      if (compared) count += expected.length;
    }
    const why = `shadow: ${count} message(s) expected`;
    ctx.log.info("nothing is released: shadow", { compose: compose.id, expected: count });
    return { result: "expected", runs: [], why };
  } catch (error) {
    const { message, tried } = reportOf(error);
    if (codeOf(error) === "not-found" && message.startsWith("no system takes")) {
      return none(tried === undefined ? message : `${message}: ${tried}`);
    }
    if (ctx.last || !isTransient(error)) await none(`it could not be planned: ${message}`);
    throw error;
  }
}

/** As its sender says; never later than it was here, for that would wait for ever. */
function finishedBy({ sentAt, receivedAt }: ReceivedEvent): Date {
  const received = Date.parse(receivedAt);
  const sent = sentAt === undefined ? Number.NaN : Date.parse(sentAt);
  return new Date(Number.isNaN(sent) ? received : Math.min(sent, received));
}
