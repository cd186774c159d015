/** Operations on one page blob. */
import { createHash } from "node:crypto";
import {
  type BlobRequest,
  existingBlob,
  existingContainer,
  MOST_PAGE_WRITE_BYTES,
  metadataHeaders,
  metadataOf,
  PAGE_BYTES,
  pageRangeOf,
  pageSizeOf,
  rangeOf,
  stamp,
  tagsFromHeader,
  tagsFromXml,
} from "./blob-request.ts";
import type { Blob, BlobHttpHeaders } from "./blob-store.ts";
import { checkLease, checkReadConditions, checkWriteConditions, leaseState } from "./conditions.ts";
import { tagsElement } from "./container-operations.ts";
import { crc64 } from "./crc64.ts";
import { type Answer, type Exchange, header, wholeNumber } from "./exchange.ts";
import type { PageData } from "./page-data.ts";
import { refusals, StorageError } from "./storage-error.ts";
import { decodeStructured, encodeStructured } from "./structured-body.ts";
import { element, textElement, xmlDocument } from "./xml.ts";

/** @see https://learn.microsoft.com/rest/api/storageservices/put-blob (8 TiB) */
const MOST_BLOB_BYTES = 8 * 1024 ** 4;

export async function putBlob(request: BlobRequest): Promise<Answer> {
  const { exchange, store } = request;
  const type = header(exchange, "x-ms-blob-type");
  if (type === undefined) throw refusals.missingHeader("x-ms-blob-type");
  if (type !== "PageBlob") throw refusals.unknownOperation(`Put Blob of type ${type}`);
  const lengthText = header(exchange, "x-ms-blob-content-length");
  if (lengthText === undefined) throw refusals.missingHeader("x-ms-blob-content-length");
  const bytes = wholeNumber(lengthText);
  if (bytes === undefined || bytes % PAGE_BYTES !== 0 || bytes > MOST_BLOB_BYTES) {
    throw refusals.headerValue("x-ms-blob-content-length", lengthText);
  }
  if (exchange.body.length > 0) throw refusals.headerValue("Content-Length", String(exchange.body.length));
  const metadata = metadataOf(exchange);
  const tags = tagsFromHeader(exchange);

  const container = existingContainer(request);
  const data = await store.emptyData(bytes);
  // From looking at what is there to replacing it nothing may wait: "only if there is none" has one winner.
  const old = container.blobs.get(request.blob);
  try {
    checkWriteConditions(exchange, old);
    if (old !== undefined) checkLease(exchange, old, "write");
  } catch (error) {
    await data.release();
    throw error;
  }
  const blob = store.createBlob(container, request.blob, data, exchange.now);
  blob.metadata = metadata;
  blob.tags = tags;
  blob.http = httpHeadersOf(exchange);
  blob.http.contentType ??= header(exchange, "content-type") ?? "application/octet-stream";
  blob.sequence = wholeNumber(header(exchange, "x-ms-blob-sequence-number")) ?? 0;
  return { status: 201, headers: { ...stamp(blob), "x-ms-request-server-encrypted": "true" } };
}

