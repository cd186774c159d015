/** What others call: probes of whoever runs this process, and forges with news. Nothing here is for a browser. */
import type { FastifyInstance } from "fastify";
import type { DoorsState } from "../bus/doors.ts";

export interface EventDoors {
  state(): DoorsState;
  readonly webhooks: Webhooks | undefined;
}

interface Webhooks {
  handle(request: {
    readonly name: string;
    readonly headers: Readonly<Record<string, string | string[] | undefined>>;
    readonly body: AsyncIterable<Buffer> | Buffer;
    readonly remote?: string | undefined;
  }): Promise<{ readonly status: number; readonly headers: Readonly<Record<string, string>>; readonly body: unknown }>;
}

/**
 * The paths and words of fedora-messaging's monitoring, so that what watches a consumer today goes on. Two things are
 * better: not being ready is said by the status too, and what could not be read is counted.
 */
export function addProbes(app: FastifyInstance, events: EventDoors | undefined): void {
  app.get("/live", async () => ({ status: "OK" }));
  app.get("/ready", async (_, reply) => {
    const state = events?.state();
    const ready = state?.consuming !== false && state?.publishing !== false;
    return reply.status(ready ? 200 : 503).send({
      consuming: state?.consuming ?? false,
      published: state?.delivered ?? 0,
      consumed: {
        received: state?.received ?? 0,
        processed: state?.fresh ?? 0,
        dropped: state?.repeated ?? 0,
        rejected: state?.quarantined ?? 0,
        failed: 0,
      },
      ...(state?.trouble === undefined ? {} : { trouble: state.trouble }),
    });
  });
}

/** `POST /webhooks/<name>`. The body is taken as it comes: its bytes are what is signed. */
export async function addWebhooks(app: FastifyInstance, webhooks: Webhooks): Promise<void> {
  await app.register(async (scope) => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser("*", (_request, payload, done) => done(null, payload));
    scope.post<{ Params: { name: string } }>("/webhooks/:name", async (request, reply) => {
      const answer = await webhooks.handle({
        name: request.params.name,
        headers: request.headers,
        body: (request.body as AsyncIterable<Buffer> | null | undefined) ?? Buffer.alloc(0),
        remote: request.ip,
      });
      return reply.status(answer.status).headers(answer.headers).send(answer.body);
    });
  });
}
