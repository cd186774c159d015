/**
 * The way to RabbitMQ: one connection that is made again whenever it is lost, with the login the settings ask for. What
 * has to be there on a connection (channels, consumers) is set up by `setup`, each time anew. Refuses to know what a
 * message means. Why no library reconnects for us: decision 9.
 */
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { type ChannelModel, connect, credentials, type Options } from "amqplib";
import type { Log } from "../lib/call.ts";
import { SlipwayError } from "../lib/errors.ts";
import { hours, seconds } from "../lib/units.ts";
import type { BrokerSettings } from "./fedora-messaging.ts";

export interface Broker {
  /** Ends the connection: what is not acknowledged is delivered again to whoever comes next. Safe to repeat. */
  close(): Promise<void>;
  readonly connected: boolean;
  /** Why there is no connection, in words without secrets. */
  readonly trouble: string | undefined;
}

export interface OpenBrokerOptions {
  readonly settings: BrokerSettings;
  /** Beside those of the settings: as RabbitMQ shows it to its operators. */
  readonly version: string;
  readonly log: Log;
  /** Called on every new connection, before it counts as one; what it throws ends the connection, and it is tried again. */
  setup(connection: ChannelModel): Promise<void>;
}

const CONNECT_MS = seconds(20);
/** Channels, declarations and bindings: a few round trips. */
const SETUP_MS = seconds(30);
const CLOSE_MS = seconds(5);
const FIRST_PAUSE_MS = 500;
const MOST_PAUSE_MS = seconds(60);
/** Fedora's brokers have 600 s; a connection that died in silence shall be noticed sooner. */
const HEARTBEAT_SECONDS = 60;
/** People have to ask somebody for a new certificate. */
const EXPIRY_WARNING_MS = hours(21 * 24);

/**
 * Opens a connection and keeps one. Returns at once: a broker that is not there yet is waited for.
 * @throws SlipwayError `invalid` for files that cannot be used: a certificate or key that is missing, no PEM, or not the
 *   other's
 */
export async function openBroker({ settings, version, log, setup }: OpenBrokerOptions): Promise<Broker> {
  const { target, socket, place } = await loginOf(settings, version, log);
  const stop = new AbortController();
  let connected = false;
  let trouble: string | undefined = "it has not been reached yet";
  let current: ChannelModel | undefined;

  /** One connection from its beginning to its end. @throws why it could not be, or is no more */
  async function live(): Promise<never> {
    const connection = await connect(target, socket);
    // Before anything is awaited: an error nobody listens for would end the process.
    connection.on("error", (error: Error) => log.debug("broker connection", { broker: place, why: wordsOf(error) }));
    connection.on("blocked", (reason: string) =>
      log.warn("the broker takes no messages for now", { broker: place, reason }),
    );
    connection.on("unblocked", () => log.info("the broker takes messages again", { broker: place }));
    // Every one has its end; that of one that failed in its setup is heard too.
    const end = new Promise<never>((_, reject) => {
      connection.once("close", (error?: Error) => reject(error ?? new Error("the connection was closed")));
    });
    end.catch(() => {});
    try {
      stop.signal.throwIfAborted();
      current = connection;
      await Promise.race([setup(connection), end, late(SETUP_MS)]);
      connected = true;
      trouble = undefined;
      log.info("connected to the broker", { broker: place });
      return await end;
    } finally {
      current = undefined;
      connected = false;
      await closeQuietly(connection);
    }
  }

  async function keep(): Promise<void> {
    let pause = FIRST_PAUSE_MS;
    while (!stop.signal.aborted) {
      let was = false;
      try {
        await live();
      } catch (error) {
        if (stop.signal.aborted) return;
        const why = wordsOf(error as Error);
        was = trouble === undefined;
        if (was) log.warn("the broker is gone, connecting again", { broker: place, why });
        else if (trouble === why) log.debug("the broker still cannot be reached", { broker: place, why });
        else log.warn("the broker cannot be reached, trying again", { broker: place, why });
        trouble = why;
      }
      pause = was ? FIRST_PAUSE_MS : Math.min(pause * 2, MOST_PAUSE_MS);
      await delay(pause * (0.5 + Math.random() / 2), undefined, { signal: stop.signal }).catch(() => {});
    }
  }

  const keeping = keep();
  return {
    get connected() {
      return connected;
    },
    get trouble() {
      return trouble;
    },
    async close() {
      stop.abort();
      connected = false;
      if (current !== undefined) await closeQuietly(current);
      await keeping;
    },
  };
}

/** A connection that is gone already is as closed as can be; one that does not answer is left to its socket's timeout. */
async function closeQuietly(connection: ChannelModel): Promise<void> {
  await Promise.race([connection.close().catch(() => {}), late(CLOSE_MS).catch(() => {})]);
}

async function late(ms: number): Promise<never> {
  await delay(ms, undefined, { ref: false });
  throw new Error(`the broker did not answer within ${ms / 1000} s`);
}

