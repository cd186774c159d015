/**
 * The console: what the engine and the catalog know, as JSON and live events for the pages in web/. Holds no rule of its
 * own and changes nothing. Without it everything still works (`console.listen: off`).
 *
 * There is no login: it listens on this machine only unless told otherwise, and a page of another origin cannot read it
 * (no CORS, Host checked against DNS rebinding).
 */
import { existsSync } from "node:fs";
import { isIP } from "node:net";
import { fileURLToPath } from "node:url";
import fastifyStatic from "@fastify/static";
import fastify, { type FastifyInstance, type FastifyReply } from "fastify";
import type { Engine } from "../durable/index.ts";
import type { Log } from "../lib/call.ts";
import { codeOf, type ErrorCode, reportOf, SlipwayError } from "../lib/errors.ts";
import type { Services } from "../workflows/index.ts";
import { addProbes, addWebhooks, type EventDoors } from "./doors.ts";
import { addEventRoutes } from "./events.ts";
import { addImageRoutes } from "./images.ts";
import { addRunRoutes, MAX_ID_LENGTH } from "./runs.ts";

export interface ConsoleOptions {
  readonly engine: Engine<Services>;
  readonly services: Pick<Services, "db">;
  readonly listen: { readonly host: string; readonly port: number };
  readonly version: string;
  readonly systems: readonly string[];
  /** The doors for events, if this process has them open. */
  readonly events?: EventDoors | undefined;
  readonly log: Log;
  /** Further names the console is reached by; an address or localhost always is. */
  readonly hosts?: readonly string[];
}

export interface OpenConsole {
  readonly url: string;
  close(): Promise<void>;
}

/** Scripts and styles from here only; PatternFly sets inline styles. */
const SECURITY_HEADERS = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
} as const;

const STATUS: Partial<Record<ErrorCode, number>> = { "not-found": 404, invalid: 400, conflict: 409, unavailable: 503 };

/** @throws SlipwayError `conflict` if the address is taken */
export async function openConsole(options: ConsoleOptions): Promise<OpenConsole> {
  const app = fastify({
    logger: false,
    bodyLimit: 64 * 1024,
    forceCloseConnections: true,
    // As long as a run's id may be.
    routerOptions: { maxParamLength: MAX_ID_LENGTH },
    // Addresses that no route sees, because they cannot be read.
    frameworkErrors: ({ message }, _, { raw }) => {
      raw.writeHead(400, { ...SECURITY_HEADERS, "content-type": "application/json" });
      raw.end(JSON.stringify({ error: { code: "invalid", message } }));
    },
  });
  const closing = new AbortController();
  guard(app, options.hosts ?? []);
  // Before anything that may throw: a route keeps the handler it finds when it is made ready.
  app.setErrorHandler((error, _, reply) => {
    const status = statusOf(error);
    if (status === 500) options.log.error("console request failed", { error: reportOf(error).message });
    return reply.status(status).send({ error: reportOf(error) });
  });
  app.get("/api/about", async () => ({ version: options.version, systems: options.systems }));
  addRunRoutes(app, options.engine, closing.signal);
  addImageRoutes(app, options.services.db);
  addEventRoutes(app, options.engine, options.services.db);
  addProbes(app, options.events);
  if (options.events?.webhooks) await addWebhooks(app, options.events.webhooks);
  await addPages(app);
  try {
    await app.listen({ host: options.listen.host, port: options.listen.port });
  } catch (error) {
    await app.close();
    if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE") throw error;
    throw new SlipwayError("conflict", `${options.listen.host}:${options.listen.port} is in use`, {
      subject: "console.listen",
      next: "Stop what listens there, or choose another address with --listen 127.0.0.1:8081.",
      cause: error,
    });
  }
  const address = app.server.address();
  const port = typeof address === "object" && address !== null ? address.port : options.listen.port;
  const host = options.listen.host.includes(":") ? `[${options.listen.host}]` : options.listen.host;
  return {
    url: `http://${host}:${port}`,
    async close() {
      closing.abort();
      await app.close();
    },
  };
}

function statusOf(error: unknown): number {
  if (error instanceof SlipwayError) return STATUS[codeOf(error)] ?? 500;
  // The framework's own: a body that is too large or of a type nobody takes.
  const { statusCode = 500 } = error as { statusCode?: number };
  return statusCode >= 400 && statusCode < 500 ? statusCode : 500;
}

function guard(app: FastifyInstance, hosts: readonly string[]): void {
  app.addHook("onRequest", async (request, reply) => {
    reply.headers(SECURITY_HEADERS);
    // A page elsewhere may point a name of its own at this address; the browser then sends that name.
    const name = request.hostname
      .replace(/:\d+$/, "")
      .replace(/^\[|\]$/g, "")
      .toLowerCase();
    // Forges and probes come by whatever name they know; what they may do does not hang on it.
    if (/^\/(webhooks\/|live$|ready$)/.test(request.url)) return;
    if (name === "localhost" || isIP(name) !== 0 || hosts.includes(name)) return;
    return reply
      .status(421)
      .send({ error: { code: "forbidden", message: `this console is not ${name.slice(0, 100)}` } });
  });
}

/** The built pages; beside the source in a checkout, beside dist/ in a package. */
async function addPages(app: FastifyInstance): Promise<void> {
  const root = fileURLToPath(new URL("../../web/dist", import.meta.url));
  const missing = (reply: FastifyReply) =>
    reply.status(404).send({ error: { code: "not-found", message: "no such address" } });
  if (!existsSync(root)) {
    app.setNotFoundHandler((_, reply) => missing(reply));
    app.get("/", async (_, reply) => reply.type("text/plain").send('The pages are not built. Run "make pages".\n'));
    return;
  }
  await app.register(fastifyStatic, { root, immutable: true, maxAge: "1y", index: false });
  const sendPage = (reply: FastifyReply) =>
    reply.header("cache-control", "no-cache").sendFile("index.html", { immutable: false, maxAge: 0 });
  app.get("/", (_, reply) => sendPage(reply));
  // Addresses like /runs/… belong to the pages, which route by themselves; they are never to be kept.
  app.setNotFoundHandler((request, reply) => {
    return request.method !== "GET" || request.url.startsWith("/api/") ? missing(reply) : sendPage(reply);
  });
}
