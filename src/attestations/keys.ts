/**
 * Keys that sign and keys that vouch. ECDSA on P-256 with SHA-256 and DER signatures, as cosign and its libraries make
 * and read them, or Ed25519. PEM in, never a key out.
 */
import { createHash, createPrivateKey, createPublicKey, type KeyObject, sign, verify } from "node:crypto";
import { codeOf, SlipwayError } from "../lib/errors.ts";
import { KiB } from "../lib/units.ts";
import { isCosignKey, openCosignKey } from "./cosign-key.ts";
import { wrongPassphrase } from "./passphrase.ts";

export interface VerifyingKey {
  /** Lower-case hex of SHA-256 over the public key's SubjectPublicKeyInfo in DER. */
  readonly keyId: string;
  /** SubjectPublicKeyInfo in PEM. */
  readonly pem: string;
  verify(data: Uint8Array, signature: Uint8Array): boolean;
}

export interface SigningKey extends VerifyingKey {
  sign(data: Uint8Array): Buffer;
}

/** An RSA key of 16384 bits has 13 KiB; nothing we take comes near. */
const MAX_PEM = 64 * KiB;

/**
 * A private key in PEM: PKCS#8 (encrypted or not), SEC 1, or one that cosign wrote.
 * @param where what to call it in an error: never its content
 * @throws SlipwayError `unauthenticated` if the passphrase is wrong or missing, `invalid` for what is no key, `unsupported`
 */
export async function readSigningKey(pem: string, passphrase: string | undefined, where: string): Promise<SigningKey> {
  bounded(pem, where);
  const key = isCosignKey(pem) ? await openCosignKey(pem, passphrase, where) : privateKey(pem, passphrase, where);
  const digest = digestFor(key, where);
  return { ...verifying(createPublicKey(key), where), sign: (data) => sign(digest, data, key) };
}

/** @throws SlipwayError `invalid` for what is no public key, `unsupported` for another algorithm */
export function readVerifyingKey(pem: string, where: string): VerifyingKey {
  bounded(pem, where);
  if (/PRIVATE KEY/.test(pem)) {
    throw new SlipwayError("invalid", "a private key stands where a public one belongs", {
      subject: where,
      next: "Write down its public half: openssl pkey -in KEY -pubout.",
    });
  }
  let key: KeyObject;
  try {
    key = createPublicKey(pem);
  } catch (error) {
    throw new SlipwayError("invalid", "this is no public key in PEM", { subject: where, cause: error });
  }
  return verifying(key, where);
}

function verifying(key: KeyObject, where: string): VerifyingKey {
  const digest = digestFor(key, where);
  const der = key.export({ type: "spki", format: "der" });
  return {
    keyId: createHash("sha256").update(der).digest("hex"),
    pem: key.export({ type: "spki", format: "pem" }).toString(),
    verify(data, signature) {
      try {
        return verify(digest, data, key, signature);
      } catch (error) {
        // A signature that is not even well-formed says no, as a wrong one does.
        if (codeOf(error) === "cancelled") throw error;
        return false;
      }
    },
  };
}

function privateKey(pem: string, passphrase: string | undefined, where: string): KeyObject {
  try {
    return createPrivateKey(passphrase === undefined ? pem : { key: pem, passphrase });
  } catch (error) {
    // OpenSSL's own words may quote its input: none of them goes further.
    if (/ENCRYPTED/.test(pem)) throw wrongPassphrase(passphrase, where);
    throw new SlipwayError("invalid", "this is no private key in PEM", {
      subject: where,
      next: "Make one: openssl genpkey -algorithm ed25519, or cosign generate-key-pair.",
      cause: (error as { code?: string }).code,
    });
  }
}

/** What node:crypto is to be told: Ed25519 hashes by itself. */
function digestFor(key: KeyObject, where: string): "sha256" | null {
  if (key.asymmetricKeyType === "ed25519") return null;
  if (key.asymmetricKeyType === "ec" && key.asymmetricKeyDetails?.namedCurve === "prime256v1") return "sha256";
  const kind = [key.asymmetricKeyType, key.asymmetricKeyDetails?.namedCurve].filter(Boolean).join(" ");
  throw new SlipwayError("unsupported", `keys are ECDSA on P-256 or Ed25519; this one is ${kind}`, { subject: where });
}

function bounded(pem: string, where: string): void {
  if (pem.length > MAX_PEM) throw new SlipwayError("invalid", "this is too long for a key", { subject: where });
}