export async function putPage(request: BlobRequest): Promise<Answer> {
  const { exchange, store } = request;
  const kind = header(exchange, "x-ms-page-write")?.toLowerCase();
  if (kind === undefined) throw refusals.missingHeader("x-ms-page-write");
  if (kind !== "update" && kind !== "clear") throw refusals.headerValue("x-ms-page-write", kind);
  if (header(exchange, "x-ms-copy-source") !== undefined) throw refusals.unknownOperation("Put Page From URL");
  const blob = writableBlob(request);
  checkSequence(exchange, blob);
  const { start, end } = pageRangeOf(exchange, blob.data.bytes);
  const content = kind === "update" ? pageContent(exchange) : undefined;
  if (content !== undefined && content.length !== end - start) throw refusals.pageRange();
  if (content !== undefined && content.length > MOST_PAGE_WRITE_BYTES) throw refusals.tooLarge(MOST_PAGE_WRITE_BYTES);
  if (content === undefined && exchange.body.length > 0) {
    throw refusals.headerValue("Content-Length", String(exchange.body.length));
  }

  store.touch(blob, exchange.now);
  try {
    if (content === undefined) await blob.data.clear(start, end - start);
    else await blob.data.write(start, content);
  } catch (error) {
    // Deleted while the pages were on their way to the file.
    if (store.find(request.container, request.blob) !== blob) throw refusals.blobMissing();
    throw error;
  }
  store.record({ container: request.container, blob: request.blob, kind, offset: start, bytes: end - start });

  const crcWanted = header(exchange, "x-ms-content-crc64") !== undefined;
  return {
    status: 201,
    headers: {
      ...stamp(blob),
      "x-ms-blob-sequence-number": blob.sequence,
      "x-ms-request-server-encrypted": "true",
      "content-md5": header(exchange, "content-md5"),
      "x-ms-content-crc64": crcWanted && content !== undefined ? crc64(content).toString("base64") : undefined,
      "x-ms-structured-body": header(exchange, "x-ms-structured-body"),
    },
  };
}

/** The bytes of a page write, after whatever digest came with them was found right. */
function pageContent(exchange: Exchange): Buffer {
  let content = exchange.body;
  if (header(exchange, "x-ms-structured-body") !== undefined) {
    const decoded = decodeStructured(content);
    if (decoded === "layout")
      throw new StorageError(400, "InvalidStructuredMessage", "The structured message is not well formed.");
    if (decoded === "crc") throw crcMismatch("", "");
    if (String(decoded.length) !== header(exchange, "x-ms-structured-content-length")) {
      throw refusals.headerValue("x-ms-structured-content-length", header(exchange, "x-ms-structured-content-length"));
    }
    content = decoded;
  }
  const md5 = header(exchange, "content-md5");
  const crc = header(exchange, "x-ms-content-crc64");
  if (md5 !== undefined) {
    const right = md5Of(content);
    if (md5 !== right) {
      throw new StorageError(
        400,
        "Md5Mismatch",
        "The MD5 value specified in the request did not match with the MD5 value calculated by the server.",
        { UserSpecifiedMd5: md5, ServerCalculatedMd5: right },
      );
    }
  }
  if (crc !== undefined) {
    const right = crc64(content).toString("base64");
    if (crc !== right) throw crcMismatch(crc, right);
  }
  return content;
}

function crcMismatch(given: string, right: string): StorageError {
  return new StorageError(
    400,
    "Crc64Mismatch",
    "The CRC64 value specified in the request did not match with the CRC64 value calculated by the server.",
    { UserSpecifiedCrc64: given, ServerCalculatedCrc64: right },
  );
}

function checkSequence(exchange: Exchange, blob: Blob): void {
  const limit = (name: string): number | undefined => wholeNumber(header(exchange, `x-ms-if-sequence-number-${name}`));
  const [le, lt, eq] = [limit("le"), limit("lt"), limit("eq")];
  const met =
    (le === undefined || blob.sequence <= le) &&
    (lt === undefined || blob.sequence < lt) &&
    (eq === undefined || blob.sequence === eq);
  if (!met) {
    throw new StorageError(
      412,
      "SequenceNumberConditionNotMet",
      "The sequence number condition specified was not met.",
    );
  }
}

