/** Objects of the target's bucket: what a disk is made of on its way, and the archive it becomes. */
import { createHash, randomUUID } from "node:crypto";
import type { CallContext } from "../../lib/call.ts";
import { codeOf } from "../../lib/errors.ts";
import type { ImageKey, StagedDisk } from "../../model.ts";
import { CloudError } from "../errors.ts";
import { record } from "./errors.ts";
import type { GcpSession } from "./session.ts";

export interface BucketObject {
  readonly name: string;
  readonly bytes: number;
  readonly crc32c: number;
  readonly created: string | undefined;
  readonly metadata: Readonly<Record<string, string>>;
}

/** Metadata of a finished archive. It is composed as a whole or not at all: what is there is complete. */
export const META = {
  key: "slipway-key",
  owner: "slipway-owner",
  diskBytes: "slipway-disk-bytes",
  packed: "slipway-packed-sha256",
} as const;

export const archiveName = (session: GcpSession, key: ImageKey) => `${session.owner}/${key}.tar.gz`;
/** What lies below it is of uploads that did not come to their end. */
export const partsPrefix = (session: GcpSession, key: ImageKey) => `${session.owner}/${key}.parts/`;

export const uriOf = (session: GcpSession, name: string) => `gs://${session.options.bucket}/${name}`;

/** @returns undefined when it is not there. A bucket that is not there is an error of its own. */
export async function lookAtObject(
  session: GcpSession,
  name: string,
  call: CallContext,
): Promise<BucketObject | undefined> {
  try {
    const ask = { operation: "objects.get", subject: uriOf(session, name) };
    return objectOf(await session.ask(ask, { service: "storage", path: objectPath(session, name) }, call));
  } catch (error) {
    // Of an object and of its bucket the same reason is said. Whoever says neither means what was asked for.
    if (codeOf(error) === "not-found" && !/bucket does not exist/i.test((error as Error).message)) return undefined;
    throw error;
  }
}

/** The archive of a disk, if it is there and ours. @throws CloudError `already-exists` when it is another's */
export async function lookAtArchive(
  session: GcpSession,
  key: ImageKey,
  call: CallContext,
): Promise<StagedDisk | undefined> {
  const object = await lookAtObject(session, archiveName(session, key), call);
  if (!object) return undefined;
  const diskBytes = Number(object.metadata[META.diskBytes]);
  if (object.metadata[META.key] === key && diskBytes > 0) {
    const packed = object.metadata[META.packed];
    return {
      ...{ key, region: session.options.storageLocation, id: uriOf(session, object.name), diskBytes },
      ...(packed ? { packedSha256: packed } : {}),
    };
  }
  throw new CloudError("already-exists", "An object of this name is there and is not ours.", {
    cloud: "gcp",
    operation: "objects.get",
    subject: uriOf(session, object.name),
    next: "Find out whose it is and remove it, or give the target a bucket of its own.",
  });
}

/** Puts an object in one request, whose MD5 the service compares. The same name again replaces it. */
export async function putObject(
  session: GcpSession,
  name: string,
  data: Uint8Array,
  call: CallContext,
): Promise<BucketObject> {
  const boundary = `slipway-${randomUUID()}`;
  const about = {
    name,
    md5Hash: createHash("md5").update(data).digest("base64"),
    contentType: "application/octet-stream",
  };
  const body = [
    Buffer.from(`--${boundary}\r\ncontent-type: application/json\r\n\r\n${JSON.stringify(about)}\r\n`),
    Buffer.from(`--${boundary}\r\ncontent-type: application/octet-stream\r\n\r\n`),
    data,
    Buffer.from(`\r\n--${boundary}--\r\n`),
  ];
  const ask = { operation: "objects.insert", subject: uriOf(session, name), deadline: session.pace.partDeadline };
  const answer = await session.ask(
    ask,
    {
      ...{ method: "POST" as const, service: "storage" as const, body },
      path: `/upload/storage/v1/b/${encodeURIComponent(session.options.bucket)}/o`,
      query: { uploadType: "multipart" },
      contentType: `multipart/related; boundary=${boundary}`,
    },
    call,
  );
  return objectOf(answer);
}

/** Joins at most 32 objects to one; what was joined stays. `fresh`: only where there is none of that name. */
export async function composeObject(
  session: GcpSession,
  name: string,
  sources: readonly string[],
  { metadata = {}, fresh = false }: { metadata?: Record<string, string>; fresh?: boolean },
  call: CallContext,
): Promise<BucketObject> {
  const ask = { operation: "objects.compose", subject: uriOf(session, name) };
  const json = {
    sourceObjects: sources.map((source) => ({ name: source })),
    destination: { contentType: "application/gzip", metadata },
  };
  const query = fresh ? { ifGenerationMatch: "0" } : {};
  const path = `${objectPath(session, name)}/compose`;
  return objectOf(await session.ask(ask, { method: "POST", service: "storage", path, query, json }, call));
}

/** Removing what is gone succeeds. */
export async function deleteObject(session: GcpSession, name: string, call: CallContext): Promise<void> {
  try {
    const ask = { operation: "objects.delete", subject: uriOf(session, name) };
    await session.ask(ask, { method: "DELETE", service: "storage", path: objectPath(session, name) }, call);
  } catch (error) {
    if (codeOf(error) !== "not-found") throw error;
  }
}

export async function* listObjects(
  session: GcpSession,
  prefix: string,
  call: CallContext,
): AsyncGenerator<BucketObject> {
  let pageToken: string | undefined;
  do {
    const page = await session.ask(
      { operation: "objects.list", subject: uriOf(session, prefix) },
      {
        service: "storage",
        path: `/storage/v1/b/${encodeURIComponent(session.options.bucket)}/o`,
        query: { prefix, ...(pageToken ? { pageToken } : {}) },
      },
      call,
    );
    for (const item of Array.isArray(page.items) ? page.items : []) yield objectOf(record(item));
    pageToken = typeof page.nextPageToken === "string" ? page.nextPageToken : undefined;
  } while (pageToken);
}

export async function isAnythingBelow(session: GcpSession, prefix: string, call: CallContext): Promise<boolean> {
  for await (const _ of listObjects(session, prefix, call)) return true;
  return false;
}

/** Everything of a disk: its archive, and what is left of uploads. Safe to repeat. */
export async function deleteDisk(session: GcpSession, key: ImageKey, call: CallContext): Promise<void> {
  await deleteBelow(session, partsPrefix(session, key), call);
  await deleteObject(session, archiveName(session, key), call);
}

/** Deletes of small objects at one time; Cloud Storage bears many more. */
const DELETES = 16;

export async function deleteBelow(session: GcpSession, prefix: string, call: CallContext): Promise<void> {
  const names = (await Array.fromAsync(listObjects(session, prefix, call))).map((object) => object.name);
  for (let from = 0; from < names.length; from += DELETES) {
    await Promise.all(names.slice(from, from + DELETES).map((name) => deleteObject(session, name, call)));
  }
}

export function objectPath(session: GcpSession, name: string): string {
  return `/storage/v1/b/${encodeURIComponent(session.options.bucket)}/o/${encodeURIComponent(name)}`;
}

function objectOf(answer: Record<string, unknown>): BucketObject {
  return {
    name: String(answer.name ?? ""),
    bytes: Number(answer.size ?? 0),
    crc32c: Buffer.from(String(answer.crc32c ?? "AAAAAA=="), "base64").readUInt32BE(0),
    created: typeof answer.timeCreated === "string" ? answer.timeCreated : undefined,
    metadata: record(answer.metadata) as Record<string, string>,
  };
}
