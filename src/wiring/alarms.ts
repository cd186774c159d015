/** Alarms, put together: what the configuration says of them, the channels it names, and the loop that watches. */
import { readFile } from "node:fs/promises";
import type { Kysely } from "kysely";
import {
  ALARM_KINDS,
  type AlarmKind,
  type AlarmLoop,
  type AlarmSettings,
  type AlarmTables,
  type BrokerState,
  busChannel,
  type Certificate,
  type Channel,
  mailChannel,
  matrixChannel,
  type Peer,
  slackChannel,
  watchAlarms,
  webhookChannel,
} from "../alarms/index.ts";
import type { BrokerSettings } from "../bus/fedora-messaging.ts";
import { type Config, type Environment, resolveSecret, resolveValue, ruleConfigs } from "../config/index.ts";
import type { Engine } from "../durable/index.ts";
import type { Log } from "../lib/call.ts";
import { SlipwayError } from "../lib/errors.ts";
import type { Services } from "../workflows/index.ts";

type ChannelConfig = Config["notifications"]["channels"][string];

const MAIL_PORTS = { starttls: 587, implicit: 465, none: 25 } as const;

/**
 * Every channel that is configured. Secrets are read when something is sent.
 * @throws SlipwayError `invalid` for a `ca_file` that cannot be read
 */
export async function openChannels(
  config: Pick<Config, "notifications">,
  environment: Environment,
  db: Kysely<AlarmTables>,
): Promise<readonly Channel[]> {
  const named = Object.entries(config.notifications.channels);
  return Promise.all(named.map(([name, channel]) => openChannel(name, channel, environment, db)));
}

async function openChannel(
  name: string,
  given: ChannelConfig,
  environment: Environment,
  db: Kysely<AlarmTables>,
): Promise<Channel> {
  const ca = "ca_file" in given && given.ca_file !== undefined ? await authority(name, given.ca_file) : undefined;
  switch (given.kind) {
    case "bus":
      return busChannel({ name, db });
    case "matrix": {
      const { homeserver, room, token } = given;
      return matrixChannel({ name, homeserver, room, ca, token: () => resolveSecret(token, environment) });
    }
    case "slack":
      return slackChannel({ name, url: () => resolveSecret(given.url, environment) });
    case "webhook": {
      const { url, secret } = given;
      return webhookChannel({
        ...{ name, ca, url: () => resolveValue(url, environment) },
        secret: secret === undefined ? undefined : () => resolveSecret(secret, environment),
      });
    }
    case "mail": {
      const { host, tls, port = MAIL_PORTS[tls], username, password, from, to } = given;
      return mailChannel({
        ...{ name, host, port, tls, username, from, to, ca },
        password: password === undefined ? undefined : () => resolveSecret(password, environment),
      });
    }
  }
}

async function authority(channel: string, file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (cause) {
    throw new SlipwayError("invalid", `the ca_file of channel ${channel} cannot be read`, {
      subject: file,
      next: `Correct notifications.channels.${channel}.ca_file, or who may read the file.`,
      cause,
    });
  }
}

/** What the configuration says about alarms, in the form in which they are watched. */
export function alarmSettings(config: Config, broker: BrokerSettings | undefined): AlarmSettings {
  const { alarms, channels, remind, settle, keep } = config.notifications;
  const all = Object.keys(channels);
  const on = ALARM_KINDS.filter((kind) => alarms[kind].enabled);
  const after = (kind: AlarmKind): number => {
    const alarm = alarms[kind];
    return "after" in alarm ? alarm.after : 0;
  };
  return {
    channels: (kind) => alarms[kind].channels ?? all,
    ...{ settle, keep, remind: remind === "off" ? undefined : remind },
    after: Object.fromEntries(on.map((kind) => [kind, after(kind)])),
    runsAfter: alarms["queue-age"].runs_after,
    failures: alarms["rule-failing"].failures,
    expected: Object.values(config.systems).flatMap(({ name, enabled, expect }) =>
      enabled && expect !== undefined ? [{ system: name, every: expect.every }] : [],
    ),
    rules: ruleConfigs(config).flatMap(({ name, enabled }) => (enabled ? [name] : [])),
    certificates: certificatesOf(config, broker),
    peers: broker === undefined ? [] : peersOf(broker),
  };
}

/** Every file with a certificate that is named somewhere. */
function certificatesOf(config: Config, broker: BrokerSettings | undefined): Certificate[] {
  const found: (Certificate | undefined)[] = [
    certificate("The broker's client certificate", broker?.certFile, "own"),
    certificate("The broker's authority", broker?.caFile, "authority"),
    certificate("The database's authority", config.database.ca_file, "authority"),
  ];
  for (const target of Object.values(config.targets)) {
    if (!target.enabled) continue;
    if ("client_cert" in target) {
      found.push(certificate(`The client certificate of target ${target.name}`, target.client_cert?.cert, "own"));
    }
    if ("ca_file" in target) {
      found.push(certificate(`The authority of target ${target.name}`, target.ca_file, "authority"));
    }
  }
  for (const [name, channel] of Object.entries(config.notifications.channels)) {
    if ("ca_file" in channel) found.push(certificate(`The authority of channel ${name}`, channel.ca_file, "authority"));
  }
  return found.filter((one) => one !== undefined);
}

function certificate(name: string, file: string | undefined, use: Certificate["use"]): Certificate | undefined {
  return file === undefined ? undefined : { name, file, use };
}

/** The broker, where it is reached through TLS. */
function peersOf({ url, caFile, certFile, keyFile }: BrokerSettings): Peer[] {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed?.protocol !== "amqps:" || parsed.hostname === "") return [];
  const read = (file: string | undefined) => (file === undefined ? undefined : readFile(file, "utf8"));
  return [
    {
      ...{ name: "The broker's own certificate", host: parsed.hostname.replace(/^\[|\]$/g, "") },
      port: Number(parsed.port) || 5671,
      async tls() {
        const [ca, cert, key] = await Promise.all([read(caFile), read(certFile), read(keyFile)]);
        return {
          ...(ca === undefined ? {} : { ca }),
          ...(cert === undefined || key === undefined ? {} : { cert, key }),
        };
      },
    },
  ];
}

export interface OpenAlarmsOptions {
  readonly config: Config;
  readonly environment: Environment;
  readonly broker: BrokerSettings | undefined;
  readonly db: Kysely<AlarmTables>;
  readonly engine: Engine<Services>;
  /** How the doors to the broker are now. */
  state(): BrokerState;
  now(): Date;
  readonly log: Log;
}

/** Watches until it is closed. @throws SlipwayError `invalid` for settings that cannot be used */
export async function openAlarms(options: OpenAlarmsOptions): Promise<AlarmLoop> {
  const { config, environment, broker, db, engine, state, now, log } = options;
  const channels = await openChannels(config, environment, db);
  const settings = alarmSettings(config, broker);
  return watchAlarms({ db, runs: engine, settings, channels, broker: state, now, log });
}
