/** Keys for statements, from where the configuration says they are. Read once; a failure is not remembered. */
import { readFile } from "node:fs/promises";
import { readSigningKey, readVerifyingKey, type SigningKey, type VerifyingKey } from "../attestations/index.ts";
import { type Config, type Environment, resolveSecret, type SecretRef } from "../config/index.ts";
import { SlipwayError } from "../lib/errors.ts";
import type { Attester } from "../workflows/index.ts";

export function openAttester({ attestations }: Pick<Config, "attestations">, environment: Environment): Attester {
  const { key: ref, passphrase, trusted } = attestations;
  let signing: Promise<SigningKey> | undefined;

  async function open(key: SecretRef): Promise<SigningKey> {
    const pem = await resolveSecret(key, environment);
    const secret = passphrase === undefined ? undefined : await resolveSecret(passphrase, environment);
    return readSigningKey(pem, secret, "attestations.key");
  }

  async function signer(): Promise<SigningKey | undefined> {
    if (ref === undefined) return undefined;
    signing ??= open(ref);
    signing.catch(() => {
      signing = undefined;
    });
    return signing;
  }

  return {
    signer,
    async trusted(): Promise<VerifyingKey[]> {
      const own = await signer();
      const others = await Promise.all(trusted.map(readPublic));
      return own === undefined ? others : [own, ...others];
    },
  };
}

async function readPublic(file: string): Promise<VerifyingKey> {
  const pem = await readFile(file, "utf8").catch((error: unknown) => {
    throw new SlipwayError("not-found", "this public key cannot be read", {
      subject: file,
      next: "Correct attestations.trusted.",
      cause: error,
    });
  });
  return readVerifyingKey(pem, file);
}
