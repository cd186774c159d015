import { createHash } from "node:crypto";
import { authorize, type Caller } from "./accounts.ts";
import { AwsFault, unknownOperation } from "./fault.ts";
import { handleMultipart, isMultipart, MultipartUploads } from "./s3-multipart.ts";
import { element } from "./xml.ts";

interface StoredObject {
  readonly body: Buffer;
  readonly etag: string;
  readonly modified: Date;
}

/** Buckets and their objects, in memory: enough for a client that keeps small files beside its images. */
export class ObjectStore {
  readonly uploads = new MultipartUploads();
  readonly #buckets = new Map<string, Map<string, StoredObject>>();

  bucket(name: string): Map<string, StoredObject> | undefined {
    return this.#buckets.get(name);
  }

  /** Puts an object whole. The bucket is there: whoever calls this has looked. */
  put(bucket: string, key: string, body: Buffer, etag = etagOf(body)): string {
    this.#buckets.get(bucket)?.set(key, { body, etag, modified: new Date() });
    return etag;
  }

  create(name: string): void {
    if (!this.#buckets.has(name)) this.#buckets.set(name, new Map());
  }

  clear(): void {
    this.#buckets.clear();
    this.uploads.clear();
  }
}

export interface S3Answer {
  readonly status: number;
  readonly type?: string;
  readonly body?: string | Buffer;
  readonly headers?: Record<string, string>;
}

/** Path-style S3: make a bucket; put, get, head, delete and list objects; large ones in parts. @throws AwsFault */
export function handleS3(
  store: ObjectStore,
  caller: Caller,
  method: string,
  url: URL,
  body: Buffer,
  range?: string,
): S3Answer {
  const [, bucketName = "", ...rest] = decodeURIComponent(url.pathname).split("/");
  const key = rest.join("/");
  const unknown = [...url.searchParams.keys()].some((name) => !KNOWN_PARAMETERS.includes(name));
  if (bucketName === "" || unknown) throw unknownOperation("s3", `${method} ${url.pathname}${url.search}`);

  if (key === "" && method === "PUT") {
    authorize(caller, "s3", "CreateBucket");
    store.create(bucketName);
    return { status: 200, headers: { location: `/${bucketName}` } };
  }
  const bucket = store.bucket(bucketName);
  if (bucket === undefined) throw new AwsFault("NoSuchBucket", "The specified bucket does not exist", 404);
  if (key !== "" && isMultipart(url)) {
    const answer = handleMultipart(store, caller, { method, url, bucket: bucketName, key, body });
    if (answer === undefined) throw unknownOperation("s3", `${method} ${url.pathname}${url.search}`);
    return answer;
  }
  const operation = `${method} ${key === "" ? "bucket" : "object"}`;
  switch (operation) {
    case "HEAD bucket":
      return { status: 200 };
    case "GET bucket":
      authorize(caller, "s3", "ListBucket");
      return { status: 200, type: "application/xml", body: listing(bucketName, bucket, url) };
    case "PUT object":
      authorize(caller, "s3", "PutObject");
      return { status: 200, headers: { etag: store.put(bucketName, key, body) } };
    case "DELETE object":
      authorize(caller, "s3", "DeleteObject");
      bucket.delete(key);
      return { status: 204 };
    case "GET object":
    case "HEAD object": {
      authorize(caller, "s3", "GetObject");
      const object = bucket.get(key);
      if (object === undefined) throw new AwsFault("NoSuchKey", "The specified key does not exist.", 404);
      const headers = { etag: object.etag, "last-modified": object.modified.toUTCString() };
      return ranged({ status: 200, type: "binary/octet-stream", body: object.body, headers }, object.body, range);
    }
    default:
      throw unknownOperation("s3", `${method} ${url.pathname}`);
  }
}

/** One range of bytes, as a client asks that fetches a large object in parts; any other form is answered whole. */
function ranged(whole: S3Answer, object: Buffer, range: string | undefined): S3Answer {
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(range ?? "") ?? [];
  if (first === undefined) return whole;
  const from = Number(first);
  const to = Math.min(last === "" ? object.length - 1 : Number(last), object.length - 1);
  if (from > to) throw new AwsFault("InvalidRange", "The requested range is not satisfiable", 416);
  const headers = { ...whole.headers, "content-range": `bytes ${from}-${to}/${object.length}` };
  return { ...whole, status: 206, body: object.subarray(from, to + 1), headers };
}

const KNOWN_PARAMETERS = [
  "list-type",
  "prefix",
  "max-keys",
  "encoding-type",
  "x-id",
  "uploads",
  "uploadId",
  "partNumber",
];

function listing(name: string, bucket: ReadonlyMap<string, StoredObject>, url: URL): string {
  const prefix = url.searchParams.get("prefix") ?? "";
  const keys = [...bucket.keys()].filter((key) => key.startsWith(prefix)).sort();
  // S3 repeats the element instead of wrapping a list, which is the one shape `element` does not know.
  const contents = keys
    .map((key) => {
      const object = bucket.get(key);
      const LastModified = object?.modified.toISOString();
      return element("Contents", { Key: key, LastModified, ETag: object?.etag, Size: object?.body.length }).split(
        "\n",
        2,
      )[1];
    })
    .join("");
  const head = element("ListBucketResult", { Name: name, Prefix: prefix, KeyCount: keys.length, IsTruncated: false });
  return head.replace("</ListBucketResult>", `${contents}</ListBucketResult>`);
}

/**
 * Takes the chunks apart that newer clients wrap an object in, with a checksum behind the last one.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
 */
export function unwrapChunks(body: Buffer): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; ; ) {
    const end = body.indexOf("\r\n", at);
    const size = end < 0 ? Number.NaN : Number.parseInt(body.toString("latin1", at, end), 16);
    if (!(size >= 0) || end + 2 + size > body.length) {
      throw new AwsFault("IncompleteBody", "The request body terminated unexpectedly.");
    }
    if (size === 0) return Buffer.concat(parts);
    parts.push(body.subarray(end + 2, end + 2 + size));
    at = end + 2 + size + 2;
  }
}

/** MD5 is what an ETag of S3 is; nothing is secured by it. */
function etagOf(body: Buffer): string {
  return `"${createHash("md5").update(body).digest("hex")}"`;
}
