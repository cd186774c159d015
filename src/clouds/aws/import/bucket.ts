/**
 * The bucket a disk waits in while it is imported: the few calls of S3 that takes, and what our objects there are called.
 *
 * An object's name is the disk's key, and its metadata says so once more: one of that name without it is somebody else's
 * and is never overwritten.
 */
import type { S3 } from "@aws-sdk/client-s3";
import type { CallContext } from "../../../lib/call.ts";
import { codeOf } from "../../../lib/errors.ts";
import type { ImageKey, Region } from "../../../model.ts";
import { CloudError } from "../../errors.ts";
import type { Connection, SendOptions } from "../connection.ts";

export interface ImportOptions {
  /** In the home region, and not one that keeps old versions of objects. */
  readonly bucket: string;
  /** Prefix of our objects' names, with its slash. Default `slipway/`. */
  readonly prefix?: string | undefined;
  /** The role that lets the import service read the bucket. Default `vmimport`. */
  readonly role?: string | undefined;
}

/** One part that S3 has. `sha256` in base64, as S3 gives it out. */
export interface SentPart {
  readonly number: number;
  readonly etag: string;
  readonly sha256: string;
}

export interface ImportBucket {
  readonly name: string;
  readonly region: Region;
  /** The name of a disk's object. */
  keyOf(disk: ImageKey): string;
  /** Whether the whole disk is there. @throws CloudError `already-exists` for an object that is not ours */
  has(disk: ImageKey, bytes: number, call: CallContext): Promise<boolean>;
  /** Begins an upload in parts. @returns its id */
  begin(disk: ImageKey, bytes: number, call: CallContext): Promise<string>;
  /** Uploads of a disk that were begun and have not ended, oldest first; of all our disks if none is named. */
  uploads(disk: ImageKey | undefined, call: CallContext): Promise<{ disk: ImageKey; upload: string; begun?: Date }[]>;
  /** @returns undefined when the upload is no longer there */
  parts(disk: ImageKey, upload: string, call: CallContext): Promise<Map<number, SentPart> | undefined>;
  sendPart(
    disk: ImageKey,
    upload: string,
    number: number,
    data: Uint8Array,
    sha256: string,
    call: CallContext,
  ): Promise<SentPart>;
  /** A part of zeros, made by S3 of an object of ours that holds that many: nothing is sent. */
  copyZeros(disk: ImageKey, upload: string, number: number, bytes: number, call: CallContext): Promise<SentPart>;
  complete(disk: ImageKey, upload: string, parts: readonly SentPart[], call: CallContext): Promise<void>;
  /** Gone already is a success. */
  abort(disk: ImageKey, upload: string, call: CallContext): Promise<void>;
  /** Our whole disks, page by page. */
  objects(call: CallContext): AsyncIterable<{ disk: ImageKey; bytes: number; modified?: Date }>;
  /** Gone already is a success. */
  remove(disk: ImageKey, call: CallContext): Promise<void>;
  /** Whether it is there, ours and in its region. @throws CloudError */
  look(call: CallContext): Promise<void>;
}

const META_KEY = "slipway-disk-key";
const META_BYTES = "slipway-disk-bytes";
const SUFFIX = ".raw";

