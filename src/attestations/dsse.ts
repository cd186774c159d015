/**
 * The envelope a signed statement travels in (DSSE v1): base64 of the payload beside signatures over its type and bytes.
 * What is signed is `PAE(type, payload)`, so that bytes signed as one type cannot be shown as another.
 * @see https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md
 */
import { z } from "zod";
import { SlipwayError } from "../lib/errors.ts";
import { MiB } from "../lib/units.ts";
import type { SigningKey, VerifyingKey } from "./keys.ts";

/** Media type of an in-toto statement inside an envelope. */
export const IN_TOTO = "application/vnd.in-toto+json";

export interface Envelope {
  readonly payloadType: string;
  /** Standard base64, with padding. */
  readonly payload: string;
  readonly signatures: readonly { readonly keyid?: string | undefined; readonly sig: string }[];
}

/** A statement about a thousand cloud images has some 300 KiB; larger is nobody's statement. */
const MAX_ENVELOPE = 8 * MiB;
/** Room for a rotation and a few witnesses; each costs a verification per trusted key. */
const MAX_SIGNATURES = 16;

const base64 = z
  .string()
  .min(1)
  .regex(/^[A-Za-z0-9+/_-]+={0,2}$/, "is not base64");

const envelopeSchema = z.object({
  payloadType: z.string().min(1).max(200),
  payload: base64,
  signatures: z
    .array(z.object({ keyid: z.string().max(500).optional(), sig: base64 }))
    .min(1)
    .max(MAX_SIGNATURES),
});

/** What is signed: `DSSEv1 <length> <type> <length> <payload>`, lengths in bytes as ASCII decimals. */
export function preAuthenticationEncoding(payloadType: string, payload: Uint8Array): Buffer {
  const type = Buffer.from(payloadType, "utf8");
  return Buffer.concat([
    Buffer.from(`DSSEv1 ${type.length} `),
    type,
    Buffer.from(` ${payload.length} `),
    Buffer.from(payload.buffer, payload.byteOffset, payload.length),
  ]);
}

/**
 * The key is not named in it: a keyid is a hint with no one way of reckoning it, and verifiers that reckon another (Go's
 * take SSH's fingerprint) pass over a signature whose keyid is not theirs. Empty, as cosign leaves it, suits all.
 */
export function signEnvelope(payloadType: string, payload: Uint8Array, key: SigningKey): Envelope {
  const sig = key.sign(preAuthenticationEncoding(payloadType, payload)).toString("base64");
  return {
    payloadType,
    payload: Buffer.from(payload).toString("base64"),
    signatures: [{ keyid: "", sig }],
  };
}

/** @throws SlipwayError `invalid` for anything that is no envelope, before any of it is decoded */
export function parseEnvelope(text: string): Envelope {
  const refuse = (why: string, cause?: unknown) =>
    new SlipwayError("invalid", `this is no signed envelope: ${why}`, { cause });
  if (text.length > MAX_ENVELOPE) throw refuse(`it has ${text.length} characters, more than ${MAX_ENVELOPE}`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw refuse("it is not JSON", error);
  }
  const parsed = envelopeSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw refuse(`${issue!.path.join(".") || "it"}: ${issue!.message}`);
}

/**
 * The payload, and the key that vouches for it. A signature's own `keyid` is a hint anybody can write: every trusted key
 * is tried.
 * @returns undefined if no trusted key signed it
 */
export function openEnvelope(
  envelope: Envelope,
  trusted: readonly VerifyingKey[],
): { readonly payload: Buffer; readonly keyId: string } | undefined {
  const payload = Buffer.from(envelope.payload, "base64");
  const signed = preAuthenticationEncoding(envelope.payloadType, payload);
  for (const { sig } of envelope.signatures) {
    const signature = Buffer.from(sig, "base64");
    const key = trusted.find((one) => one.verify(signed, signature));
    if (key !== undefined) return { payload, keyId: key.keyId };
  }
  return undefined;
}
