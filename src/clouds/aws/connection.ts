/**
 * How this driver reaches AWS: credentials, one client per region and service, one pool per region for EBS direct. The SDK is loaded by the first call that needs it, makes one attempt per call and has deadlines of its own.
 */
import https from "node:https";
import type { EC2 } from "@aws-sdk/client-ec2";
import type { S3 } from "@aws-sdk/client-s3";
import type { SNS } from "@aws-sdk/client-sns";
import type { SSM } from "@aws-sdk/client-ssm";
import type { STS } from "@aws-sdk/client-sts";
import { buildConnector, type Dispatcher, EnvHttpProxyAgent, Pool } from "undici";
import type { CallContext } from "../../lib/call.ts";
import { trusting } from "../../lib/trust.ts";
import { minutes, seconds } from "../../lib/units.ts";
import type { Region } from "../../model.ts";
import { type AwsCall, hasExpired, tooLate, translate } from "./errors.ts";
import type { AwsCredentials } from "./signature.ts";
import { DEFAULT_PACE, type Pace, whileThrottled } from "./waiting.ts";

export interface ConnectionOptions {
  /** A key, or what gives one: asked again shortly before the one it gave expires. */
  readonly credentials: AwsCredentials | (() => Promise<AwsCredentials>);
  /** Base URLs to use instead of AWS's own. The region is still in the signature. */
  readonly endpoints?: { readonly [Service in "ec2" | "ebs" | "sts" | "s3" | "ssm" | "sns"]?: string } | undefined;
  /** PEM of certificates to trust beside the usual ones. */
  readonly ca?: string | undefined;
  /** Proxy for https, and the hosts to reach without it, as HTTPS_PROXY and NO_PROXY have them. */
  readonly proxy?: { readonly url: string; readonly except?: string } | undefined;
  /** Carries the EBS direct calls instead of a pool of our own; closed by whoever made it. */
  readonly dispatcher?: Dispatcher | undefined;
  /** Most connections to EBS direct per region. */
  readonly connections: number;
  /** Default: `DEFAULT_PACE`. */
  readonly pace?: Pace | undefined;
}

export interface Connection {
  credentials(): Promise<AwsCredentials>;
  /** Each runs one call, translated. `subject` is what it is done to. */
  ec2: Asking<EC2>;
  ssm: Asking<SSM>;
  sns: Asking<SNS>;
  s3: Asking<S3>;
  sts<T>(
    region: Region,
    operation: string,
    call: CallContext,
    run: (client: STS, options: SendOptions) => Promise<T>,
  ): Promise<T>;
  /** Runs a call, translated or not; once more with new credentials if those it had are called expired. */
  authentic<T>(ask: () => Promise<T>): Promise<T>;
  /** Runs a call that is translated already; asks again while it is throttled. The SDK's do so by themselves. */
  paced<T>(signal: AbortSignal, ask: () => Promise<T>): Promise<T>;
  /** The pace's: for whoever reads a block's answer. */
  readonly blockAnswerMs: number;
  ebs(region: Region): { readonly origin: URL; readonly dispatcher: Dispatcher };
  close(): Promise<void>;
}

export type Asking<Client> = <T>(
  region: Region,
  operation: string,
  subject: string | undefined,
  call: CallContext,
  run: (client: Client, options: SendOptions) => Promise<T>,
) => Promise<T>;
export interface SendOptions {
  readonly abortSignal: AbortSignal;
}

/** A connection that is not made by then is not coming. */
const CONNECT_MS = seconds(10);