export function openImportBucket(connection: Connection, region: Region, options: ImportOptions): ImportBucket {
  const { bucket: Bucket, prefix = "slipway/" } = options;
  const keyOf = (disk: ImageKey) => `${prefix}${disk}${SUFFIX}`;
  const diskOf = (key: string) =>
    key.startsWith(prefix) && key.endsWith(SUFFIX) ? key.slice(prefix.length, -SUFFIX.length) : undefined;
  /** One object of zeros for every size that was ever wanted: parts are of 8 MiB unless disks are very large. */
  const zeros = new Map<number, Promise<string>>();

  function ask<T>(
    operation: string,
    subject: string,
    call: CallContext,
    run: (s3: S3, send: SendOptions) => Promise<T>,
  ): Promise<T> {
    return connection.s3(region, operation, `s3://${Bucket}/${subject}`, call, run);
  }

  /** @returns the key of an object of so many zeros, made if it is not there. */
  async function zerosOf(bytes: number, call: CallContext): Promise<string> {
    const Key = `${prefix}zeros-${bytes}`;
    const head = await absentIsUndefined(
      ask("HeadObject", Key, call, (s3, send) => s3.headObject({ Bucket, Key }, send)),
    );
    if (head?.ContentLength !== bytes) {
      const Body = new Uint8Array(bytes);
      await ask("PutObject", Key, call, (s3, send) =>
        s3.putObject({ Bucket, Key, Body, ChecksumAlgorithm: "SHA256" }, send),
      );
    }
    return Key;
  }

  return {
    name: Bucket,
    region,
    keyOf,

    async has(disk, bytes, call) {
      const Key = keyOf(disk);
      const head = await absentIsUndefined(
        ask("HeadObject", Key, call, (s3, send) => s3.headObject({ Bucket, Key }, send)),
      );
      if (head === undefined) return false;
      const ours = head.Metadata?.[META_KEY] === disk && Number(head.Metadata?.[META_BYTES]) === head.ContentLength;
      if (ours && head.ContentLength === bytes) return true;
      throw new CloudError("already-exists", `The object ${Key} in the bucket ${Bucket} is not this disk.`, {
        cloud: "aws",
        operation: "HeadObject",
        region,
        subject: `s3://${Bucket}/${Key}`,
        next: "Find out whose it is. Remove it, or give the target a bucket or a prefix of its own.",
      });
    },

    async begin(disk, bytes, call) {
      const Key = keyOf(disk);
      const Metadata = { [META_KEY]: disk, [META_BYTES]: String(bytes) };
      const begun = await ask("CreateMultipartUpload", Key, call, (s3, send) =>
        s3.createMultipartUpload({ Bucket, Key, Metadata, ChecksumAlgorithm: "SHA256" }, send),
      );
      return begun.UploadId ?? "";
    },

    async uploads(disk, call) {
      const Prefix = disk === undefined ? prefix : keyOf(disk);
      const found: { disk: ImageKey; upload: string; begun?: Date }[] = [];
      let marker: { KeyMarker?: string | undefined; UploadIdMarker?: string | undefined } = {};
      for (;;) {
        const page = await ask("ListMultipartUploads", Prefix, call, (s3, send) =>
          s3.listMultipartUploads({ Bucket, Prefix, ...marker }, send),
        );
        for (const { Key = "", UploadId = "", Initiated } of page.Uploads ?? []) {
          const key = diskOf(Key);
          if (key !== undefined && (disk === undefined || key === disk)) {
            found.push({ disk: key, upload: UploadId, ...(Initiated ? { begun: Initiated } : {}) });
          }
        }
        if (!page.IsTruncated) break;
        marker = { KeyMarker: page.NextKeyMarker, UploadIdMarker: page.NextUploadIdMarker };
      }
      return found.sort((one, other) => Number(one.begun ?? 0) - Number(other.begun ?? 0));
    },

    async parts(disk, UploadId, call) {
      const Key = keyOf(disk);
      const found = new Map<number, SentPart>();
      let PartNumberMarker: string | undefined;
      do {
        const page = await absentIsUndefined(
          ask("ListParts", Key, call, (s3, send) => s3.listParts({ Bucket, Key, UploadId, PartNumberMarker }, send)),
        );
        if (page === undefined) return undefined;
        for (const { PartNumber: number = 0, ETag: etag = "", ChecksumSHA256: sha256 = "" } of page.Parts ?? []) {
          found.set(number, { number, etag, sha256 });
        }
        PartNumberMarker = page.IsTruncated ? page.NextPartNumberMarker : undefined;
      } while (PartNumberMarker);
      return found;
    },

    async sendPart(disk, UploadId, number, Body, sha256, call) {
      const part = { Bucket, Key: keyOf(disk), UploadId, PartNumber: number, Body, ChecksumSHA256: sha256 };
      const { ETag: etag = "" } = await ask("UploadPart", part.Key, call, (s3, send) => s3.uploadPart(part, send));
      return { number, etag, sha256 };
    },

    async copyZeros(disk, UploadId, number, bytes, call) {
      let source = zeros.get(bytes);
      if (source === undefined) {
        source = zerosOf(bytes, call);
        zeros.set(bytes, source);
        source.catch(() => zeros.delete(bytes));
      }
      const CopySource = `${Bucket}/${await source}`;
      const part = { Bucket, Key: keyOf(disk), UploadId, PartNumber: number, CopySource };
      const { CopyPartResult: made } = await ask("UploadPartCopy", part.Key, call, (s3, send) =>
        s3.uploadPartCopy(part, send),
      );
      return { number, etag: made?.ETag ?? "", sha256: made?.ChecksumSHA256 ?? "" };
    },

    async complete(disk, UploadId, parts, call) {
      const Key = keyOf(disk);
      const Parts = parts.map(({ number, etag, sha256 }) => ({
        PartNumber: number,
        ETag: etag,
        ...(sha256 ? { ChecksumSHA256: sha256 } : {}),
      }));
      await ask("CompleteMultipartUpload", Key, call, (s3, send) =>
        s3.completeMultipartUpload({ Bucket, Key, UploadId, MultipartUpload: { Parts } }, send),
      );
    },

    async abort(disk, UploadId, call) {
      const Key = keyOf(disk);
      await absentIsUndefined(
        ask("AbortMultipartUpload", Key, call, (s3, send) => s3.abortMultipartUpload({ Bucket, Key, UploadId }, send)),
      );
    },

    async *objects(call) {
      let ContinuationToken: string | undefined;
      do {
        const page = await ask("ListObjectsV2", prefix, call, (s3, send) =>
          s3.listObjectsV2({ Bucket, Prefix: prefix, ContinuationToken }, send),
        );
        for (const { Key = "", Size = 0, LastModified } of page.Contents ?? []) {
          const disk = diskOf(Key);
          if (disk !== undefined) yield { disk, bytes: Size, ...(LastModified ? { modified: LastModified } : {}) };
        }
        ContinuationToken = page.NextContinuationToken || undefined;
      } while (ContinuationToken);
    },

    async remove(disk, call) {
      const Key = keyOf(disk);
      await absentIsUndefined(ask("DeleteObject", Key, call, (s3, send) => s3.deleteObject({ Bucket, Key }, send)));
    },

    async look(call) {
      await ask("HeadBucket", "", call, (s3, send) => s3.headBucket({ Bucket }, send));
    },
  };
}

async function absentIsUndefined<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (codeOf(error) === "not-found") return undefined;
    throw error;
  }
}
