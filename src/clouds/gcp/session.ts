/** The way to Google Cloud: its REST APIs over our own HTTP, a token that is renewed, and the rules every call follows. */
import { createSign } from "node:crypto";
import { rootCertificates } from "node:tls";
import { EnvHttpProxyAgent, request } from "undici";
import type { CallContext } from "../../lib/call.ts";
import { SlipwayError } from "../../lib/errors.ts";
import { slicedBody } from "../../lib/sliced.ts";
import { CloudError } from "../errors.ts";
import { type Ask, record, refusalOf, refused, unreachable } from "./errors.ts";
import { ENDPOINTS, type Endpoints, type GcpOptions, OWNER_DEFAULT, PACE, type Pace } from "./options.ts";

export interface Call {
  readonly method?: "GET" | "POST" | "PATCH" | "DELETE";
  readonly service: Exclude<keyof Endpoints, "token">;
  /** Begins with a slash, encoded. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string | readonly string[]>>;
  readonly json?: object;
  /** Pieces that are sent one after the other, without being copied together. */
  readonly body?: readonly Uint8Array[];
  readonly contentType?: string;
}

export interface GcpSession {
  readonly options: GcpOptions;
  readonly pace: Pace;
  readonly owner: string;
  /** Makes one call and reads its JSON; never repeats it. @throws CloudError */
  ask(ask: Ask, what: Call, call: CallContext): Promise<Record<string, unknown>>;
  /** The bytes of an answer as they come. Each of them has to come within the call's deadline. @throws CloudError */
  download(ask: Ask, what: Call, call: CallContext): AsyncIterable<Uint8Array>;
  close(): Promise<void>;
}

const SCOPE = "https://www.googleapis.com/auth/cloud-platform";
const METADATA = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token";
/** Renewed this long before it ends, so that no call travels with a token that ends on its way. */
const TOKEN_MARGIN_MS = 120_000;
/** A page of 500 images with their descriptions stays below 4 MiB. */
const ANSWER_BYTES = 16 * 1024 * 1024;

