/**
 * A little S3, path-style: buckets in regions, objects whole or in parts. What a client needs that keeps files beside its
 * images, or has disks imported from there.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
 */
import type http from "node:http";
import { authorize, type Caller } from "../accounts.ts";
import { AwsFault, unknownOperation } from "../fault.ts";
import { element } from "../xml.ts";
import { handleMultipart, isMultipart, listUploads } from "./multipart.ts";
import { type Bucket, Content, checkDigests, metadataOf, type ObjectStore } from "./objects.ts";

export interface S3Call {
  readonly store: ObjectStore;
  readonly caller: Caller;
  readonly method: string;
  readonly url: URL;
  readonly headers: http.IncomingHttpHeaders;
  /** Chunks already taken apart. */
  readonly body: Buffer;
}

export interface S3Answer {
  readonly status: number;
  readonly type?: string;
  readonly body?: string | Buffer;
  readonly headers?: Record<string, string>;
}

/** @throws AwsFault */
export function handleS3(call: S3Call): S3Answer {
  const { store, caller, method, url, headers, body } = call;
  const [, bucketName = "", ...rest] = decodeURIComponent(url.pathname).split("/");
  const key = rest.join("/");
  const unknown = [...url.searchParams.keys()].some((name) => !KNOWN_PARAMETERS.includes(name));
  if (bucketName === "" || unknown) throw unknownOperation("s3", `${method} ${url.pathname}${url.search}`);

  if (key === "" && method === "PUT") {
    authorize(caller, "s3", "CreateBucket");
    store.create(bucketName, caller.region, caller.account);
    return { status: 200, headers: { location: `/${bucketName}` } };
  }
  const bucket = knownBucket(call, bucketName);
  if (key !== "" && isMultipart(url)) {
    const answer = handleMultipart(call, bucket, key);
    if (answer === undefined) throw unknownOperation("s3", `${method} ${url.pathname}${url.search}`);
    return answer;
  }
  const operation = `${method} ${key === "" ? "bucket" : "object"}`;
  switch (operation) {
    case "HEAD bucket":
      authorize(caller, "s3", "ListBucket");
      return { status: 200, headers: { "x-amz-bucket-region": bucket.region } };
    case "GET bucket":
      if (url.searchParams.has("uploads")) return listUploads(call, bucket);
      authorize(caller, "s3", "ListBucket");
      return { status: 200, type: "application/xml", body: listing(bucket, url) };
    case "PUT object":
      authorize(caller, "s3", "PutObject");
      checkDigests(headers, body);
      return { status: 200, headers: { etag: store.put(bucket, key, new Content([body]), metadataOf(headers)) } };
    case "DELETE object":
      authorize(caller, "s3", "DeleteObject");
      bucket.objects.delete(key);
      return { status: 204 };
    case "GET object":
    case "HEAD object": {
      authorize(caller, "s3", "GetObject");
      const object = bucket.objects.get(key);
      if (object === undefined) throw new AwsFault("NoSuchKey", "The specified key does not exist.", 404);
      const about = { etag: object.etag, "last-modified": object.modified.toUTCString(), ...object.metadata };
      return ranged(object.content, about, method === "HEAD" ? undefined : headers.range);
    }
    default:
      throw unknownOperation("s3", `${method} ${url.pathname}`);
  }
}

/** The caller's own bucket, asked for in its region. @throws AwsFault */
function knownBucket({ store, caller }: S3Call, name: string): Bucket {
  const bucket = store.bucket(name);
  if (bucket === undefined) throw new AwsFault("NoSuchBucket", "The specified bucket does not exist", 404);
  if (bucket.owner !== caller.account) throw new AwsFault("AccessDenied", "Access Denied", 403);
  if (bucket.region !== caller.region) {
    throw new AwsFault(
      "AuthorizationHeaderMalformed",
      `The authorization header is malformed; the region '${caller.region}' is wrong; expecting '${bucket.region}'`,
      400,
      undefined,
      { "x-amz-bucket-region": bucket.region },
    );
  }
  return bucket;
}

/** One range of bytes, as a client asks that fetches a large object in parts; any other form is answered whole. */
function ranged(object: Content, about: Record<string, string>, range: string | undefined): S3Answer {
  const type = "binary/octet-stream";
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(range ?? "") ?? [];
  if (first === undefined) return { status: 200, type, body: object.slice(), headers: about };
  const from = Number(first);
  const to = Math.min(last === "" ? object.bytes - 1 : Number(last), object.bytes - 1);
  if (from > to) throw new AwsFault("InvalidRange", "The requested range is not satisfiable", 416);
  const headers = { ...about, "content-range": `bytes ${from}-${to}/${object.bytes}` };
  return { status: 206, type, body: object.slice(from, to + 1), headers };
}

const KNOWN_PARAMETERS = [
  ...["list-type", "prefix", "max-keys", "encoding-type", "x-id", "start-after", "continuation-token"],
  ...["uploads", "uploadId", "partNumber", "max-parts", "part-number-marker", "max-uploads"],
];

/** Keys on one page. */
const PAGE = 1000;

function listing({ name, objects }: Bucket, url: URL): string {
  const prefix = url.searchParams.get("prefix") ?? "";
  const token = url.searchParams.get("continuation-token");
  const after =
    token === null ? (url.searchParams.get("start-after") ?? "") : Buffer.from(token, "base64url").toString();
  const most = Math.min(Number(url.searchParams.get("max-keys") ?? PAGE), PAGE);
  const left = [...objects.keys()].filter((key) => key.startsWith(prefix) && key > after).sort();
  const keys = left.slice(0, most);
  const more = keys.length < left.length;
  // S3 repeats the element instead of wrapping a list, which is the one shape `element` does not know.
  const contents = keys
    .map((key) => {
      const object = objects.get(key);
      const LastModified = object?.modified.toISOString();
      const fields = { Key: key, LastModified, ETag: object?.etag, Size: object?.content.bytes };
      return element("Contents", fields).split("\n", 2)[1];
    })
    .join("");
  const head = element("ListBucketResult", {
    Name: name,
    Prefix: prefix,
    KeyCount: keys.length,
    MaxKeys: most,
    IsTruncated: more,
    NextContinuationToken: more ? Buffer.from(keys.at(-1) ?? "").toString("base64url") : undefined,
  });
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
