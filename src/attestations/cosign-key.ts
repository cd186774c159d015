/**
 * Private keys as cosign writes them: a PEM block around JSON that says how a passphrase becomes a key (scrypt) and what
 * that key opens (a NaCl secretbox: XSalsa20 and Poly1305, from @noble/ciphers: node:crypto has neither). Inside: PKCS#8.
 * @see https://github.com/secure-systems-lab/go-securesystemslib/tree/main/encrypted
 */
import { createPrivateKey, type KeyObject, scrypt } from "node:crypto";
import { z } from "zod";
import { SlipwayError } from "../lib/errors.ts";
import { MiB } from "../lib/units.ts";
import { wrongPassphrase } from "./passphrase.ts";

/** SIGSTORE since cosign 2, COSIGN before. */
const BLOCK =
  /^-----BEGIN ENCRYPTED (SIGSTORE|COSIGN) PRIVATE KEY-----\s+([A-Za-z0-9+/=\s]+)-----END ENCRYPTED \1 PRIVATE KEY-----\s*$/;

/**
 * A key file is not trusted to say how much memory opening it takes: cosign writes N=65536, r=8 (64 MiB), older ones
 * N=32768; scrypt needs 128·N·r bytes.
 */
const MAX_SCRYPT_BYTES = 256 * MiB;

const bytes = z.base64().transform((text) => Buffer.from(text, "base64"));

const encryptedSchema = z.object({
  kdf: z.object({
    name: z.literal("scrypt"),
    params: z.object({ N: z.int().min(2), r: z.int().min(1).max(64), p: z.int().min(1).max(16) }),
    salt: bytes,
  }),
  cipher: z.object({ name: z.literal("nacl/secretbox"), nonce: bytes }),
  ciphertext: bytes,
});

export function isCosignKey(pem: string): boolean {
  return BLOCK.test(pem.trim());
}

/** @throws SlipwayError `unauthenticated` for a passphrase that does not open it, `invalid` for a damaged file */
export async function openCosignKey(pem: string, passphrase: string | undefined, where: string): Promise<KeyObject> {
  const damaged = () => new SlipwayError("invalid", "the cosign key is damaged", { subject: where });
  const [, , body = ""] = BLOCK.exec(pem.trim()) ?? [];
  let sealed: z.output<typeof encryptedSchema>;
  try {
    sealed = encryptedSchema.parse(JSON.parse(Buffer.from(body, "base64").toString("utf8")));
  } catch {
    throw damaged();
  }
  const { params, salt } = sealed.kdf;
  if (128 * params.N * params.r > MAX_SCRYPT_BYTES || sealed.cipher.nonce.length !== 24) throw damaged();
  // An empty passphrase is one too: cosign makes such keys.
  const secret = await derive(passphrase ?? "", salt, params).catch(() => {
    throw damaged();
  });
  const { xsalsa20poly1305 } = await import("@noble/ciphers/salsa.js");
  let der: Uint8Array;
  try {
    der = xsalsa20poly1305(secret, sealed.cipher.nonce).decrypt(sealed.ciphertext);
  } catch {
    throw wrongPassphrase(passphrase, where);
  }
  try {
    return createPrivateKey({ key: Buffer.from(der), format: "der", type: "pkcs8" });
  } catch {
    throw damaged();
  }
}

function derive(passphrase: string, salt: Buffer, { N, r, p }: { N: number; r: number; p: number }): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    scrypt(passphrase, salt, 32, { N, r, p, maxmem: MAX_SCRYPT_BYTES + MiB }, (error, key) =>
      error ? reject(error) : resolve(key),
    );
  });
}