interface Login {
  readonly target: Options.Connect;
  readonly socket: object;
  /** Host, port and vhost: what may be said aloud. */
  readonly place: string;
}

async function loginOf(settings: BrokerSettings, version: string, log: Log): Promise<Login> {
  const url = brokerUrl(settings.url);
  const tls = url.protocol === "amqps:";
  const hostname = url.hostname.replace(/^\[|\]$/g, "");
  const port = Number(url.port) || (tls ? 5671 : 5672);
  const vhost = url.pathname.length > 1 ? decodeURIComponent(url.pathname.slice(1)) : "/";
  const heartbeat = Number(url.searchParams.get("heartbeat")) || HEARTBEAT_SECONDS;
  const [ca, cert, key] = await Promise.all(
    [settings.caFile, settings.certFile, settings.keyFile].map((path) =>
      path === undefined ? undefined : pemFile(path),
    ),
  );
  if (cert !== undefined) checkCertificate(cert, key, settings, log);
  const external = tls && cert !== undefined && key !== undefined;
  const username = decodeURIComponent(url.username) || "guest";
  const password = decodeURIComponent(url.password) || (url.username === "" ? "guest" : "");
  return {
    target: { protocol: tls ? "amqps" : "amqp", hostname, port, username, password, vhost, heartbeat },
    socket: {
      ...(ca === undefined ? {} : { ca: [ca] }),
      ...(cert === undefined || key === undefined ? {} : { cert, key }),
      ...(tls ? { servername: hostname, minVersion: "TLSv1.2" } : {}),
      ...(external ? { credentials: credentials.external() } : {}),
      timeout: CONNECT_MS,
      noDelay: true,
      clientProperties: {
        ...Object.fromEntries(Object.entries(settings.clientProperties).map(([name, value]) => [name, flat(value)])),
        ...{ product: "Slipway", version, connection_name: flat(settings.clientProperties.app ?? "Slipway") },
      },
    },
    place: `${hostname}:${port}${vhost === "/" ? "" : `/${vhost}`}`,
  };
}

/** AMQP tables have lists, amqplib's client properties have text. */
function flat(value: string | readonly string[]): string {
  return typeof value === "string" ? value : value.join(", ");
}

/** fedora-messaging's URLs may have no host: it is this machine. */
function brokerUrl(text: string): URL {
  const withHost = text.replace(/^(amqps?:\/\/)(?=[/?]|$)/, "$1localhost");
  if (/^amqps?:\/\//.test(withHost) && URL.canParse(withHost)) return new URL(withHost);
  // What is wrong with it is not said: it may be the password.
  throw new SlipwayError("invalid", "the broker's URL cannot be read", {
    next: "Write it as amqps://user:@host:5671/vhost, with the vhost's slashes as %2F.",
  });
}

async function pemFile(path: string): Promise<string> {
  let content: string;
  try {
    content = await readFile(path, "utf8");
  } catch (cause) {
    throw new SlipwayError("invalid", "a file of the broker's login cannot be read", {
      subject: path,
      next: "Correct its path, or who may read it: Slipway runs as another user than you may think.",
      cause,
    });
  }
  if (content.includes("-----BEGIN ")) return content;
  throw new SlipwayError("invalid", "a file of the broker's login is no PEM", {
    subject: path,
    next: "Certificates and keys have lines with BEGIN and END around them.",
  });
}

function checkCertificate(pem: string, key: string | undefined, settings: BrokerSettings, log: Log): void {
  const path = settings.certFile!;
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(pem);
  } catch (cause) {
    throw new SlipwayError("invalid", "the certificate for the broker cannot be read", { subject: path, cause });
  }
  if (key !== undefined && !certificate.checkPrivateKey(privateKey(key, settings.keyFile!))) {
    throw new SlipwayError("invalid", "the broker's certificate and key do not belong together", {
      subject: `${path}, ${settings.keyFile}`,
      next: "Name the key that the certificate was requested with, or ask for a new certificate.",
    });
  }
  const left = Date.parse(certificate.validTo) - Date.now();
  if (left > EXPIRY_WARNING_MS) return;
  const what = left < 0 ? "the certificate for the broker has expired" : "the certificate for the broker ends soon";
  log.warn(what, { file: path, until: new Date(certificate.validTo).toISOString() });
}

function privateKey(pem: string, path: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch {
    // What is wrong is not quoted: it is a secret.
    throw new SlipwayError("invalid", "the key for the broker cannot be read", {
      subject: path,
      next: "It has to be a private key in PEM without a passphrase: openssl pkey -in KEY -out KEY.plain",
    });
  }
}

/** Errors of TLS and AMQP name hosts and reasons; a URL in one would hold a password. */
function wordsOf(error: Error): string {
  const said = error.message || (error as { code?: string }).code || error.name;
  return said.replace(/amqps?:\/\/\S+/g, "amqp://…").slice(0, 300);
}
