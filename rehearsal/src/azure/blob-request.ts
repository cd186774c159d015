/** What blob and container operations share: where a request points, and how metadata, tags and ranges are written. */
import type { Blob, BlobStore, Container } from "./blob-store.ts";
import { type Exchange, header, wholeNumber } from "./exchange.ts";
import type { PageRange } from "./page-data.ts";
import { refusals, StorageError } from "./storage-error.ts";
import { unescapeXml } from "./xml.ts";

export interface BlobRequest {
  readonly exchange: Exchange;
  readonly store: BlobStore;
  readonly account: string;
  /** Empty for account operations. */
  readonly container: string;
  /** Empty for container operations. */
  readonly blob: string;
}

export const PAGE_BYTES = 512;
/** @see https://learn.microsoft.com/rest/api/storageservices/put-page */
export const MOST_PAGE_WRITE_BYTES = 4 * 1024 * 1024;
/** @see https://learn.microsoft.com/rest/api/storageservices/setting-and-retrieving-properties-and-metadata-for-blob-resources */
const MOST_METADATA_BYTES = 8 * 1024;

export function existingContainer({ store, container }: BlobRequest): Container {
  const found = store.containers.get(container);
  if (found === undefined) throw refusals.containerMissing();
  return found;
}

/** Metadata of a request, with the names in the client's own capitals. */
export function metadataOf(exchange: Exchange): [string, string][] {
  const metadata = new Map<string, string>();
  for (let at = 0; at + 1 < exchange.rawHeaders.length; at += 2) {
    const name = exchange.rawHeaders[at]!;
    if (!name.toLowerCase().startsWith("x-ms-meta-")) continue;
    const key = name.slice("x-ms-meta-".length);
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(key)) {
      const message = "The metadata specified is invalid. It has characters that are not permitted.";
      throw new StorageError(400, "InvalidMetadata", message);
    }
    const value = exchange.rawHeaders[at + 1]!;
    const known = metadata.get(key);
    metadata.set(key, known === undefined ? value : `${known},${value}`);
  }
  const bytes = [...metadata].reduce((sum, [key, value]) => sum + key.length + value.length, 0);
  if (bytes > MOST_METADATA_BYTES) {
    throw new StorageError(
      400,
      "MetadataTooLarge",
      "The metadata specified exceeds the maximum permissible limit (8KB).",
    );
  }
  return [...metadata];
}

export function metadataHeaders(metadata: readonly [string, string][]): Record<string, string> {
  return Object.fromEntries(metadata.map(([key, value]) => [`x-ms-meta-${key}`, value]));
}

/** Tags from the `x-ms-tags` header: `a=b&c=d`, percent-encoded. */
export function tagsFromHeader(exchange: Exchange): [string, string][] {
  return checkedTags([...new URLSearchParams(header(exchange, "x-ms-tags") ?? "")]);
}

/** Tags from the body of Set Blob Tags. */
export function tagsFromXml(xml: string): [string, string][] {
  const tags = xml.matchAll(/<Tag>\s*<Key>([^<]*)<\/Key>\s*<Value(?:\s*\/>|>([^<]*)<\/Value>)\s*<\/Tag>/g);
  return checkedTags([...tags].map(([, key, value]) => [unescapeXml(key ?? ""), unescapeXml(value ?? "")]));
}

function checkedTags(tags: [string, string][]): [string, string][] {
  const allowed = /^[A-Za-z0-9 +\-./:=_]*$/;
  if (tags.length > 10 || tags.some(([key, value]) => key.length > 128 || value.length > 256)) {
    throw new StorageError(400, "TagsTooLarge", "The tags specified exceed the maximum permissible limit.");
  }
  if (tags.some(([key, value]) => key === "" || !allowed.test(key) || !allowed.test(value))) {
    const message = "The tags specified are invalid. It contains characters that are not permitted.";
    throw new StorageError(400, "InvalidTag", message);
  }
  if (new Set(tags.map(([key]) => key)).size !== tags.length) {
    throw new StorageError(400, "DuplicateTagNames", "The tags specified contain duplicate names.");
  }
  return tags;
}

/** `bytes=a-b` or `bytes=a-` from `x-ms-range`, else `Range`. Not yet held against the blob's size. */
export function rangeOf(exchange: Exchange): { start: number; end: number | undefined } | undefined {
  const text = header(exchange, "x-ms-range") ?? header(exchange, "range");
  if (text === undefined) return undefined;
  const parts = /^bytes=(\d+)-(\d*)$/.exec(text);
  const start = wholeNumber(parts?.[1]);
  const last = wholeNumber(parts?.[2] === "" ? undefined : parts?.[2]);
  if (start === undefined || (last === undefined && parts?.[2] !== "")) throw refusals.headerValue("x-ms-range", text);
  if (last !== undefined && last < start) throw refusals.headerValue("x-ms-range", text);
  return { start, end: last === undefined ? undefined : last + 1 };
}

/** The range of a page write: given, whole pages, inside the blob. */
export function pageRangeOf(exchange: Exchange, blobBytes: number): PageRange {
  const range = rangeOf(exchange);
  if (range === undefined) throw refusals.missingHeader("x-ms-range");
  const { start, end } = range;
  if (end === undefined || start % PAGE_BYTES !== 0 || end % PAGE_BYTES !== 0 || end > blobBytes)
    throw refusals.pageRange();
  return { start, end };
}

/** The service's `marker` is opaque; ours is the name to go on from, in base64url. */
export function encodeMarker(name: string): string {
  return Buffer.from(name).toString("base64url");
}

export function decodeMarker(marker: string | null): string {
  return marker === null ? "" : Buffer.from(marker, "base64url").toString();
}

export function pageSizeOf(exchange: Exchange): number {
  const text = exchange.query.get("maxresults");
  if (text === null) return 5000;
  const size = wholeNumber(text);
  if (size === undefined || size === 0) {
    throw new StorageError(
      400,
      "OutOfRangeQueryParameterValue",
      "One of the query parameters specified in the request URI is outside the permissible range.",
      { QueryParameterName: "maxresults", QueryParameterValue: text },
    );
  }
  return Math.min(size, 5000);
}

export function existingBlob(request: BlobRequest): Blob {
  if (request.exchange.query.has("snapshot")) throw refusals.unknownOperation("reading a snapshot");
  const blob = existingContainer(request).blobs.get(request.blob);
  if (blob === undefined) throw refusals.blobMissing();
  return blob;
}

export function stamp(blob: Blob): Record<string, string> {
  return { etag: blob.etag, "last-modified": new Date(blob.modified).toUTCString() };
}
