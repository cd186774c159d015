/** Settings of a Google Cloud target, and its key wherever it is. */
import { readFile } from "node:fs/promises";
import type { CloudOptions } from "../clouds/index.ts";
import { type Environment, type GcpTarget, resolveSecret } from "../config/index.ts";
import { SlipwayError } from "../lib/errors.ts";

type GcpOptions = Extract<CloudOptions, { cloud: "gcp" }>;

/** @throws SlipwayError `unauthenticated` for a key that is none, `unsupported` for another kind of credentials */
export async function gcpOptions(target: GcpTarget, environment: Environment): Promise<GcpOptions> {
  const { storage, compute, token, resource_manager: resourceManager } = target.endpoints ?? {};
  return {
    cloud: "gcp",
    project: target.project,
    bucket: target.bucket,
    storageLocation: target.storage_locations[0]!,
    credentials: await credentials(target, environment),
    ...(target.witness === undefined
      ? {}
      : {
          witness: keyOf(
            await resolveSecret(target.witness.service_account, environment),
            `targets.${target.name}.witness`,
          ),
        }),
    endpoints: {
      ...(storage === undefined ? {} : { storage }),
      ...(compute === undefined ? {} : { compute }),
      ...(token === undefined ? {} : { token }),
      ...(resourceManager === undefined ? {} : { resourceManager }),
    },
  };
}

async function credentials(target: GcpTarget, environment: Environment): Promise<GcpOptions["credentials"]> {
  const given = target.credentials?.service_account;
  if (given) return keyOf(await resolveSecret(given, environment), `targets.${target.name}.credentials`);
  const file = environment.GOOGLE_APPLICATION_CREDENTIALS;
  if (!file) return "metadata";
  try {
    return keyOf(await readFile(file, "utf8"), file);
  } catch (error) {
    if (error instanceof SlipwayError) throw error;
    throw new SlipwayError("unauthenticated", "the file with the service account's key cannot be read", {
      subject: file,
      next: "Correct GOOGLE_APPLICATION_CREDENTIALS, or name the key in the target's credentials.",
      cause: error,
    });
  }
}

/** What is wrong with it is said without quoting it. */
function keyOf(text: string, subject: string): { clientEmail: string; privateKey: string } {
  let key: { type?: unknown; client_email?: unknown; private_key?: unknown };
  try {
    key = JSON.parse(text) ?? {};
  } catch {
    throw new SlipwayError("unauthenticated", "the service account's key is no JSON", {
      subject,
      next: "Put the whole JSON file there that Google made for the key.",
    });
  }
  if (key.type !== undefined && key.type !== "service_account") {
    throw new SlipwayError("unsupported", `credentials of type ${String(key.type)} are not supported`, {
      subject,
      next: "Use a service account's key, or run where the metadata server gives an account.",
    });
  }
  if (typeof key.client_email === "string" && typeof key.private_key === "string") {
    return { clientEmail: key.client_email, privateKey: key.private_key };
  }
  throw new SlipwayError("unauthenticated", "the service account's key lacks client_email or private_key", { subject });
}
