import { SlipwayError } from "../../lib/errors.ts";
import { MiB } from "../../lib/units.ts";

/** What registries take as a manifest at most; nothing in an image's metadata has a reason to be larger. */
export const MAX_JSON_BYTES = 4 * MiB;
const MAX_DEPTH = 64;

/** A JSON object or array from outside. @throws SlipwayError `invalid`: too large, too deep, not JSON */
export function parseBounded(bytes: Uint8Array, subject: string): unknown {
  const refuse = (why: string) => new SlipwayError("invalid", `${subject} ${why}`, { subject });
  if (bytes.length > MAX_JSON_BYTES) throw refuse(`has ${bytes.length} bytes; at most ${MAX_JSON_BYTES} are read`);
  const text = Buffer.from(bytes).toString("utf8");
  if (depthOf(text) > MAX_DEPTH) throw refuse(`is nested more than ${MAX_DEPTH} levels deep`);
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw refuse("is not JSON");
  }
}

/** An object's fields, or none: what is read of them is checked one by one. */
export function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}

function depthOf(text: string): number {
  let depth = 0;
  let deepest = 0;
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (char === '"') {
      for (at++; at < text.length && text[at] !== '"'; at++) if (text[at] === "\\") at++;
    } else if (char === "{" || char === "[") deepest = Math.max(deepest, ++depth);
    else if (char === "}" || char === "]") depth--;
  }
  return deepest;
}
