import { open } from "node:fs/promises";
import { SlipwayError } from "../lib/errors.ts";
import { KiB } from "../lib/units.ts";
import type { AzureTarget } from "./schema.ts";
import type { SecretRef } from "./values.ts";

/** The process's environment, handed in by whoever may read it. */
export type Environment = Readonly<Record<string, string | undefined>>;

const MAX_SECRET = 64 * KiB;

/**
 * Fetches a secret from where the configuration says it is. A file's last line break is not a part of it.
 * @throws SlipwayError `unauthenticated`, naming the place and never the value
 */
export async function resolveSecret(ref: SecretRef, env: Environment): Promise<string> {
  const place = "env" in ref ? `environment variable ${ref.env}` : `file ${ref.file}`;
  const value = "env" in ref ? env[ref.env] : await readSecret(ref.file);
  if (value !== undefined && value !== "") return value;
  throw new SlipwayError(
    "unauthenticated",
    `the ${place} holds no secret: it is ${value === "" ? "empty" : "not set"}`,
    {
      subject: place,
      next: "env" in ref ? `Set ${ref.env} where Slipway runs.` : "Write the secret into that file.",
    },
  );
}

/** The same for what is not secret and may stand in the configuration itself. */
export async function resolveValue(value: string | SecretRef, env: Environment): Promise<string> {
  return typeof value === "string" ? value : resolveSecret(value, env);
}

async function readSecret(path: string): Promise<string> {
  try {
    await using file = await open(path);
    if ((await file.stat()).size > MAX_SECRET) throw new Error(`it is larger than ${MAX_SECRET} bytes`);
    return (await file.readFile("utf8")).replace(/\r?\n$/, "");
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new SlipwayError("unauthenticated", `the secret in ${path} cannot be read: ${why}`, {
      subject: `file ${path}`,
      next: "Check that the file is there and that Slipway may read it.",
      cause,
    });
  }
}

export interface AzureCredentials {
  readonly tenantId: string;
  readonly clientId: string;
  readonly clientSecret: string;
}

/**
 * An Azure target's credentials: the configuration's, else the environment's under Ansible's names (AZURE_TENANT,
 * AZURE_SECRET) or the SDK's (AZURE_TENANT_ID, AZURE_CLIENT_SECRET); `undefined` = the SDK's own chain.
 */
export async function azureCredentials(target: AzureTarget, env: Environment): Promise<AzureCredentials | undefined> {
  const given = target.credentials;
  if (given) {
    return {
      tenantId: await resolveValue(given.tenant_id, env),
      clientId: await resolveValue(given.client_id, env),
      clientSecret: await resolveSecret(given.client_secret, env),
    };
  }
  const tenantId = env.AZURE_TENANT || env.AZURE_TENANT_ID;
  const clientId = env.AZURE_CLIENT_ID;
  const clientSecret = env.AZURE_SECRET || env.AZURE_CLIENT_SECRET;
  return tenantId && clientId && clientSecret ? { tenantId, clientId, clientSecret } : undefined;
}

/** @throws SlipwayError `unauthenticated` when neither the target nor the environment names a subscription */
export async function azureSubscription(target: AzureTarget, env: Environment): Promise<string> {
  return resolveValue(target.subscription ?? { env: "AZURE_SUBSCRIPTION_ID" }, env);
}
