/** Operations on the account and its containers, listing of blobs included. */
import {
  type BlobRequest,
  decodeMarker,
  encodeMarker,
  existingContainer,
  metadataHeaders,
  metadataOf,
  pageSizeOf,
} from "./blob-request.ts";
import type { Blob, Container } from "./blob-store.ts";
import { leaseState } from "./conditions.ts";
import type { Answer } from "./exchange.ts";
import { refusals, StorageError } from "./storage-error.ts";
import { element, escapeXml, textElement, type XmlChild, xmlDocument } from "./xml.ts";

export function createContainer({ exchange, store, container }: BlobRequest): Answer {
  if (!/^(\$root|\$logs|[a-z0-9](?:-?[a-z0-9]){2,62})$/.test(container) || container.length > 63) {
    throw new StorageError(400, "InvalidResourceName", "The specifed resource name contains invalid characters.");
  }
  if (store.containers.has(container)) {
    throw new StorageError(409, "ContainerAlreadyExists", "The specified container already exists.");
  }
  return { status: 201, headers: stamp(store.createContainer(container, metadataOf(exchange), exchange.now)) };
}

export function getContainerProperties(request: BlobRequest): Answer {
  const container = existingContainer(request);
  return {
    status: 200,
    headers: {
      ...stamp(container),
      ...metadataHeaders(container.metadata),
      "x-ms-lease-status": "unlocked",
      "x-ms-lease-state": "available",
      "x-ms-has-immutability-policy": "false",
      "x-ms-has-legal-hold": "false",
    },
  };
}

export function setContainerMetadata(request: BlobRequest): Answer {
  const container = existingContainer(request);
  container.metadata = metadataOf(request.exchange);
  container.modified = request.exchange.now;
  container.etag = request.store.nextEtag();
  return { status: 200, headers: stamp(container) };
}

export async function deleteContainer(request: BlobRequest): Promise<Answer> {
  const container = existingContainer(request);
  request.store.containers.delete(container.name);
  for (const blob of container.blobs.values()) await blob.data.release();
  return { status: 202 };
}

export function getAccountInformation(): Answer {
  return {
    status: 200,
    headers: { "x-ms-sku-name": "Standard_LRS", "x-ms-account-kind": "StorageV2", "x-ms-is-hns-enabled": "false" },
  };
}

export function listContainers({ exchange, store, account }: BlobRequest): Answer {
  const prefix = exchange.query.get("prefix") ?? "";
  const { page, next } = pageOf(
    [...store.containers.keys()],
    prefix,
    exchange.query.get("marker"),
    pageSizeOf(exchange),
  );
  const containers = page.map((name) => {
    const container = store.containers.get(name)!;
    return element(
      "Container",
      textElement("Name", name),
      element(
        "Properties",
        ...stampElements(container),
        textElement("LeaseStatus", "unlocked"),
        textElement("LeaseState", "available"),
      ),
      metadataElement(container.metadata),
    );
  });
  return listing({ exchange, account, attributes: "", prefix, next, entries: element("Containers", ...containers) });
}

export function listBlobs(request: BlobRequest): Answer {
  const { exchange, account } = request;
  if (exchange.query.has("delimiter")) throw refusals.unknownOperation("List Blobs with a delimiter");
  const container = existingContainer(request);
  const prefix = exchange.query.get("prefix") ?? "";
  const include = new Set((exchange.query.get("include") ?? "").split(","));
  const { page, next } = pageOf(
    [...container.blobs.keys()],
    prefix,
    exchange.query.get("marker"),
    pageSizeOf(exchange),
  );
  const blobs = page.map((name) => blobElement(container.blobs.get(name)!, include, exchange.now));
  const attributes = ` ContainerName="${escapeXml(container.name)}"`;
  return listing({ exchange, account, attributes, prefix, next, entries: element("Blobs", ...blobs) });
}

/** Names from the marker on, in order of their bytes. */
function pageOf(
  names: string[],
  prefix: string,
  marker: string | null,
  size: number,
): { page: string[]; next: string | undefined } {
  const from = decodeMarker(marker);
  const wanted = names.filter((name) => name.startsWith(prefix) && name >= from).sort();
  return { page: wanted.slice(0, size), next: wanted[size] };
}

interface Listing {
  readonly exchange: BlobRequest["exchange"];
  readonly account: string;
  readonly attributes: string;
  readonly prefix: string;
  readonly next: string | undefined;
  readonly entries: string;
}

function listing({ exchange, account, attributes, prefix, next, entries }: Listing): Answer {
  const { query } = exchange;
  const content = [
    textElement("Prefix", prefix === "" ? undefined : prefix),
    textElement("Marker", query.get("marker") ?? undefined),
    textElement("MaxResults", query.get("maxresults") ?? undefined),
    entries,
    next === undefined ? "<NextMarker />" : textElement("NextMarker", encodeMarker(next)),
  ];
  const endpoint = escapeXml(`${exchange.origin}/${account}/`);
  const root = `<EnumerationResults ServiceEndpoint="${endpoint}"${attributes}>${content.join("")}</EnumerationResults>`;
  return { status: 200, headers: { "content-type": "application/xml" }, body: xmlDocument(root) };
}

function blobElement(blob: Blob, include: ReadonlySet<string>, now: number): string {
  const lease = leaseState(blob, now);
  const properties = element(
    "Properties",
    textElement("Creation-Time", new Date(blob.created).toUTCString()),
    ...stampElements(blob),
    textElement("Content-Length", blob.data.bytes),
    textElement("Content-Type", blob.http.contentType ?? ""),
    textElement("Content-Encoding", blob.http.contentEncoding ?? ""),
    textElement("Content-Language", blob.http.contentLanguage ?? ""),
    textElement("Content-MD5", blob.http.contentMd5 ?? ""),
    textElement("Cache-Control", blob.http.cacheControl ?? ""),
    textElement("Content-Disposition", blob.http.contentDisposition ?? ""),
    textElement("x-ms-blob-sequence-number", blob.sequence),
    textElement("BlobType", "PageBlob"),
    textElement("LeaseStatus", lease.status),
    textElement("LeaseState", lease.state),
    textElement("ServerEncrypted", true),
    textElement("TagCount", blob.tags.length === 0 ? undefined : blob.tags.length),
  );
  return element(
    "Blob",
    textElement("Name", blob.name),
    properties,
    include.has("metadata") ? metadataElement(blob.metadata) : undefined,
    include.has("tags") && blob.tags.length > 0 ? tagsElement(blob.tags) : undefined,
  );
}

export function tagsElement(tags: readonly [string, string][]): string {
  const set = tags.map(([key, value]) => element("Tag", textElement("Key", key), textElement("Value", value)));
  return element("Tags", element("TagSet", ...set));
}

function metadataElement(metadata: readonly [string, string][]): XmlChild {
  return element("Metadata", ...metadata.map(([key, value]) => textElement(key, value)));
}

function stamp(thing: Container): Record<string, string> {
  return { etag: thing.etag, "last-modified": new Date(thing.modified).toUTCString() };
}

function stampElements(thing: Container | Blob): XmlChild[] {
  const modified = textElement("Last-Modified", new Date(thing.modified).toUTCString());
  return [modified, textElement("Etag", thing.etag.replaceAll('"', ""))];
}
