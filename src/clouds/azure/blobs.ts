/**
 * Staged disks: page blobs of the target's container, each marked as ours, and fenced so that two writers cannot mix.
 *
 * A blob is created with a random sequence number, and every page write names it: once somebody has made the blob anew,
 * a writer that knew the old one is refused. A half-made blob of ours is continued only by the upload whose journal
 * names its number; any other starts it again from nothing.
 */
import { randomInt } from "node:crypto";
import type { PageBlobClient } from "@azure/storage-blob";
import type { CallContext } from "../../lib/call.ts";
import { codeOf } from "../../lib/errors.ts";
import type { ImageKey, Region, StagedDisk } from "../../model.ts";
import type { CloudResource } from "../cloud.ts";
import { CloudError } from "../errors.ts";
import { blobName, META, regionName } from "./names.ts";
import type { Ask, AzureSession } from "./session.ts";

/** The footer is not part of the disk a VM sees. */
export const VHD_FOOTER_BYTES = 512;

export const BLOB_ACTIONS = {
  read: "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read",
  write: "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write",
  delete: "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/delete",
  add: "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/add/action",
} as const;

export interface BlobState {
  readonly url: string;
  readonly etag: string;
  readonly bytes: number;
  readonly isPageBlob: boolean;
  /** Of ours: undefined for anybody else's blob. */
  readonly key: ImageKey | undefined;
  readonly upload: string | undefined;
  readonly complete: string | undefined;
}

/** Capitals of metadata names are lost on the way through some proxies and emulators. */
function meta(metadata: Readonly<Record<string, string>> | undefined, name: string): string | undefined {
  for (const [found, value] of Object.entries(metadata ?? {})) if (found.toLowerCase() === name) return value;
  return undefined;
}

export async function blobClient(session: AzureSession, key: ImageKey): Promise<PageBlobClient> {
  return (await session.container()).getPageBlobClient(blobName(key));
}

export function blobAsk(session: AzureSession, operation: string, permission: string, subject: string): Ask {
  return { operation, permission, subject, region: regionName(session.options.location) };
}

/** The blob of a staged disk as it is now; undefined when there is none. */
export async function lookAtBlob(
  session: AzureSession,
  key: ImageKey,
  call: CallContext,
): Promise<BlobState | undefined> {
  const client = await blobClient(session, key);
  try {
    const found = await session.ask(
      blobAsk(session, "Get Blob Properties", BLOB_ACTIONS.read, blobName(key)),
      call,
      (abortSignal) => client.getProperties({ abortSignal }),
    );
    const ours = meta(found.metadata, META.owner) === session.owner;
    return {
      url: client.url,
      etag: found.etag ?? "",
      bytes: found.contentLength ?? 0,
      isPageBlob: found.blobType === "PageBlob",
      key: ours ? (meta(found.metadata, META.key) as ImageKey | undefined) : undefined,
      upload: meta(found.metadata, META.upload),
      complete: meta(found.metadata, META.complete),
    };
  } catch (error) {
    if (codeOf(error) === "not-found" && !isMissingContainer(error)) return undefined;
    throw error;
  }
}

function isMissingContainer(error: unknown): boolean {
  return error instanceof Error && error.cause instanceof Error && error.cause.name === "ContainerNotFound";
}

/** Numbers are kept exact by every JSON and XML on the way: 48 bits. */
export function newUploadId(): string {
  return String(randomInt(1, 2 ** 48 - 1));
}

/**
 * Makes the blob, empty, for one upload. `replacing` is the half-made blob of ours that it takes the place of.
 * @throws CloudError `conflict` when somebody was faster
 */
export async function createBlob(
  session: AzureSession,
  key: ImageKey,
  bytes: number,
  upload: string,
  replacing: BlobState | undefined,
  call: CallContext,
): Promise<void> {
  const client = await blobClient(session, key);
  await session.ask(blobAsk(session, "Put Blob", BLOB_ACTIONS.write, blobName(key)), call, (abortSignal) =>
    client.create(bytes, {
      abortSignal,
      blobSequenceNumber: Number(upload),
      blobHTTPHeaders: { blobContentType: "application/octet-stream" },
      metadata: { [META.key]: key, [META.owner]: session.owner, [META.upload]: upload },
      conditions: replacing ? { ifMatch: replacing.etag } : { ifNoneMatch: "*" },
    }),
  );
}

