/**
 * One HTTP call to one registry: credentials, redirects, deadlines, and answers that become errors.
 * Knows nothing of blobs and manifests. Bodies sent are in memory, so that a call can be made again after a 401.
 */
import { createSecureContext, rootCertificates } from "node:tls";
import { Agent, type Dispatcher, request as send } from "undici";
import type { CallContext } from "../lib/call.ts";
import { SlipwayError } from "../lib/errors.ts";
import { type Trust, trusting } from "../lib/trust.ts";
import { KiB, MiB, minutes, seconds } from "../lib/units.ts";
import { type Authenticator, type Credentials, createAuthenticator, parseChallenges } from "./auth.ts";
import { clean, errorOf, header, RegistryError, requestIdOf } from "./errors.ts";
import { isLoopback, type RegistryAddress } from "./names.ts";

export interface TransportOptions {
  readonly address: RegistryAddress;
  readonly credentials?: Credentials | undefined;
  /** PEM of a private authority, trusted beside the public ones. */
  readonly ca?: string | undefined;
  /** PEMs; shown to the registry itself, never to the hosts it redirects to. */
  readonly clientCert?: { readonly cert: string; readonly key: string } | undefined;
  /** Used for every connection instead of our own, e.g. one that goes through a proxy; brings its own TLS settings. */
  readonly dispatcher?: Dispatcher | undefined;
  /** Default: `DEFAULT_PATIENCE`. */
  readonly patience?: Partial<Patience> | undefined;
}

/** How long a registry is waited for. Milliseconds. */
export interface Patience {
  /** To the head of an answer: one on an object store assembles a blob before it answers the last PUT. */
  readonly firstByteMs: number;
  /** The longest silence in the middle of an answer. */
  readonly idleMs: number;
  /** To an answer's end; blobs have as long as their size needs. */
  readonly wholeMs: number;
}

export const DEFAULT_PATIENCE: Patience = { firstByteMs: minutes(2), idleMs: seconds(60), wholeMs: minutes(5) };

export interface RegistryRequest {
  readonly operation: string;
  readonly subject?: string | undefined;
  readonly method: "GET" | "HEAD" | "POST" | "PATCH" | "PUT" | "DELETE";
  /** A path of the registry (`/v2/…`), or the absolute URL it told us to go on with. */
  readonly to: string | URL;
  /** What a token has to allow: `repository:fedora:pull,push`. */
  readonly scopes: readonly string[];
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
  /** Statuses that are due. Every other one is an error, a success of another kind included. */
  readonly expect: readonly number[];
  /** For everything, the body's end included. */
  readonly deadlineMs?: number;
}

export interface Answer {
  readonly status: number;
  header(name: string): string | undefined;
  /** What the registry calls this exchange; its operators ask for it. */
  readonly requestId: string | undefined;
  /** Where the answer came from; a Location is relative to it. */
  readonly url: URL;
  /** The whole body. @throws RegistryError `invalid` beyond the limit */
  bytes(limit: number): Promise<Uint8Array>;
  stream(): AsyncIterable<Uint8Array>;
  /** Reads and forgets a small body, so that the connection is used again. */
  discard(): Promise<void>;
}

export interface Transport {
  readonly display: string;
  readonly origin: string;
  call(request: RegistryRequest, call: CallContext): Promise<Answer>;
  close(): Promise<void>;
}

const CONNECT_MS = seconds(15);
const MAX_REDIRECTS = 5;
const ERROR_BODY_BYTES = 16 * KiB;
const TOKEN_BODY_BYTES = 1 * MiB;

/** Our own certificate is part of the context, where there is one. */
function identified({ ca, clientCert }: TransportOptions, trust: Trust): Trust {
  if (clientCert === undefined) return trust;
  const authorities = ca === undefined ? {} : { ca: [...rootCertificates, ca] };
  return { secureContext: createSecureContext({ ...authorities, ...clientCert }) };
}

