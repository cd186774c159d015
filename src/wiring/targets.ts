/** From a configured target to an open driver: the one place where settings, secrets and SDK options meet. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Cloud, type CloudOptions, openCloud, uploadPlaces } from "../clouds/index.ts";
import {
  type AwsTarget,
  type AzureTarget,
  azureCredentials,
  azureDefinition,
  azureRegions,
  azureSubscription,
  type Config,
  type Environment,
  planTargets,
  type RegistryTarget,
  resolveSecret,
  resolveValue,
  type Target,
} from "../config/index.ts";
import { SlipwayError } from "../lib/errors.ts";
import { openRegistry, type Registry } from "../registries/index.ts";
import type { TargetFacts, Targets } from "../workflows/index.ts";
import { gcpOptions } from "./gcp-target.ts";

export interface OpenTargets extends Targets {
  close(): Promise<void>;
}

/** Two keep one core busy decoding and one wire busy sending. Each has a decoder and its own blocks in flight. */
const UPLOADS_PER_TARGET = 2;

export function openTargets(config: Config, environment: Environment): OpenTargets {
  const clouds = new Map<string, Promise<Cloud>>();
  const hold = uploadPlaces(UPLOADS_PER_TARGET);
  const registries = new Map<string, Promise<Registry>>();

  function target(name: string): Target {
    const found = Object.hasOwn(config.targets, name) ? config.targets[name] : undefined;
    if (found !== undefined) return found;
    throw new SlipwayError("not-found", `the configuration has no target ${name}`, {
      subject: name,
      next: "The run was started with another configuration. Add the target again, or cancel the run.",
    });
  }

  return {
    plan: planTargets(config),
    facts(name): TargetFacts {
      const found = target(name);
      return {
        name,
        cloud: found.cloud,
        audience: found.cloud === "registry" ? { to: "public" } : found.offer,
        address: found.cloud === "registry" ? found.url : name,
      };
    },
    cloud: (name) => once(clouds, name, async () => openCloud(await cloudOptions(target(name), config, environment))),
    registry: (name) =>
      once(registries, name, async () => {
        const found = target(name);
        if (found.cloud !== "registry") throw new SlipwayError("invalid", `${name} is not a registry`);
        return openRegistry(await registryOptions(found, environment));
      }),
    uploading: (names, call, body) => hold(names, call.signal, body),
    async close() {
      for (const opened of [...clouds.values(), ...registries.values()])
        await (await opened.catch(() => undefined))?.close();
    },
  };
}

/** Opened once; a failure is not remembered, so that a secret that comes later is found. */
function once<T>(known: Map<string, Promise<T>>, name: string, open: () => Promise<T>): Promise<T> {
  const found = known.get(name);
  if (found !== undefined) return found;
  const opening = open();
  known.set(name, opening);
  opening.catch(() => known.delete(name));
  return opening;
}

async function cloudOptions(target: Target, config: Config, environment: Environment): Promise<CloudOptions> {
  switch (target.cloud) {
    case "aws":
      return awsOptions(target, environment);
    case "azure":
      return azureOptions(target, environment);
    case "gcp":
      return { ...(await gcpOptions(target, environment)), ...(await certificate(target.ca_file)) };
    case "local":
      return { cloud: "local", directory: target.directory ?? join(config.data_dir, "local", target.name) };
    default:
      throw new SlipwayError("unsupported", `there is no driver for ${target.cloud}`, { subject: target.name });
  }
}

async function awsOptions(target: AwsTarget, environment: Environment): Promise<CloudOptions> {
  const { credentials, endpoints } = target;
  return {
    cloud: "aws",
    homeRegion: target.home_region,
    ...(target.account === undefined ? {} : { account: target.account }),
    ...(endpoints === undefined ? {} : { endpoints: defined(endpoints) }),
    ...(await certificate(target.ca_file)),
    offer: target.offer.to,
    ...(target.regions === "all" ? { allExcept: target.regions_except ?? [] } : {}),
    ...(target.import === undefined ? {} : { import: target.import }),
    sharesSnapshots: target.snapshots === "shared",
    ...(target.sns_topic === undefined ? {} : { topic: target.sns_topic }),
    credentials: (await awsKey(credentials, environment)) ?? {},
    ...(target.witness === undefined ? {} : { witness: (await awsKey(target.witness, environment)) ?? {} }),
  };
}

async function awsKey(credentials: AwsTarget["credentials"], environment: Environment) {
  if (credentials === undefined || "profile" in credentials) return credentials;
  const { access_key_id, secret_access_key, session_token } = credentials;
  return {
    accessKeyId: await resolveValue(access_key_id, environment),
    secretAccessKey: await resolveSecret(secret_access_key, environment),
    ...(session_token === undefined ? {} : { sessionToken: await resolveSecret(session_token, environment) }),
  };
}

async function azureOptions(target: AzureTarget, environment: Environment): Promise<CloudOptions> {
  return {
    cloud: "azure",
    subscriptionId: await azureSubscription(target, environment),
    resourceGroup: target.resource_group,
    gallery: target.gallery,
    location: target.home_region,
    storageAccount: target.storage_account,
    container: target.container,
    credentials: (await azureCredentials(target, environment)) ?? "default",
    definition: azureDefinition(target),
    targetRegions: azureRegions(target),
    ...(target.public_gallery === undefined ? {} : { publicGalleryName: target.public_gallery }),
    ...(target.witness === undefined ? {} : { witness: await azureWitness(target.witness, environment) }),
    ...(target.endpoints === undefined ? {} : { endpoints: defined(target.endpoints) }),
    ...(await certificate(target.ca_file)),
  };
}

async function azureWitness(witness: NonNullable<AzureTarget["witness"]>, environment: Environment) {
  return {
    subscriptionId: await resolveValue(witness.subscription, environment),
    credentials: {
      tenantId: await resolveValue(witness.tenant_id, environment),
      clientId: await resolveValue(witness.client_id, environment),
      clientSecret: await resolveSecret(witness.client_secret, environment),
    },
  };
}

async function registryOptions(target: RegistryTarget, environment: Environment) {
  const { credentials, client_cert } = target;
  return {
    url: target.url,
    insecure: target.plain_http,
    ...(await certificate(target.ca_file)),
    ...(client_cert === undefined
      ? {}
      : {
          clientCert: { cert: await readFile(client_cert.cert, "utf8"), key: await readFile(client_cert.key, "utf8") },
        }),
    ...(credentials === undefined
      ? {}
      : {
          credentials: {
            username: await resolveValue(credentials.username, environment),
            password: await resolveSecret(credentials.password, environment),
          },
        }),
  };
}

async function certificate(file: string | undefined): Promise<{ ca?: string }> {
  return file === undefined ? {} : { ca: await readFile(file, "utf8") };
}

function defined<T extends object>(value: T): { [Key in keyof T]: Exclude<T[Key], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, one]) => one !== undefined)) as never;
}
