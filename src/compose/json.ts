import { SlipwayError } from "../lib/errors.ts";

/**
 * JSON from a stranger: bounded in size and depth before it is parsed, and free of keys that mean something to
 * JavaScript. Fedora's largest images.json is about 100 kB and 6 levels deep.
 */
export const JSON_LIMITS = { characters: 16 * 1024 * 1024, depth: 32 } as const;

/** @throws SlipwayError `invalid`, its subject the file */
export function parseBoundedJson(text: string, file: string): unknown {
  if (text.length > JSON_LIMITS.characters) {
    throw refused(file, `is ${text.length} characters long, over the limit of ${JSON_LIMITS.characters}`);
  }
  if (depthOf(text) > JSON_LIMITS.depth) throw refused(file, `is nested deeper than ${JSON_LIMITS.depth} levels`);
  let value: unknown;
  try {
    // A reviver sees every own key, __proto__ too, which plain assignment would swallow.
    value = JSON.parse(text, (key, inner) => {
      if (key === "__proto__") throw new PoisonedKey(key);
      return inner;
    });
  } catch (cause) {
    if (cause instanceof PoisonedKey) throw refused(file, `has a field named "${cause.key}"`);
    const first = text.slice(0, 60).replace(/\s+/g, " ").trim();
    throw refused(file, first === "" ? "is empty" : `is not JSON; it begins with: ${first}`, cause);
  }
  return value;
}

class PoisonedKey extends Error {
  readonly key: string;
  constructor(key: string) {
    super(key);
    this.key = key;
  }
}

/** The deepest nesting of brackets outside strings; the text need not be valid. */
function depthOf(text: string): number {
  let depth = 0;
  let deepest = 0;
  let inString = false;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (inString) {
      if (code === BACKSLASH) at++;
      else if (code === QUOTE) inString = false;
    } else if (code === QUOTE) inString = true;
    else if (code === OPEN_BRACE || code === OPEN_BRACKET) deepest = Math.max(deepest, ++depth);
    else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) depth--;
  }
  return deepest;
}

const [QUOTE, BACKSLASH] = [0x22, 0x5c];
const [OPEN_BRACE, CLOSE_BRACE, OPEN_BRACKET, CLOSE_BRACKET] = [0x7b, 0x7d, 0x5b, 0x5d];

function refused(file: string, why: string, cause?: unknown): SlipwayError {
  return new SlipwayError("invalid", `${file} ${why}`, {
    subject: file,
    next: "Check the location: it is the compose/ directory, with metadata/ in it. If it is right, the compose is broken.",
    cause,
  });
}