export function createTransport(options: TransportOptions): Transport {
  const { address, dispatcher } = options;
  const { display, origin } = address;
  const trust = trusting(options.ca);
  const { firstByteMs, idleMs, wholeMs } = { ...DEFAULT_PATIENCE, ...options.patience };
  const settings = { headersTimeout: firstByteMs, bodyTimeout: idleMs };
  const ours =
    dispatcher ?? new Agent({ ...settings, connect: { timeout: CONNECT_MS, ...identified(options, trust) } });
  // Redirect targets and token services may trust the same authority, but are not shown our certificate.
  const others = dispatcher ?? new Agent({ ...settings, connect: { timeout: CONNECT_MS, ...trust } });
  const auth: Authenticator = createAuthenticator(origin, options.credentials, fetchToken);

  async function call(request: RegistryRequest, context: CallContext): Promise<Answer> {
    const signal = AbortSignal.any([context.signal, AbortSignal.timeout(request.deadlineMs ?? wholeMs)]);
    let url = targetOf(request);
    let authorization = url.origin === origin ? auth.header(request.scopes) : undefined;
    let challenged = false;
    for (let redirects = 0; ; ) {
      const response = await exchange(request, url, authorization, signal, context);
      const { statusCode, headers } = response;
      if (statusCode === 401 && !challenged && url.origin === origin) {
        challenged = true;
        const next = await authorize(request, headers["www-authenticate"], authorization, signal, context);
        if (next !== undefined) {
          await discard(response.body);
          authorization = next;
          continue;
        }
      }
      const location = header(headers, "location");
      if (isRedirect(statusCode) && location && (request.method === "GET" || request.method === "HEAD")) {
        if (++redirects > MAX_REDIRECTS) throw fail(request, "unavailable", "redirects in a circle");
        await discard(response.body);
        url = follow(request, url, location);
        // Never to another host: what it asks for stands signed in the redirect's own address.
        if (url.origin !== origin) authorization = undefined;
        continue;
      }
      if (!request.expect.includes(statusCode)) {
        const body = await excerpt(response.body);
        const authenticated = authorization !== undefined;
        const { operation, subject } = request;
        throw errorOf({ registry: display, operation, subject, status: statusCode, headers, body, authenticated });
      }
      return answerOf(request, response, url, context);
    }
  }

  async function exchange(
    request: RegistryRequest,
    url: URL,
    authorization: string | undefined,
    signal: AbortSignal,
    context: CallContext,
  ): Promise<Dispatcher.ResponseData> {
    try {
      return await send(url, {
        dispatcher: url.origin === origin ? ours : others,
        method: request.method,
        headers: { "user-agent": "slipway", ...request.headers, ...(authorization ? { authorization } : {}) },
        body: request.body ?? null,
        ...settings,
        signal,
      });
    } catch (error) {
      throw networkError(request, error, context.signal);
    }
  }

  async function authorize(
    request: RegistryRequest,
    values: string | string[] | undefined,
    refused: string | undefined,
    signal: AbortSignal,
    context: CallContext,
  ): Promise<string | undefined> {
    const challenges = parseChallenges(values === undefined ? [] : [values].flat());
    try {
      return await auth.answer(challenges, request.scopes, refused, signal);
    } catch (error) {
      if (error instanceof RegistryError) throw error;
      if (error instanceof SlipwayError) {
        const { subject, next } = error;
        throw new RegistryError(error.code, error.message, {
          registry: display,
          operation: "GET token",
          subject,
          next,
        });
      }
      throw networkError({ ...request, operation: "GET token" }, error, context.signal);
    }
  }

  async function fetchToken(url: URL, authorization: string | undefined, signal: AbortSignal): Promise<unknown> {
    const response = await send(url, {
      dispatcher: url.origin === origin ? ours : others,
      headers: { "user-agent": "slipway", accept: "application/json", ...(authorization ? { authorization } : {}) },
      ...settings,
      signal,
    });
    const { statusCode: status, headers } = response;
    if (status !== 200) {
      const body = await excerpt(response.body);
      const authenticated = authorization !== undefined;
      throw errorOf({
        registry: display,
        operation: "GET token",
        subject: url.host,
        status,
        headers,
        body,
        authenticated,
      });
    }
    try {
      return JSON.parse(Buffer.from(await collect(response.body, TOKEN_BODY_BYTES)).toString());
    } catch (cause) {
      if (signal.aborted) throw cause;
      throw new SlipwayError("unavailable", `The token service ${url.host} answered with no JSON`, {
        cause,
        next: "try again; tell the registry's operators if it stays so",
      });
    }
  }

  function targetOf(request: RegistryRequest): URL {
    const url = new URL(request.to, origin);
    checkScheme(request, url);
    return url;
  }

  function follow(request: RegistryRequest, from: URL, location: string): URL {
    if (!URL.canParse(location, from.href)) throw fail(request, "invalid", "redirects to an address nobody can read");
    const url = new URL(location, from);
    checkScheme(request, url);
    return url;
  }

  function checkScheme(request: RegistryRequest, url: URL): void {
    const plainHere = url.protocol === "http:" && origin.startsWith("http:") && isLoopback(url.hostname);
    if (url.protocol !== "https:" && !plainHere)
      throw fail(request, "invalid", `sends on to ${url.protocol}//${url.host}`);
  }

  function answerOf(
    request: RegistryRequest,
    response: Dispatcher.ResponseData,
    url: URL,
    context: CallContext,
  ): Answer {
    const { statusCode: status, headers, body } = response;
    return {
      status,
      url,
      requestId: requestIdOf(headers),
      header: (name) => header(headers, name),
      async bytes(limit) {
        try {
          return await collect(body, limit);
        } catch (error) {
          if (error instanceof TooLong) throw fail(request, "invalid", `sends more than ${limit} bytes`);
          throw networkError(request, error, context.signal);
        }
      },
      async *stream() {
        try {
          for await (const chunk of body) yield chunk as Uint8Array;
        } catch (error) {
          throw networkError(request, error, context.signal);
        }
      },
      discard: () => discard(body),
    };
  }

  function fail(request: RegistryRequest, code: "invalid" | "unavailable", what: string): RegistryError {
    const { operation, subject } = request;
    return new RegistryError(code, `${display}, asked for ${operation}, ${what}`, {
      registry: display,
      operation,
      subject,
    });
  }

  /** No answer, or only a part of one. */
  function networkError(request: RegistryRequest, error: unknown, callers: AbortSignal): RegistryError {
    if (error instanceof RegistryError) return error;
    const { operation, subject } = request;
    const where = { registry: display, operation, subject, cause: error };
    if (callers.aborted) return new RegistryError("cancelled", `${operation} at ${display} was cancelled`, where);
    const reason = error as { code?: unknown; name?: unknown; message?: unknown } | null;
    const code = typeof reason?.code === "string" ? reason.code : "";
    if (/CERT|SELF_SIGNED|UNABLE_TO_|^ERR_TLS|^ERR_SSL/.test(code)) {
      return new RegistryError("invalid", `${display}: its certificate or ours is not accepted (${code})`, {
        ...where,
        next: "give the registry's authority as `ca`; check the client certificate if it asks for one",
      });
    }
    const said =
      reason?.name === "TimeoutError" ? "no answer within the deadline" : clean(String(reason?.message ?? error));
    return new RegistryError("unavailable", `${display} did not answer ${operation}: ${said}`, {
      ...where,
      next: "try again; check the address and the network if it stays so",
    });
  }

  return {
    display,
    origin,
    call,
    async close() {
      // A dispatcher that was given belongs to whoever gave it.
      if (!dispatcher) await Promise.all([ours.destroy(), others.destroy()]);
    },
  };
}

class TooLong extends Error {}

async function collect(body: AsyncIterable<Uint8Array>, limit: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of body) {
    length += part.length;
    if (length > limit) throw new TooLong(); // leaving the loop destroys the stream
    parts.push(part);
  }
  return Buffer.concat(parts);
}

async function excerpt(body: AsyncIterable<Uint8Array>): Promise<string> {
  const parts: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const part of body) {
      parts.push(part);
      length += part.length;
      if (length >= ERROR_BODY_BYTES) break;
    }
  } catch {
    // An error's body that breaks off has said enough.
  }
  return Buffer.concat(parts).subarray(0, ERROR_BODY_BYTES).toString();
}

async function discard(body: Dispatcher.ResponseData["body"]): Promise<void> {
  await body.dump({ limit: ERROR_BODY_BYTES }).catch(() => {});
}

function isRedirect(status: number): boolean {
  return status === 301 || status === 302 || status === 303 || status === 307 || status === 308;
}