export function getPageRanges(request: BlobRequest): Answer {
  const { exchange } = request;
  if (exchange.query.has("prevsnapshot")) throw refusals.unknownOperation("Get Page Ranges against a snapshot");
  const blob = readableBlob(request);
  const window = rangeOf(exchange) ?? { start: 0, end: undefined };
  const end = Math.min(window.end ?? blob.data.bytes, blob.data.bytes);
  if (window.start >= blob.data.bytes && blob.data.bytes > 0) throw refusals.range(blob.data.bytes);
  const found = blob.data
    .ranges()
    .map((range) => ({ start: Math.max(range.start, window.start), end: Math.min(range.end, end) }))
    .filter((range) => range.start < range.end);

  const size = exchange.query.has("maxresults") ? pageSizeOf(exchange) : found.length;
  const from = wholeNumber(exchange.query.get("marker") ?? undefined) ?? 0;
  const page = found.slice(from, from + size);
  const ranges = page.map((range) =>
    element("PageRange", textElement("Start", range.start), textElement("End", range.end - 1)),
  );
  const next = from + size < found.length ? textElement("NextMarker", from + size) : undefined;
  return {
    status: 200,
    headers: { ...stamp(blob), "content-type": "application/xml", "x-ms-blob-content-length": blob.data.bytes },
    body: xmlDocument(element("PageList", ...ranges, next)),
  };
}

export async function getBlob(request: BlobRequest): Promise<Answer> {
  const { exchange } = request;
  const blob = readableBlob(request);
  const { bytes } = blob.data;
  const asked = rangeOf(exchange);
  if (asked !== undefined && asked.start >= bytes) throw refusals.range(bytes);
  const start = asked?.start ?? 0;
  const end = Math.min(asked?.end ?? bytes, bytes);
  const length = end - start;
  const headers: Record<string, string | number | undefined> = {
    ...propertyHeaders(blob, exchange.now),
    "content-length": length,
    ...(asked === undefined ? {} : { "content-range": `bytes ${start}-${end - 1}/${bytes}` }),
    "content-md5": asked === undefined ? blob.http.contentMd5 : undefined,
    "x-ms-blob-content-md5": asked === undefined ? undefined : blob.http.contentMd5,
  };
  const status = asked === undefined ? 200 : 206;
  const structured = header(exchange, "x-ms-structured-body");
  const wantsMd5 = header(exchange, "x-ms-range-get-content-md5") === "true";
  const wantsCrc = header(exchange, "x-ms-range-get-content-crc64") === "true";
  if (structured === undefined && !wantsMd5 && !wantsCrc)
    return { status, headers, body: pieces(blob.data.share(), start, end) };

  if (length > MOST_PAGE_WRITE_BYTES) {
    if (structured !== undefined) throw refusals.unknownOperation("Get Blob with a structured body over 4 MiB");
    throw refusals.headerValue("x-ms-range-get-content-md5", "true");
  }
  const content = await blob.data.read(start, length);
  if (wantsMd5) headers["content-md5"] = md5Of(content);
  if (wantsCrc) headers["x-ms-content-crc64"] = crc64(content).toString("base64");
  if (structured === undefined) return { status, headers, body: content };
  const body = encodeStructured(content);
  headers["content-length"] = body.length;
  headers["x-ms-structured-body"] = structured;
  headers["x-ms-structured-content-length"] = length;
  return { status, headers, body };
}

/** Reads piece by piece, so that a whole disk is never in memory twice. Owns and releases the data. */
async function* pieces(data: PageData, start: number, end: number): AsyncGenerator<Uint8Array> {
  try {
    for (let at = start; at < end; at += 1024 * 1024) yield await data.read(at, Math.min(1024 * 1024, end - at));
  } finally {
    await data.release();
  }
}

export function getBlobProperties(request: BlobRequest): Answer {
  const blob = readableBlob(request);
  const headers = propertyHeaders(blob, request.exchange.now);
  return {
    status: 200,
    headers: { ...headers, "content-length": blob.data.bytes, "content-md5": blob.http.contentMd5 },
  };
}

