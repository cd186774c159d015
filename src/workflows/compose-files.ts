/**
 * Fetches what a compose says about itself. COMPOSE is a URL or a directory; which of the two is decided here, once.
 */
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import type { ComposeFiles } from "../compose/index.ts";
import { type ByteSourceOptions, openBytes } from "../images/byte-source.ts";
import type { CallContext } from "../lib/call.ts";
import { codeOf, SlipwayError } from "../lib/errors.ts";
import { KiB, MiB } from "../lib/units.ts";

/** A full Fedora compose has 0.1 MB of images.json; what is a hundred times that is not one. */
const MAX_METADATA_BYTES = 16 * MiB;

/** The `compose/` directory that a person named: a URL as it is, a path as a file: URL. */
export function composeLocation(compose: string): string {
  const url = /^[a-z][a-z0-9+.-]*:\/\//i.test(compose) ? compose : pathToFileURL(resolve(compose)).href;
  return url.replace(/\/+$/, "");
}

/**
 * Reads composeinfo.json and images.json, and STATUS where there is one. A directory that holds `compose/` is
 * accepted too, as people name that one.
 * @throws SlipwayError `not-found` if no metadata is there: composes are deleted after some weeks
 */
export async function fetchComposeFiles(
  location: string,
  options: ByteSourceOptions,
  call: CallContext,
): Promise<ComposeFiles> {
  const candidates = location.endsWith("/compose") ? [location] : [location, `${location}/compose`];
  let missing: unknown;
  for (const candidate of candidates) {
    try {
      const [composeinfo, images] = await Promise.all([
        fetchText(`${candidate}/metadata/composeinfo.json`, MAX_METADATA_BYTES, options, call),
        fetchText(`${candidate}/metadata/images.json`, MAX_METADATA_BYTES, options, call),
      ]);
      const status = await fetchStatus(candidate, options, call);
      return { composeinfo, images, location: candidate, ...(status === undefined ? {} : { status }) };
    } catch (error) {
      if (codeOf(error) !== "not-found") throw error;
      missing ??= error;
    }
  }
  throw new SlipwayError("not-found", "there is no compose at that place", {
    subject: location,
    tried: candidates.map((candidate) => `${candidate}/metadata/composeinfo.json`).join(", "),
    next: "Give the URL or the path of the compose/ directory. Composes are deleted after some weeks.",
    cause: missing,
  });
}

async function fetchStatus(location: string, options: ByteSourceOptions, call: CallContext) {
  try {
    const text = await fetchText(`${location.replace(/\/compose$/, "")}/STATUS`, KiB, options, call);
    return text.trim();
  } catch (error) {
    if (codeOf(error) === "cancelled") throw error;
    // It is a courtesy of the server: the metadata decides.
    return undefined;
  }
}

async function fetchText(url: string, limit: number, options: ByteSourceOptions, call: CallContext): Promise<string> {
  const source = openBytes(url, options);
  try {
    const { bytes } = await source.stat(call);
    if (bytes > limit) {
      throw new SlipwayError("invalid", `is ${bytes} bytes, the limit is ${limit}`, {
        subject: url,
        next: "Check that this is the compose/ directory of a compose.",
      });
    }
    const data = await source.read(0, bytes, call);
    return new TextDecoder("utf-8", { fatal: true }).decode(data);
  } catch (error) {
    if (error instanceof TypeError) {
      throw new SlipwayError("invalid", "is not UTF-8 text", { subject: url, cause: error });
    }
    throw error;
  } finally {
    await source.close();
  }
}
