/** The way to Azure: clients of the SDKs, loaded when first asked for, and the rules every call follows. */
import type { ComputeManagementClient } from "@azure/arm-compute";
import type { TokenCredential } from "@azure/identity";
import type { ContainerClient, StoragePipelineOptions } from "@azure/storage-blob";
import { EnvHttpProxyAgent, request } from "undici";
import type { CallContext } from "../../lib/call.ts";
import type { SlipwayError } from "../../lib/errors.ts";
import { type Trust, trusting } from "../../lib/trust.ts";
import { minutes } from "../../lib/units.ts";
import type { Region } from "../../model.ts";
import { CloudError } from "../errors.ts";
import { hasExpired, translate } from "./errors.ts";
import { type AzureOptions, OWNER_DEFAULT, PACE, type Pace } from "./options.ts";

export interface AzureSession {
  readonly options: AzureOptions;
  readonly pace: Pace;
  readonly owner: string;
  compute(): Promise<ComputeManagementClient>;
  container(): Promise<ContainerClient>;
  /**
   * Makes one vendor call: within a deadline, until the call's signal, its errors translated, never repeated.
   * @throws CloudError
   */
  ask<T>(ask: Ask, call: CallContext, body: (signal: AbortSignal) => Promise<T>): Promise<T>;
  /** GETs what the compute SDK does not cover from Resource Manager. `path` begins after the host. */
  read(path: string, apiVersion: string, ask: Ask, call: CallContext): Promise<unknown>;
  close(): Promise<void>;
}

export interface Ask {
  readonly operation: string;
  readonly region?: Region | undefined;
  readonly subject?: string | undefined;
  readonly permission?: string | undefined;
  /** Default: the pace's callDeadline. */
  readonly deadline?: number | undefined;
}

const PUBLIC = {
  management: "https://management.azure.com",
  blob: (account: string) => `https://${account}.blob.core.windows.net`,
};

/** Tokens live for an hour at least: one that is refused sooner was never good. */
const RENEW_AT_MOST_EVERY_MS = minutes(5);

/** What Resource Manager answers to a plain GET of ours is a few kilobytes. */
const READ_BYTES = 4 * 1024 * 1024;