export function openSession(options: GcpOptions): GcpSession {
  const pace: Pace = { ...PACE, ...options.pace };
  const endpoints = { ...ENDPOINTS, ...options.endpoints };
  const tls = options.ca ? { ca: [...rootCertificates, options.ca] } : {};
  let dispatcher: EnvHttpProxyAgent | undefined;
  let closed: Promise<void> | undefined;
  let asking: Promise<string> | undefined;
  let token: { readonly value: string; readonly until: number } | undefined;

  /** Reads HTTPS_PROXY and NO_PROXY by itself. */
  function agent(): EnvHttpProxyAgent {
    dispatcher ??= new EnvHttpProxyAgent({
      connect: tls,
      requestTls: tls,
      headersTimeout: 0,
      bodyTimeout: pace.callDeadline,
    });
    return dispatcher;
  }

  /** Runs until the call's signal or the deadline, whichever is first, and says which it was. */
  async function within<T>(ask: Ask, call: CallContext, body: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { operation, subject, deadline = pace.callDeadline } = ask;
    const details = { cloud: "gcp" as const, operation, subject };
    if (call.signal.aborted) throw new CloudError("cancelled", `${operation} was stopped before it began.`, details);
    const stop = new AbortController();
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      stop.abort();
    }, deadline);
    const relay = () => stop.abort();
    call.signal.addEventListener("abort", relay, { once: true });
    try {
      return await withAbort(body(stop.signal), stop.signal);
    } catch (error) {
      if (call.signal.aborted) throw new CloudError("cancelled", `${operation} was stopped.`, details);
      if (error instanceof SlipwayError) throw error;
      if (!late) throw unreachable(error, ask);
      throw new CloudError("unavailable", `Google Cloud did not answer ${operation} within ${deadline} ms.`, {
        ...details,
        next: "Check the way to Google Cloud from here (proxy, firewall); the step is repeated.",
      });
    } finally {
      clearTimeout(timer);
      call.signal.removeEventListener("abort", relay);
    }
  }

  /** One request for all who need a token now; it ends by its own deadline, since none of them may end it for the others. */
  async function bearer(): Promise<string> {
    if (token && Date.now() < token.until) return token.value;
    asking ??= newToken(AbortSignal.timeout(pace.callDeadline)).finally(() => {
      asking = undefined;
    });
    return asking;
  }

  async function newToken(signal: AbortSignal): Promise<string> {
    const { credentials } = options;
    const answer =
      credentials === "metadata"
        ? await request(METADATA, { headers: { "metadata-flavor": "Google" }, signal })
        : await request(endpoints.token, {
            dispatcher: agent(),
            method: "POST",
            headers: { "content-type": "application/x-www-form-urlencoded" },
            body: new URLSearchParams({
              grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer",
              assertion: assertion(credentials.clientEmail, credentials.privateKey),
            }).toString(),
            signal,
          });
    const body = await boundedJson(answer.body);
    const { access_token: value, expires_in: seconds } = record(body);
    if (answer.statusCode !== 200 || typeof value !== "string") {
      throw refused(refusalOf(answer.statusCode, body), { operation: "token", subject: "credentials" });
    }
    token = { value, until: Date.now() + Number(seconds ?? 0) * 1000 - TOKEN_MARGIN_MS };
    return value;
  }

  /** A token that was taken back before its end is asked for again, once; a call that was refused was not carried out. */
  async function send(what: Call, signal: AbortSignal) {
    const used = await bearer();
    const answer = await sendAs(used, what, signal);
    if (answer.statusCode !== 401) return answer;
    if (token?.value === used) token = undefined;
    const fresh = await bearer();
    if (fresh === used) return answer;
    await answer.body.dump();
    return sendAs(fresh, what, signal);
  }

  async function sendAs(value: string, what: Call, signal: AbortSignal) {
    const { method = "GET", service, path, query = {}, json, body, contentType } = what;
    const url = new URL(endpoints[service] + path);
    for (const [name, value] of Object.entries(query)) {
      for (const one of typeof value === "string" ? [value] : value) url.searchParams.append(name, one);
    }
    const type = json ? "application/json" : contentType;
    return request(url, {
      dispatcher: agent(),
      method,
      headers: {
        authorization: `Bearer ${value}`,
        ...(type ? { "content-type": type } : {}),
        ...(body ? { "content-length": String(body.reduce((sum, piece) => sum + piece.length, 0)) } : {}),
      },
      ...(json ? { body: JSON.stringify(json) } : body ? { body: slicedBody(body) } : {}),
      signal,
    });
  }

  async function fail(ask: Ask, answer: Awaited<ReturnType<typeof send>>): Promise<never> {
    if (answer.statusCode === 401) token = undefined;
    const id = answer.headers["x-guploader-uploadid"] ?? answer.headers["x-request-id"];
    throw refused(refusalOf(answer.statusCode, await boundedJson(answer.body)), ask, Array.isArray(id) ? id[0] : id);
  }

  return {
    options,
    pace,
    owner: options.tagsOwner ?? OWNER_DEFAULT,
    ask: (ask, what, call) =>
      within(ask, call, async (signal) => {
        const answer = await send(what, signal);
        if (answer.statusCode >= 300) return fail(ask, answer);
        return record(await boundedJson(answer.body));
      }),
    async *download(ask, what, call) {
      const stop = new AbortController();
      const inner = AbortSignal.any([call.signal, stop.signal]);
      try {
        const answer = await within(ask, { ...call, signal: inner }, async (signal) => {
          // The deadline is for the answer's beginning; what follows has the dispatcher's for each of its bytes.
          const begun = new AbortController();
          const relay = () => begun.abort();
          signal.addEventListener("abort", relay, { once: true });
          inner.addEventListener("abort", relay, { once: true });
          const got = await send(what, begun.signal);
          signal.removeEventListener("abort", relay);
          return got.statusCode >= 300 ? fail(ask, got) : got;
        });
        yield* answer.body as AsyncIterable<Uint8Array>;
      } catch (error) {
        if (error instanceof SlipwayError) throw error;
        if (call.signal.aborted) {
          throw new CloudError("cancelled", `${ask.operation} was stopped.`, { cloud: "gcp", ...ask });
        }
        throw unreachable(error, ask);
      } finally {
        stop.abort();
      }
    },
    async close() {
      // Not close(): a connection that never came to be would be waited for.
      closed ??= dispatcher?.destroy() ?? Promise.resolve();
      await closed;
    },
  };
}

/** A connection that is being made does not listen to a signal. */
async function withAbort<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  let stop = () => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(new DOMException("aborted", "AbortError"));
    signal.addEventListener("abort", stop, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", stop);
    promise.catch(() => {});
  }
}

/** A service account vouches for itself. @see https://developers.google.com/identity/protocols/oauth2/service-account */
function assertion(clientEmail: string, privateKey: string): string {
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss: clientEmail, scope: SCOPE, aud: ENDPOINTS.token, iat: now, exp: now + 3600 };
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const text = `${part({ alg: "RS256", typ: "JWT" })}.${part(claims)}`;
  try {
    return `${text}.${createSign("RSA-SHA256").update(text).sign(privateKey, "base64url")}`;
  } catch {
    // What the library says may quote the key.
    throw new CloudError("unauthenticated", "The service account's private key cannot be read.", {
      cloud: "gcp",
      operation: "token",
      subject: "private_key",
      next: "Put the service account's whole JSON where the configuration takes it from.",
    });
  }
}

async function boundedJson(body: AsyncIterable<Uint8Array>): Promise<unknown> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.length;
    if (bytes > ANSWER_BYTES) throw new Error(`the answer is longer than ${ANSWER_BYTES} bytes`);
    chunks.push(chunk);
  }
  const text = Buffer.concat(chunks).toString("utf8");
  if (text === "") return {};
  try {
    return JSON.parse(text);
  } catch {
    return { error: { message: text.slice(0, 200) } };
  }
}