/** Marks the blob as whole. @param digest over everything that was sent */
export async function completeBlob(
  session: AzureSession,
  key: ImageKey,
  upload: string,
  digest: string,
  call: CallContext,
): Promise<void> {
  const now = await lookAtBlob(session, key, call);
  if (now?.key !== key || now.upload !== upload) throw taken(session, key);
  const client = await blobClient(session, key);
  // No Content-MD5: blocks come in any order, so nobody has hashed the file from its first byte to its last, and a
  // wrong one makes azcopy refuse a good disk.
  await session.ask(blobAsk(session, "Set Blob Metadata", BLOB_ACTIONS.write, blobName(key)), call, (abortSignal) =>
    client.setMetadata(
      { [META.key]: key, [META.owner]: session.owner, [META.upload]: upload, [META.complete]: digest },
      { abortSignal, conditions: { ifMatch: now.etag } },
    ),
  );
}

export function taken(session: AzureSession, key: ImageKey): CloudError {
  return new CloudError("conflict", "The half-made blob was replaced or removed while it was being filled.", {
    cloud: "azure",
    operation: "Put Page",
    region: regionName(session.options.location),
    subject: blobName(key),
    next: "Another process works on the same disk, or somebody cleaned up. Look which run has it, then retry the step.",
  });
}

/**
 * Deletes a staged disk of ours; what is gone already is a success.
 * @param upload only if it is this upload's
 */
export async function deleteBlob(
  session: AzureSession,
  key: ImageKey,
  call: CallContext,
  upload?: string,
): Promise<void> {
  const found = await lookAtBlob(session, key, call);
  if (!found) return;
  if (found.key !== key) {
    throw new CloudError("conflict", "The blob is not one of ours and is left alone.", {
      cloud: "azure",
      operation: "Delete Blob",
      subject: found.url,
      next: "Remove it by hand if it is not needed.",
    });
  }
  if (upload !== undefined && found.upload !== upload) return;
  const client = await blobClient(session, key);
  try {
    await session.ask(blobAsk(session, "Delete Blob", BLOB_ACTIONS.delete, blobName(key)), call, (abortSignal) =>
      client.delete({ abortSignal, deleteSnapshots: "include", conditions: { ifMatch: found.etag } }),
    );
  } catch (error) {
    if (codeOf(error) !== "not-found") throw error;
  }
}

export function stagedDisk(session: AzureSession, key: ImageKey, blob: BlobState): StagedDisk {
  return {
    key,
    region: regionName(session.options.location) as Region,
    id: blob.url,
    diskBytes: blob.bytes - VHD_FOOTER_BYTES,
  };
}

/** All blobs of ours, half-made ones included. Metadata comes with the listing, so one request shows thousands. */
export async function* listBlobs(session: AzureSession, call: CallContext): AsyncGenerator<CloudResource> {
  const container = await session.container();
  let marker: string | undefined;
  do {
    const page = await session.ask(
      blobAsk(session, "List Blobs", BLOB_ACTIONS.read, session.options.container),
      call,
      async (abortSignal) => {
        const pages = container.listBlobsFlat({ includeMetadata: true, abortSignal });
        const next = await pages.byPage(marker ? { continuationToken: marker } : {}).next();
        return next.done ? undefined : next.value;
      },
    );
    for (const blob of page?.segment.blobItems ?? []) {
      if (meta(blob.metadata, META.owner) !== session.owner) continue;
      const key = meta(blob.metadata, META.key) as ImageKey | undefined;
      yield {
        kind: "staged-disk",
        ...(key ? { key } : {}),
        region: regionName(session.options.location),
        id: container.getPageBlobClient(blob.name).url,
        name: blob.name,
        complete: meta(blob.metadata, META.complete) !== undefined,
        ...(blob.properties.createdOn ? { createdAt: blob.properties.createdOn.toISOString() } : {}),
        tags: { ...blob.metadata },
      };
    }
    marker = page?.continuationToken || undefined;
  } while (marker);
}