export function openSession(options: AzureOptions): AzureSession {
  const pace: Pace = { ...PACE, ...options.pace };
  const management = (options.endpoints?.management ?? PUBLIC.management).replace(/\/+$/, "");
  const blob = (options.endpoints?.blob ?? PUBLIC.blob(options.storageAccount)).replace(/\/+$/, "");
  const { credentials } = options;
  const secrets = credentials === "default" ? [] : [credentials.clientSecret];
  const clientId = credentials === "default" ? undefined : credentials.clientId;

  // The SDKs hand these to Node's agent as they are; their type names only some of what Node takes.
  const tlsOptions: Trust & { ca?: string } = trusting(options.ca);
  // Retries 0 everywhere: a page is repeated by the upload, everything else by the step that called.
  const common = {
    retryOptions: { maxRetries: 0 },
    ...(options.ca ? { tlsOptions } : {}),
  };

  const credential = once(async (): Promise<TokenCredential> => {
    const { ClientSecretCredential, DefaultAzureCredential } = await import("@azure/identity");
    const authority = options.endpoints?.authority;
    const identity = {
      ...common,
      ...(authority ? { authorityHost: authority } : {}),
    };
    if (credentials === "default") return new DefaultAzureCredential(identity);
    return new ClientSecretCredential(credentials.tenantId, credentials.clientId, credentials.clientSecret, {
      ...identity,
      // Only Microsoft's own authorities can vouch for themselves.
      disableInstanceDiscovery: authority !== undefined,
    });
  });

  let renewedAt = Number.NEGATIVE_INFINITY;
  const scope = `${management}/.default`;
  const compute = once(async () => {
    const { ComputeManagementClient } = await import("@azure/arm-compute");
    return new ComputeManagementClient(await credential(), options.subscriptionId, {
      ...common,
      endpoint: management,
      credentials: { scopes: [scope] },
    });
  });

  const container = once(async () => {
    const { ContainerClient } = await import("@azure/storage-blob");
    // The storage SDK hands options it does not know on to the common pipeline, which knows tlsOptions.
    const pipeline: StoragePipelineOptions & { tlsOptions?: Trust & { ca?: string } } = {
      ...common,
      retryOptions: { maxTries: 1 },
    };
    return new ContainerClient(`${blob}/${options.container}`, await credential(), pipeline);
  });

  let dispatcher: EnvHttpProxyAgent | undefined;
  let closed: Promise<void> | undefined;
  /** Reads HTTPS_PROXY and NO_PROXY by itself, as the SDKs do. */
  function agent(): EnvHttpProxyAgent {
    const tls = trusting(options.ca);
    dispatcher ??= new EnvHttpProxyAgent({ connect: tls, requestTls: tls });
    return dispatcher;
  }

  async function ask<T>(what: Ask, call: CallContext, body: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { operation, region, subject, permission, deadline = pace.callDeadline } = what;
    const details = { cloud: "azure" as const, operation, region, subject };
    if (call.signal.aborted) throw new CloudError("cancelled", `${operation} was stopped before it began.`, details);
    const controller = new AbortController();
    const begunAt = performance.now();
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      controller.abort();
    }, deadline);
    const stop = () => controller.abort();
    call.signal.addEventListener("abort", stop, { once: true });
    try {
      return await withAbort(body(controller.signal), controller.signal);
    } catch (error) {
      if (call.signal.aborted) throw new CloudError("cancelled", `${operation} was stopped.`, details);
      if (late) {
        throw new CloudError("unavailable", `Azure did not answer ${operation} within ${deadline} ms.`, {
          ...details,
          next: "Check the way to Azure from here (proxy, firewall); the step is repeated.",
        });
      }
      const translated = translate(error, { operation, region, subject, permission, clientId, secrets });
      throw hasExpired(error) ? renewed(translated, begunAt) : translated;
    } finally {
      clearTimeout(timer);
      call.signal.removeEventListener("abort", stop);
    }
  }

  /**
   * A token that Azure calls expired, though by this clock it is not, is kept by the SDKs until its end. All of them are
   * made anew, and whoever repeats the call has a new token; if that is refused too, the credentials are at fault.
   */
  function renewed(error: SlipwayError, begunAt: number): SlipwayError {
    // Calls that were under way with the old token are no sign that the new one is bad.
    if (begunAt > renewedAt) {
      if (begunAt - renewedAt < RENEW_AT_MOST_EVERY_MS) return error;
      renewedAt = performance.now();
      for (const one of [credential, compute, container]) one.forget();
    }
    const { message, operation, region, subject, requestId, cause } = error as CloudError;
    const details = { cloud: "azure" as const, operation, region, subject, requestId, cause };
    return new CloudError("unavailable", message, {
      ...details,
      next: "A new token is asked for; the call is repeated.",
    });
  }

  return {
    options,
    pace,
    owner: options.tagsOwner ?? OWNER_DEFAULT,
    compute,
    container,
    ask,
    read: (path, apiVersion, what, call) =>
      ask(what, call, async (signal) => {
        const token = await (await credential()).getToken(scope, { abortSignal: signal });
        const answer = await request(`${management}${path}?api-version=${apiVersion}`, {
          dispatcher: agent(),
          headers: { authorization: `Bearer ${token?.token ?? ""}`, accept: "application/json" },
          signal,
        });
        const body = await boundedJson(answer.body);
        if (answer.statusCode === 200) return body;
        throw Object.assign(new Error(`status ${answer.statusCode}`), {
          statusCode: answer.statusCode,
          details: body,
          response: { headers: answer.headers },
        });
      }),
    async close() {
      closed ??= dispatcher?.close() ?? Promise.resolve();
      await closed;
    },
  };
}

async function boundedJson(body: AsyncIterable<Uint8Array>): Promise<unknown> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.length;
    if (bytes > READ_BYTES) throw new Error(`the answer is longer than ${READ_BYTES} bytes`);
    chunks.push(chunk);
  }
  const text = Buffer.concat(chunks).toString("utf8");
  try {
    return JSON.parse(text);
  } catch {
    return { error: { message: text.slice(0, 200) } };
  }
}

/** Not everything below listens to a signal: the token request of the identity library does not. */
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

interface Once<T> {
  (): Promise<T>;
  /** The next call makes it anew. */
  forget(): void;
}

function once<T>(make: () => Promise<T>): Once<T> {
  let made: Promise<T> | undefined;
  const get = () => {
    made ??= make();
    return made;
  };
  return Object.assign(get, {
    forget() {
      made = undefined;
    },
  });
}
