import type { Kysely } from "kysely";
import { type InboxTables, type KeptEvent, listEvents } from "../bus/inbox.ts";
import { SlipwayError } from "../lib/errors.ts";

export type ReceivedEvent = KeptEvent;

/** @throws SlipwayError `not-found` */
export async function receivedEvent(db: Kysely<InboxTables>, id: string): Promise<ReceivedEvent> {
  const [event] = await listEvents(db, { id, limit: 1 });
  if (event !== undefined) return event;
  throw new SlipwayError("not-found", "there is no such event", {
    subject: id,
    next: "See those there are: slipway events list.",
  });
}
