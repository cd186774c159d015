/**
 * The upload: every run of neighbouring blocks becomes an object of its own, a finished piece of the archive, and the
 * service joins them when the whole source has been read and proved right (docs/decisions/0007-pieces-in-cloud-storage.md).
 */
import { randomUUID } from "node:crypto";
import { BLOCK_BYTES, type BlockSource, blockCount, virtualBytes } from "../../images/block-source.ts";
import { joinCrc } from "../../images/encode/crc.ts";
import { type GzipSum, gzipHead, gzipPiece, gzipTail, joinSums } from "../../images/encode/gzip-pieces.ts";
import { type Extent, sparseTarHead, sparseTarTail } from "../../images/encode/sparse-tar.ts";
import type { UploadJournal } from "../../images/journal.ts";
import { quietCall } from "../../lib/call.ts";
import { codeOf } from "../../lib/errors.ts";
import type { ImageSpec, Json, StagedDisk } from "../../model.ts";
import { pageWriter } from "../azure/page-writer.ts";
import { adaptiveWindow } from "../azure/window.ts";
import type { UploadContext } from "../cloud.ts";
import { CloudError } from "../errors.ts";
import {
  archiveName,
  type BucketObject,
  composeObject,
  deleteBelow,
  listObjects,
  lookAtArchive,
  META,
  partsPrefix,
  putObject,
  uriOf,
} from "./objects.ts";
import { IN_FLIGHT } from "./options.ts";
import { coverOf, type Part, partName, partOf } from "./parts.ts";
import type { GcpSession } from "./session.ts";

/** @see https://cloud.google.com/storage/docs/composite-objects */
const MOST_SOURCES = 32;

export async function uploadDisk(
  session: GcpSession,
  disk: BlockSource,
  spec: ImageSpec,
  journal: UploadJournal,
  call: UploadContext,
): Promise<StagedDisk> {
  const key = spec.diskKey;
  const done = await lookAtArchive(session, key, call);
  if (done) {
    await deleteBelow(session, partsPrefix(session, key), call);
    call.onProgress?.({ doneBytes: disk.bytes, totalBytes: disk.bytes, sentBytes: 0 });
    return done;
  }
  const begun = uploadOf(journal.staged, archiveName(session, key));
  const found = begun === undefined ? undefined : await partsOf(session, spec, begun, disk, journal, call);
  const upload = begun !== undefined && found !== undefined ? begun : randomUUID();
  if (upload !== begun) await journal.begin({ object: archiveName(session, key), upload } satisfies Json);
  call.log.info(upload === begun ? "upload resumed" : "upload begun", { key, acked: journal.ackedCount });

  const prefix = `${partsPrefix(session, key)}${upload}/`;
  try {
    await sendBlocks(session, disk, prefix, journal, call);
  } catch (error) {
    // What was acknowledged stays so, for the next attempt; that this could not be noted is not the news.
    await journal.flush().catch(() => {});
    if (codeOf(error) === "corrupt") {
      await deleteBelow(session, prefix, { ...quietCall(), log: call.log }).catch((left: unknown) =>
        call.log.warn("parts of a corrupt disk could not be removed", { prefix, error: left }),
      );
    }
    throw error;
  }
  await journal.flush();
  const parts = await partsOf(session, spec, upload, disk, journal, call);
  if (!parts) {
    throw new CloudError("unavailable", "Parts that were acknowledged are not in the bucket any more.", {
      cloud: "gcp",
      operation: "objects.list",
      subject: uriOf(session, prefix),
      next: "Look for a lifecycle rule that removes young objects; the next attempt sends all of them again.",
    });
  }
  await join(session, disk, spec, prefix, parts, call);
  await deleteBelow(session, partsPrefix(session, key), call);
  call.onProgress?.({ doneBytes: disk.bytes, totalBytes: disk.bytes, sentBytes: 0 });
  const staged = await lookAtArchive(session, key, call);
  if (staged) return staged;
  throw new CloudError("conflict", "The archive was removed as soon as it was made.", {
    cloud: "gcp",
    operation: "objects.compose",
    subject: uriOf(session, archiveName(session, key)),
  });
}

async function sendBlocks(
  session: GcpSession,
  disk: BlockSource,
  prefix: string,
  journal: UploadJournal,
  call: UploadContext,
): Promise<void> {
  let doneBytes = 0;
  for (let index = 0; index < blockCount(disk.bytes); index++) {
    if (journal.acked(index)) doneBytes += Math.min(BLOCK_BYTES, disk.bytes - index * BLOCK_BYTES);
  }
  let sentBytes = 0;
  const writer = pageWriter({
    window: adaptiveWindow(IN_FLIGHT),
    inFlight: IN_FLIGHT,
    retryMs: session.pace.partRetry,
    signal: call.signal,
    log: call.log,
    async put(offset, data, signal) {
      const packing = disk.packed ? asItIs(data) : await gzipPiece(data);
      const { deflated, sum } = packing;
      const name = prefix + partName(offset / BLOCK_BYTES, blockCount(data.length), sum);
      await putObject(session, name, deflated, { ...call, signal });
    },
    onAcked(index, sha256, bytes) {
      journal.ack(index, sha256);
      doneBytes += bytes;
      sentBytes += bytes;
      call.onProgress?.({ doneBytes, totalBytes: disk.bytes, sentBytes });
    },
    onUnit: (unit, sha256) => journal.unit(unit, sha256),
  });
  await writer.drain((signal) =>
    disk.read({
      signal,
      log: call.log,
      wanted: (index) => !journal.acked(index),
      knownUnits: journal.knownUnits,
      onUnit: (unit, sha256) => writer.unit(unit, sha256),
    }),
  );
}