export function connect(options: ConnectionOptions): Connection {
  const { endpoints = {}, ca, proxy, pace = DEFAULT_PACE } = options;
  const { answerMs, blockAnswerMs } = pace;
  const trusted = trusting(ca);
  const proxyEnv = proxy && { HTTPS_PROXY: proxy.url, NO_PROXY: proxy.except ?? "" };
  const agent = new https.Agent({ keepAlive: true, maxSockets: 64, ...trusted, ...(proxyEnv ? { proxyEnv } : {}) });
  const credentials = cachedCredentials(options.credentials);
  const clients = new Map<string, Promise<{ destroy(): void }>>();
  const pools = new Map<Region, { origin: URL; dispatcher: Dispatcher }>();

  const settings = (region: Region, endpoint: string | undefined) => ({
    region,
    credentials,
    // Retrying is the step's business: two levels, never three.
    maxAttempts: 1,
    ...(endpoint === undefined ? {} : { endpoint }),
    requestHandler: {
      httpsAgent: agent,
      connectionTimeout: CONNECT_MS,
    },
  });

  const paced = <T>(signal: AbortSignal, ask: () => Promise<T>) => whileThrottled(pace, signal, () => authentic(ask));

  /**
   * Credentials that end before they said they would are asked for again, once. A refused request was not carried out.
   * SDK clients keep what they were given until its end: they are made anew.
   */
  async function authentic<T>(ask: () => Promise<T>): Promise<T> {
    const used = await credentials();
    try {
      return await ask();
    } catch (error) {
      if (!hasExpired(error) || !(await credentials.renew(used))) throw error;
      clients.clear();
      return ask();
    }
  }

  async function translated<T>(
    what: Omit<AwsCall, "signal">,
    call: CallContext,
    run: (send: SendOptions) => Promise<T>,
  ): Promise<T> {
    return paced(call.signal, async () => {
      // The SDK's own time limit ends with the head of an answer: whoever sends that and stops would be waited for.
      const deadline = AbortSignal.timeout(answerMs);
      try {
        call.signal.throwIfAborted();
        return await run({ abortSignal: AbortSignal.any([call.signal, deadline]) });
      } catch (error) {
        if (deadline.aborted && !call.signal.aborted) throw tooLate({ ...what, signal: call.signal }, answerMs);
        throw translate(error, { ...what, signal: call.signal });
      }
    });
  }

  function asking<Client extends { destroy(): void }>(
    service: keyof typeof endpoints & AwsCall["service"],
    make: (given: ReturnType<typeof settings>) => Promise<Client>,
  ): Asking<Client> {
    return async (region, operation, subject, call, run) =>
      translated({ service, operation, region, subject }, call, async (send) => {
        const client = remembered(clients, `${service} ${region}`, () => make(settings(region, endpoints[service])));
        return run((await client) as Client, send);
      });
  }

  const askSts = asking<STS>("sts", async (given) => new (await import("@aws-sdk/client-sts")).STS(given));

  return {
    credentials,
    authentic,
    paced,
    blockAnswerMs,
    ec2: asking("ec2", async (given) => new (await import("@aws-sdk/client-ec2")).EC2(given)),
    ssm: asking("ssm", async (given) => new (await import("@aws-sdk/client-ssm")).SSM(given)),
    sns: asking("sns", async (given) => new (await import("@aws-sdk/client-sns")).SNS(given)),
    s3: asking("s3", async (given) => {
      const { S3 } = await import("@aws-sdk/client-s3");
      // Emulators and rehearsals have one name for all buckets. Nothing of ours is refused before its body is sent.
      return new S3({ ...given, forcePathStyle: endpoints.s3 !== undefined, expectContinueHeader: false });
    }),
    sts: (region, operation, call, run) => askSts(region, operation, undefined, call, run),
    ebs(region) {
      return remembered(pools, region, () => {
        const origin = new URL(endpoints.ebs ?? `https://ebs.${region}.${domainOf(region)}`);
        const common = { headersTimeout: blockAnswerMs, bodyTimeout: blockAnswerMs, keepAliveTimeout: seconds(30) };
        const tls = { ...trusted, timeout: CONNECT_MS };
        if (options.dispatcher) return { origin, dispatcher: options.dispatcher };
        const dispatcher = proxy
          ? new EnvHttpProxyAgent({
              httpsProxy: proxy.url,
              noProxy: proxy.except ?? "",
              connections: options.connections,
              requestTls: tls,
              connect: tls,
              ...common,
            })
          : new Pool(origin.origin, {
              connections: options.connections,
              pipelining: 1,
              connect: uncorked(tls),
              ...common,
            });
        return { origin, dispatcher };
      });
    },
    async close() {
      const opened = await Promise.allSettled(clients.values());
      for (const client of opened) if (client.status === "fulfilled") client.value.destroy();
      agent.destroy();
      if (!options.dispatcher) await Promise.all([...pools.values()].map((pool) => pool.dispatcher.destroy()));
    },
  };
}

/**
 * Connections whose writes are not gathered. undici corks a socket for a request's head and body, and for two buffers
 * at once Node's TLS copies both into a third: half a megabyte for every block. One after the other costs nothing.
 */
function uncorked(tls: buildConnector.BuildOptions): buildConnector.connector {
  const connect = buildConnector(tls);
  return (target, callback) =>
    connect(target, (...[error, socket]) => {
      if (error) return callback(error, null);
      socket.cork = () => {};
      socket.uncork = () => {};
      return callback(null, socket);
    });
}

/** AWS's own domain; China is a partition with another. */
function domainOf(region: Region): string {
  return region.startsWith("cn-") ? "amazonaws.com.cn" : "amazonaws.com";
}

function remembered<K, V>(known: Map<K, V>, key: K, make: () => V): V {
  let value = known.get(key);
  if (value === undefined) {
    value = make();
    known.set(key, value);
  }
  return value;
}

/** Temporary credentials are asked for again this long before their end, because a put may wait that long. */
const RENEW_BEFORE_MS = minutes(5);

interface CachedCredentials {
  (): Promise<AwsCredentials>;
  /** Asks anew after those given were refused as expired. @returns whether there are others now */
  renew(refused: AwsCredentials): Promise<boolean>;
}

function cachedCredentials(source: ConnectionOptions["credentials"]): CachedCredentials {
  if (typeof source !== "function") return Object.assign(async () => source, { renew: async () => false });
  let known: AwsCredentials | undefined;
  let asking: Promise<AwsCredentials> | undefined;
  const get = async () => {
    const fresh = known && (!known.expiration || known.expiration.getTime() - Date.now() > RENEW_BEFORE_MS);
    if (fresh) return known!;
    asking ??= source()
      .then((given) => (known = given))
      .finally(() => (asking = undefined));
    return asking;
  };
  return Object.assign(get, {
    async renew(refused: AwsCredentials) {
      // Whoever was refused first asks; the others find what came of it.
      if (known === refused) known = undefined;
      const now = await get();
      return now.accessKeyId !== refused.accessKeyId || now.sessionToken !== refused.sessionToken;
    },
  });
}
