import { createHash, randomBytes } from "node:crypto";
import type http from "node:http";
import { crc32 } from "node:zlib";
import { AwsFault } from "../fault.ts";

/** Bytes as the pieces they came in: an object of many parts, some of them the same, is never put into one buffer. */
export class Content {
  readonly bytes: number;
  readonly #pieces: readonly Buffer[];

  constructor(pieces: readonly Buffer[]) {
    this.#pieces = pieces;
    this.bytes = pieces.reduce((sum, piece) => sum + piece.length, 0);
  }

  /** Bytes `from` up to `to`, that one left out; fewer at the end. */
  slice(from = 0, to = this.bytes): Buffer {
    const wanted: Buffer[] = [];
    let at = 0;
    for (const piece of this.#pieces) {
      const [start, end] = [Math.max(0, from - at), Math.min(piece.length, to - at)];
      if (start < end) wanted.push(piece.subarray(start, end));
      at += piece.length;
    }
    const [only, ...more] = wanted;
    return only !== undefined && more.length === 0 ? only : Buffer.concat(wanted);
  }

  static join(contents: readonly Content[]): Content {
    return new Content(contents.flatMap((one) => one.#pieces));
  }
}

export interface StoredObject {
  readonly content: Content;
  readonly etag: string;
  readonly modified: Date;
  /** `x-amz-meta-…`, as they were given. */
  readonly metadata: Readonly<Record<string, string>>;
}

export interface Bucket {
  readonly name: string;
  readonly region: string;
  /** Account id. */
  readonly owner: string;
  readonly objects: Map<string, StoredObject>;
}

export interface Part {
  readonly etag: string;
  readonly md5: Buffer;
  /** Base64, as S3 gives it out. */
  readonly sha256: string;
  readonly content: Content;
}

export interface Upload {
  readonly id: string;
  readonly bucket: string;
  readonly key: string;
  readonly begun: Date;
  /** Each part has to be named with its checksum in the end. */
  readonly checksums: "SHA256" | undefined;
  readonly metadata: Readonly<Record<string, string>>;
  readonly parts: Map<number, Part>;
}

/** Buckets with their objects, and the uploads that were begun and neither put together nor given up. In memory. */
export class ObjectStore {
  readonly uploads = new Map<string, Upload>();
  readonly #buckets = new Map<string, Bucket>();

  /** Names are the whole world's, hence without an account. */
  bucket(name: string): Bucket | undefined {
    return this.#buckets.get(name);
  }

  create(name: string, region: string, owner: string): void {
    if (!this.#buckets.has(name)) this.#buckets.set(name, { name, region, owner, objects: new Map() });
  }

  /** @returns its ETag */
  put(
    bucket: Bucket,
    key: string,
    content: Content,
    metadata: StoredObject["metadata"],
    etag = etagOf(content.slice()),
  ): string {
    bucket.objects.set(key, { content, etag, metadata, modified: new Date() });
    return etag;
  }

  begin(bucket: Bucket, key: string, checksums: Upload["checksums"], metadata: Upload["metadata"]): Upload {
    const id = randomBytes(24).toString("base64url");
    const upload = { id, bucket: bucket.name, key, begun: new Date(), checksums, metadata, parts: new Map() };
    this.uploads.set(id, upload);
    return upload;
  }

  /** @throws AwsFault NoSuchUpload, also for an id that belongs to another object. */
  upload(id: string, bucket: string, key: string): Upload {
    const upload = this.uploads.get(id);
    if (upload === undefined || upload.bucket !== bucket || upload.key !== key) {
      throw new AwsFault("NoSuchUpload", "The specified multipart upload does not exist.", 404);
    }
    return upload;
  }

  clear(): void {
    this.#buckets.clear();
    this.uploads.clear();
  }
}

export function partOf(content: Content): Part {
  const body = content.slice();
  const md5 = createHash("md5").update(body).digest();
  const sha256 = createHash("sha256").update(body).digest("base64");
  return { md5, sha256, content, etag: `"${md5.toString("hex")}"` };
}

/** MD5 is what an ETag of S3 is; nothing is secured by it. */
export function etagOf(body: Buffer): string {
  return `"${createHash("md5").update(body).digest("hex")}"`;
}

/** What a client wants kept with an object. */
export function metadataOf(headers: http.IncomingHttpHeaders): Record<string, string> {
  const named = Object.entries(headers).filter(([name]) => name.startsWith("x-amz-meta-"));
  return Object.fromEntries(named.map(([name, value]) => [name, String(value)]));
}

/** Holds a body against the digests that came with it. Those of newer kinds are not looked at. @throws AwsFault */
export function checkDigests(headers: http.IncomingHttpHeaders, body: Buffer): void {
  const hashes = [
    ["content-md5", () => createHash("md5").update(body).digest("base64"), "Content-MD5"],
    ["x-amz-checksum-sha256", () => createHash("sha256").update(body).digest("base64"), "SHA256"],
    ["x-amz-checksum-crc32", () => crc32Base64(body), "CRC32"],
  ] as const;
  for (const [header, calculate, name] of hashes) {
    const said = headers[header];
    if (said !== undefined && said !== calculate()) {
      throw new AwsFault("BadDigest", `The ${name} you specified did not match the calculated checksum.`);
    }
  }
}

function crc32Base64(body: Buffer): string {
  const sum = Buffer.alloc(4);
  sum.writeUInt32BE(crc32(body));
  return sum.toString("base64");
}