/** A piece of an archive that is sent unchanged: nothing is compressed, and no trailer needs its checksum. */
function asItIs(data: Uint8Array): { deflated: Uint8Array; sum: GzipSum } {
  return { deflated: data, sum: { crc32: 0, bytes: data.length } };
}

/** The parts that hold every acknowledged block once; undefined when there are none that do. */
async function partsOf(
  session: GcpSession,
  spec: ImageSpec,
  upload: string,
  disk: BlockSource,
  journal: UploadJournal,
  call: UploadContext,
): Promise<Part[] | undefined> {
  const parts: Part[] = [];
  for await (const object of listObjects(session, `${partsPrefix(session, spec.diskKey)}${upload}/`, call)) {
    const part = partOf(object);
    if (part) parts.push(part);
  }
  return coverOf(parts, (index) => journal.acked(index), blockCount(disk.bytes));
}

/** Has the service join the parts, with what belongs around them: at most 32 at a time, so in layers. */
async function join(
  session: GcpSession,
  disk: BlockSource,
  spec: ImageSpec,
  prefix: string,
  parts: readonly Part[],
  call: UploadContext,
): Promise<void> {
  let layer: Pick<BucketObject, "name" | "bytes" | "crc32c">[] = disk.packed
    ? wholeFile(session, disk, prefix, parts)
    : await archiveAround(session, disk, prefix, parts, call);
  for (let depth = 1; layer.length > MOST_SOURCES; depth++) {
    const next: typeof layer = [];
    for (let from = 0; from < layer.length; from += MOST_SOURCES) {
      const sources = layer.slice(from, from + MOST_SOURCES);
      const name = `${prefix}joined-${depth}-${from / MOST_SOURCES}`;
      next.push(checked(session, await composeObject(session, name, sources.map(nameOf), {}, call), sources));
    }
    layer = next;
  }
  const name = archiveName(session, spec.diskKey);
  const metadata = {
    [META.key]: spec.diskKey,
    [META.owner]: session.owner,
    [META.diskBytes]: String(virtualBytes(disk)),
    ...(disk.packed ? { [META.packed]: disk.packed.sha256 } : {}),
  };
  try {
    checked(session, await composeObject(session, name, layer.map(nameOf), { metadata, fresh: true }, call), layer);
  } catch (error) {
    // Somebody made it in the same moment; the look that follows says whether it is ours.
    if (codeOf(error) !== "conflict") throw error;
  }
}

/** Header and trailer around the parts that hold the disk's blocks. */
async function archiveAround(
  session: GcpSession,
  disk: BlockSource,
  prefix: string,
  parts: readonly Part[],
  call: UploadContext,
): Promise<Pick<BucketObject, "name" | "bytes" | "crc32c">[]> {
  const extents = extentsOf(parts);
  const headData = sparseTarHead(disk.bytes, extents);
  const head = await gzipHead(headData);
  const sum = parts.reduce((total, part) => joinSums(total, part.sum), head.sum);
  const tail = await gzipTail(sparseTarTail(headData.length, extents), sum);
  return [
    await putObject(session, `${prefix}head`, head.deflated, call),
    ...parts.map((part) => part.object),
    await putObject(session, `${prefix}tail`, tail, call),
  ];
}

/** Sources leave out blocks of zeros, and half a MiB of them in a gzip file is no accident. */
function wholeFile(
  session: GcpSession,
  disk: BlockSource,
  prefix: string,
  parts: readonly Part[],
): Pick<BucketObject, "name" | "bytes" | "crc32c">[] {
  const bytes = parts.reduce((sum, part) => sum + part.sum.bytes, 0);
  if (bytes === disk.bytes) return parts.map((part) => part.object);
  throw new CloudError("unsupported", `The archive has ${disk.bytes - bytes} zero bytes in whole blocks.`, {
    ...{ cloud: "gcp", operation: "objects.compose", subject: uriOf(session, prefix) },
    next: "Nothing was made of it. Have the compose pack the disk anew.",
  });
}

const nameOf = ({ name }: { readonly name: string }) => name;

/** A joined object has no MD5. Its CRC-32C has to be what its parts', each compared when it was sent, make together. */
function checked(
  session: GcpSession,
  made: BucketObject,
  sources: readonly Pick<BucketObject, "bytes" | "crc32c">[],
): BucketObject {
  const bytes = sources.reduce((sum, source) => sum + source.bytes, 0);
  const crc = sources.reduce((sum, source) => joinCrc("crc32c", sum, source.crc32c, source.bytes), 0);
  if (made.bytes === bytes && made.crc32c === crc) return made;
  throw new CloudError("unavailable", "The joined object is not what its parts make together.", {
    cloud: "gcp",
    operation: "objects.compose",
    subject: uriOf(session, made.name),
    next: "Repeat the step; remove the object first if it is the finished archive.",
  });
}

function extentsOf(parts: readonly Part[]): Extent[] {
  const extents: Extent[] = [];
  for (const { first, sum } of parts) {
    const at = first * BLOCK_BYTES;
    const last = extents.at(-1);
    if (last && last.at + last.bytes === at) {
      extents[extents.length - 1] = { at: last.at, bytes: last.bytes + sum.bytes };
    } else extents.push({ at, bytes: sum.bytes });
  }
  return extents;
}

/** The upload a journal speaks of, if it is one of this archive. */
function uploadOf(staged: Json | undefined, object: string): string | undefined {
  if (typeof staged !== "object" || staged === null || Array.isArray(staged)) return undefined;
  const { upload } = staged;
  return staged.object === object && typeof upload === "string" ? upload : undefined;
}
