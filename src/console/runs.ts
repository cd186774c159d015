/** Runs, their steps and logs, and the same as events while they happen. */
import type { FastifyInstance, FastifyReply } from "fastify";
import { z } from "zod";
import type { Engine, RunState } from "../durable/index.ts";
import { SlipwayError } from "../lib/errors.ts";
import type { Services } from "../workflows/index.ts";

const STATES = ["waiting", "running", "done", "failed", "cancelled"] as const satisfies readonly RunState[];

/** Of a compose id, a system's name and a few digits; far longer than any. */
export const MAX_ID_LENGTH = 300;

const listQuery = z.object({
  state: z.enum(STATES).optional(),
  limit: z.coerce.number().int().min(1).max(200).default(50),
  before: z.string().max(MAX_ID_LENGTH).optional(),
});
const logQuery = z.object({ after: z.string().max(300).optional() });
const runParams = z.object({ id: z.string().min(1).max(MAX_ID_LENGTH) });

/** A connection that says nothing is cut by proxies after a minute or less. */
const HEARTBEAT_MS = 15_000;

export function addRunRoutes(app: FastifyInstance, engine: Engine<Services>, closing: AbortSignal): void {
  app.get("/api/runs", async (request) => {
    const { state, limit, before } = parsed(listQuery, request.query);
    const runs = await engine.list({
      rootsOnly: true,
      limit,
      ...(state === undefined ? {} : { state }),
      ...(before === undefined ? {} : { before }),
    });
    return { runs };
  });

  app.get("/api/runs/:id", async (request) => {
    const { id } = parsed(runParams, request.params);
    const run = await engine.status(id);
    const steps = await engine.steps(id, { tree: true });
    const outcome = run.state === "done" ? await engine.result(id) : null;
    return { run, steps, outcome };
  });

  app.get("/api/runs/:id/logs", async (request) => {
    const { id } = parsed(runParams, request.params);
    const { after } = parsed(logQuery, request.query);
    await engine.status(id);
    return engine.logs(id, { tree: true, ...(after === undefined ? {} : { after }) });
  });

  app.get("/api/runs/:id/events", async (request, reply) => {
    const { id } = parsed(runParams, request.params);
    await engine.status(id);
    await streamEvents(reply, engine, id, closing);
  });
}

/** Server-sent events: `run`, `step` and `log` as they happen, `end` when the run has ended. */
async function streamEvents(
  reply: FastifyReply,
  engine: Engine<Services>,
  id: string,
  closing: AbortSignal,
): Promise<void> {
  reply.hijack();
  const { raw } = reply;
  for (const [name, value] of Object.entries(reply.getHeaders())) if (value !== undefined) raw.setHeader(name, value);
  raw.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  // Now, not with the first event: until then the browser takes the stream for one that does not open.
  raw.flushHeaders();
  const gone = new AbortController();
  raw.on("close", () => gone.abort());
  const heartbeat = setInterval(() => raw.write(":\n\n"), HEARTBEAT_MS);
  try {
    await engine.watch(id, (event) => raw.write(`event: ${event.kind}\ndata: ${JSON.stringify(event)}\n\n`), {
      logs: true,
      signal: AbortSignal.any([gone.signal, closing]),
    });
    raw.write("event: end\ndata: {}\n\n");
  } catch {
    // The browser went away or the console closes; it asks again when it wants more.
  } finally {
    clearInterval(heartbeat);
    raw.end();
  }
}

export function parsed<T extends z.ZodType>(schema: T, value: unknown): z.output<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new SlipwayError("invalid", issue?.message ?? "the request makes no sense", {
    subject: issue?.path.join("."),
  });
}
