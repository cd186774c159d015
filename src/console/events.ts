/** What arrived, what nobody could read, and what was told: read only. */
import type { FastifyInstance } from "fastify";
import type { Kysely } from "kysely";
import { z } from "zod";
import { listPauses } from "../bus/dispatch/pauses.ts";
import { listDispatches } from "../bus/dispatch/read.ts";
import { type KeptEvent, listEvents, listQuarantined } from "../bus/inbox.ts";
import { listMessages } from "../bus/outbox.ts";
import type { Engine } from "../durable/index.ts";
import { SlipwayError } from "../lib/errors.ts";
import { type Services, type Tables, withRunStates } from "../workflows/index.ts";
import { parsed } from "./runs.ts";

const limit = z.coerce.number().int().min(1).max(500).default(100);
const eventQuery = z.object({ topic: z.string().max(255).optional(), limit });
const messageQuery = z.object({ run: z.string().max(300).optional(), limit });
const quarantineQuery = z.object({ limit });
/** As long as an event's id may be. */
const idParams = z.object({ id: z.string().min(1).max(200) });

export function addEventRoutes(app: FastifyInstance, engine: Engine<Services>, db: Kysely<Tables>): void {
  app.get("/api/events", async (request) => {
    const { topic, limit: count } = parsed(eventQuery, request.query);
    const events = await listEvents(db, { topic, limit: count });
    return {
      events: await Promise.all(events.map((event) => withRules(engine, db, event))),
      pauses: await listPauses(db),
    };
  });
  app.get("/api/events/:id", async (request) => {
    const { id } = parsed(idParams, request.params);
    const [event] = await listEvents(db, { id, limit: 1 });
    if (event === undefined) throw new SlipwayError("not-found", "there is no such event", { subject: id });
    return { ...(await withRules(engine, db, event)), body: event.body, headers: event.headers };
  });
  app.get("/api/quarantine", async (request) => {
    const { limit: count } = parsed(quarantineQuery, request.query);
    return { messages: await listQuarantined(db, count) };
  });
  app.get("/api/messages", async (request) => {
    const { run, limit: count } = parsed(messageQuery, request.query);
    return { messages: await listMessages(db, { runId: run, limit: count }) };
  });
}

/** Without its body, which may have megabytes. */
async function withRules(engine: Engine<Services>, db: Kysely<Tables>, { body: _, headers: __, ...event }: KeptEvent) {
  return { ...event, rules: await withRunStates(engine, await listDispatches(db, { eventId: event.id, limit: 50 })) };
}
