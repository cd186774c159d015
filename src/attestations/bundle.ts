/**
 * An envelope as cosign finds it beside a container: a Sigstore bundle in a referrer. `cosign verify-attestation --key
 * PUBLIC --insecure-ignore-tlog` reads it: we keep no transparency log.
 * @see https://github.com/sigstore/cosign/blob/main/specs/BUNDLE_SPEC.md
 */
import { z } from "zod";
import { SlipwayError } from "../lib/errors.ts";
import { type Envelope, parseEnvelope } from "./dsse.ts";

export const BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json";

export interface Bundle {
  readonly bytes: Buffer;
  /** For the manifest that refers to the container; lets clients choose without reading bundles. */
  readonly annotations: Readonly<Record<string, string>>;
}

/** @param keyId of the key that signed; a hint for whoever has several */
export function bundleOf(envelope: Envelope, keyId: string, predicateType: string): Bundle {
  const bundle = {
    mediaType: BUNDLE_TYPE,
    verificationMaterial: { publicKey: { hint: keyId } },
    dsseEnvelope: envelope,
  };
  return {
    bytes: Buffer.from(JSON.stringify(bundle), "utf8"),
    annotations: {
      "dev.sigstore.bundle.content": "dsse-envelope",
      "dev.sigstore.bundle.predicateType": predicateType,
    },
  };
}

const bundleSchema = z.object({ mediaType: z.literal(BUNDLE_TYPE), dsseEnvelope: z.unknown() });

/** @throws SlipwayError `invalid` for what is no bundle with an envelope */
export function envelopeIn(bundle: string): Envelope {
  let value: unknown;
  try {
    value = JSON.parse(bundle);
  } catch (error) {
    throw new SlipwayError("invalid", "this is no Sigstore bundle: it is not JSON", { cause: error });
  }
  const parsed = bundleSchema.safeParse(value);
  if (!parsed.success) throw new SlipwayError("invalid", "this is no Sigstore bundle with a signed envelope");
  return parseEnvelope(JSON.stringify(parsed.data.dsseEnvelope ?? null));
}