export function setBlobProperties(request: BlobRequest): Answer {
  const { exchange, store } = request;
  if (header(exchange, "x-ms-blob-content-length") !== undefined)
    throw refusals.unknownOperation("Set Blob Properties (resize)");
  if (header(exchange, "x-ms-sequence-number-action") !== undefined) {
    throw refusals.unknownOperation("Set Blob Properties (sequence number)");
  }
  const blob = writableBlob(request);
  blob.http = httpHeadersOf(exchange);
  store.touch(blob, exchange.now);
  return { status: 200, headers: { ...stamp(blob), "x-ms-blob-sequence-number": blob.sequence } };
}

export function setBlobMetadata(request: BlobRequest): Answer {
  const blob = writableBlob(request);
  blob.metadata = metadataOf(request.exchange);
  request.store.touch(blob, request.exchange.now);
  return { status: 200, headers: { ...stamp(blob), "x-ms-request-server-encrypted": "true" } };
}

export function setBlobTags(request: BlobRequest): Answer {
  const blob = existingBlob(request);
  checkLease(request.exchange, blob, "write");
  blob.tags = tagsFromXml(request.exchange.body.toString());
  return { status: 204 };
}

export function getBlobTags(request: BlobRequest): Answer {
  const blob = readableBlob(request);
  return { status: 200, headers: { "content-type": "application/xml" }, body: xmlDocument(tagsElement(blob.tags)) };
}

export async function deleteBlob(request: BlobRequest): Promise<Answer> {
  const blob = writableBlob(request);
  await request.store.deleteBlob(existingContainer(request), blob);
  return { status: 202, headers: { "x-ms-delete-type-permanent": "true" } };
}

function readableBlob(request: BlobRequest): Blob {
  const blob = existingBlob(request);
  checkLease(request.exchange, blob, "read");
  checkReadConditions(request.exchange, blob);
  return blob;
}

function writableBlob(request: BlobRequest): Blob {
  const blob = existingBlob(request);
  checkWriteConditions(request.exchange, blob);
  checkLease(request.exchange, blob, "write");
  return blob;
}

function httpHeadersOf(exchange: Exchange): BlobHttpHeaders {
  const headers: BlobHttpHeaders = {};
  const names = {
    contentType: "x-ms-blob-content-type",
    contentMd5: "x-ms-blob-content-md5",
    contentEncoding: "x-ms-blob-content-encoding",
    contentLanguage: "x-ms-blob-content-language",
    contentDisposition: "x-ms-blob-content-disposition",
    cacheControl: "x-ms-blob-cache-control",
  } as const;
  for (const key of Object.keys(names) as (keyof typeof names)[]) {
    const value = header(exchange, names[key]);
    if (value !== undefined) headers[key] = value;
  }
  if (headers.contentMd5 !== undefined && Buffer.from(headers.contentMd5, "base64").length !== 16) {
    throw new StorageError(
      400,
      "InvalidMd5",
      "The MD5 value specified in the request is invalid. MD5 value must be 128 bits and base64-encoded.",
    );
  }
  return headers;
}

function propertyHeaders(blob: Blob, now: number): Record<string, string | number | undefined> {
  const lease = leaseState(blob, now);
  return {
    ...stamp(blob),
    ...metadataHeaders(blob.metadata),
    "content-type": blob.http.contentType,
    "content-encoding": blob.http.contentEncoding,
    "content-language": blob.http.contentLanguage,
    "content-disposition": blob.http.contentDisposition,
    "cache-control": blob.http.cacheControl,
    "accept-ranges": "bytes",
    "x-ms-blob-type": "PageBlob",
    "x-ms-blob-sequence-number": blob.sequence,
    "x-ms-creation-time": new Date(blob.created).toUTCString(),
    "x-ms-lease-status": lease.status,
    "x-ms-lease-state": lease.state,
    "x-ms-lease-duration": lease.duration,
    "x-ms-server-encrypted": "true",
    "x-ms-tag-count": blob.tags.length === 0 ? undefined : blob.tags.length,
  };
}

function md5Of(content: Buffer): string {
  return createHash("md5").update(content).digest("base64");
}
