import { SlipwayError } from "../lib/errors.ts";

const MAX_PATH = 1024;
const MAX_LOCATION = 2048;
const SCHEMES = new Set(["https:", "http:", "file:"]);

/** Why a path must not be used; undefined for one that stays inside the compose directory. */
export function whyUnsafePath(path: string): string | undefined {
  if (path === "") return "is empty";
  if (path.length > MAX_PATH) return `is longer than ${MAX_PATH} characters`;
  if (hasControlCharacter(path)) return "has a NUL or another control character";
  if (path.includes("\\")) return "has a backslash";
  if (path.startsWith("/")) return "is absolute";
  if (/^[A-Za-z][A-Za-z0-9+.-]*:/.test(path)) return "begins like a URL or a drive";
  const segments = path.split("/");
  if (segments.includes("..")) return "leaves the compose directory";
  if (segments.includes(".") || segments.includes("")) return 'has an empty or "." part';
  return undefined;
}

/**
 * Where a file of the compose is read. Parts are escaped, so that a name holding `?`, `#` or `%2e%2e` stays a name; an
 * ordinary name comes out as it went in.
 */
export function artifactUrl(location: string, path: string): string {
  return `${location}/${path.split("/").map(encodeURIComponent).join("/")}`;
}

/**
 * A compose's location in the one form used everywhere: no trailing slash. A double slash inside is kept, servers give
 * such addresses out.
 * @throws SlipwayError `invalid`
 */
export function checkLocation(location: string): string {
  const trimmed = location.replace(/\/+$/, "");
  const refuse = (why: string) =>
    new SlipwayError("invalid", `the compose's location ${why}`, {
      subject: "location",
      next: "Give the compose/ directory as an https:, http: or file: URL without credentials or query.",
    });
  if (location.length > MAX_LOCATION) throw refuse(`is longer than ${MAX_LOCATION} characters`);
  if (hasControlCharacter(location) || /[\s\\]/.test(location))
    throw refuse("has a space, backslash or control character");
  const url = URL.canParse(trimmed) ? new URL(trimmed) : undefined;
  if (!url) throw refuse("is not a URL");
  if (!SCHEMES.has(url.protocol)) throw refuse(`has the scheme ${url.protocol}`);
  if (url.username !== "" || url.password !== "") throw refuse("carries credentials");
  if (/[?#]/.test(trimmed)) throw refuse("has a query or a fragment, so no path can be added to it");
  return trimmed;
}

function hasControlCharacter(text: string): boolean {
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code < 0x20 || code === 0x7f) return true;
  }
  return false;
}
