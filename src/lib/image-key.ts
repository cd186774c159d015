import { createHash } from "node:crypto";
import type { Arch, ImageKey } from "../model.ts";
import { SlipwayError } from "./errors.ts";

/** What makes an image the same image. Two of these that are equal are one resource, for ever. */
export interface ImageIdentity {
  /** Name of the target: the same bytes in two accounts are two images. */
  readonly target: string;
  readonly kind: "image" | "disk" | (string & {});
  readonly name?: string;
  readonly arch?: Arch;
  /** Lower-case hex, of the artifact as stored. */
  readonly sha256: string;
}

/**
 * The key of an image: 52 characters of lower-case base32, so that it fits a GCP label. Stands in the tags of every
 * resource, so what it is made of must never change.
 * @throws SlipwayError `invalid` for a digest that is none
 */
export function imageKey({ target, kind, name = "", arch = "", sha256 }: ImageIdentity): ImageKey {
  if (!/^[0-9a-f]{64}$/.test(sha256)) {
    throw new SlipwayError("invalid", "an image key needs a SHA-256 of 64 lower-case hex digits", { subject: name });
  }
  // A JSON array keeps the parts apart: no two identities give one text.
  const identity = JSON.stringify(["slipway", 1, target, kind, name, arch, sha256]);
  return base32(createHash("sha256").update(identity).digest());
}

/**
 * The key of the disk behind an image. Each image has its own: two images of the same bytes (a test compose's two
 * architectures, say) are uploaded side by side, and one disk would have two writers, and be tidied away by the first.
 */
export function diskKey(identity: Omit<ImageIdentity, "kind">): ImageKey {
  return imageKey({ ...identity, kind: "disk" });
}

const ALPHABET = "abcdefghijklmnopqrstuvwxyz234567";

/** RFC 4648 base32, lower case, without padding. */
function base32(bytes: Uint8Array): string {
  let text = "";
  let bits = 0;
  let value = 0;
  for (const byte of bytes) {
    value = (value << 8) | byte;
    bits += 8;
    for (; bits >= 5; bits -= 5) text += ALPHABET[(value >>> (bits - 5)) & 31];
    value &= (1 << bits) - 1;
  }
  return bits === 0 ? text : text + ALPHABET[(value << (5 - bits)) & 31];
}
