import { createHash } from "node:crypto";
import { authorize } from "../accounts.ts";
import { AwsFault } from "../fault.ts";
import { element } from "../xml.ts";
import type { S3Answer, S3Call } from "./index.ts";
import { type Bucket, Content, checkDigests, metadataOf, type Part, partOf, type Upload } from "./objects.ts";

/** https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html: every part but the last, and how many there may be. */
const SMALLEST_PART = 5 * 1024 * 1024;
const MOST_PARTS = 10_000;
/** Parts on one page of a list. */
const PAGE = 1000;

export function isMultipart(url: URL): boolean {
  return url.searchParams.has("uploads") || url.searchParams.has("uploadId");
}

/**
 * Begin, one part (sent, or copied from another object), the list of parts, put together, give up.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
 * @throws AwsFault; undefined for what is none of them
 */
export function handleMultipart(call: S3Call, bucket: Bucket, key: string): S3Answer | undefined {
  const { store, caller, method, url, body, headers } = call;
  const names = { Bucket: bucket.name, Key: key };
  if (url.searchParams.has("uploads")) {
    if (method !== "POST") return undefined;
    authorize(caller, "s3", "PutObject");
    const asked = headers["x-amz-checksum-algorithm"];
    const { id: UploadId, checksums } = store.begin(
      bucket,
      key,
      asked === "SHA256" ? asked : undefined,
      metadataOf(headers),
    );
    const answer = xml(element("InitiateMultipartUploadResult", { ...names, UploadId }, S3_NAMESPACE));
    return checksums === undefined ? answer : { ...answer, headers: { "x-amz-checksum-algorithm": checksums } };
  }

  const id = url.searchParams.get("uploadId") ?? "";
  switch (method) {
    case "PUT": {
      authorize(caller, "s3", "PutObject");
      const upload = store.upload(id, bucket.name, key);
      const number = partNumber(url);
      const source = headers["x-amz-copy-source"];
      if (source === undefined) checkDigests(headers, body);
      const part = partOf(source === undefined ? new Content([body]) : copied(call, String(source)));
      upload.parts.set(number, part);
      if (source === undefined) return { status: 200, headers: { etag: part.etag, ...checksumHeader(upload, part) } };
      const copy = { LastModified: new Date().toISOString(), ETag: part.etag, ...checksum(upload, part) };
      return xml(element("CopyPartResult", copy, S3_NAMESPACE));
    }
    case "GET":
      authorize(caller, "s3", "ListMultipartUploadParts");
      return listParts(store.upload(id, bucket.name, key), url);
    case "POST": {
      authorize(caller, "s3", "PutObject");
      const upload = store.upload(id, bucket.name, key);
      const parts = chosenParts(upload, body.toString("utf8"));
      const md5 = createHash("md5").update(Buffer.concat(parts.map((part) => part.md5)));
      // How many parts there were stands in the ETag, which is why it is not the object's MD5.
      const etag = `"${md5.digest("hex")}-${parts.length}"`;
      store.put(bucket, key, Content.join(parts.map((part) => part.content)), upload.metadata, etag);
      store.uploads.delete(id);
      return xml(
        element(
          "CompleteMultipartUploadResult",
          { Location: `/${bucket.name}/${key}`, ...names, ETag: etag },
          S3_NAMESPACE,
        ),
      );
    }
    case "DELETE":
      authorize(caller, "s3", "AbortMultipartUpload");
      store.upload(id, bucket.name, key);
      store.uploads.delete(id);
      return { status: 204 };
    default:
      return undefined;
  }
}

/** Uploads of a bucket that were begun, oldest first. */
export function listUploads({ store, caller, url }: S3Call, bucket: Bucket): S3Answer {
  authorize(caller, "s3", "ListBucketMultipartUploads");
  const prefix = url.searchParams.get("prefix") ?? "";
  const begun = [...store.uploads.values()].filter((one) => one.bucket === bucket.name && one.key.startsWith(prefix));
  const listed = begun.map(({ key, id, begun }) =>
    bare("Upload", { Key: key, UploadId: id, Initiated: begun.toISOString(), StorageClass: "STANDARD" }),
  );
  const head = { Bucket: bucket.name, KeyMarker: "", UploadIdMarker: "", MaxUploads: PAGE, IsTruncated: false };
  return repeated("ListMultipartUploadsResult", head, listed);
}

function listParts(upload: Upload, url: URL): S3Answer {
  const after = Number(url.searchParams.get("part-number-marker") ?? 0);
  const most = Math.min(Number(url.searchParams.get("max-parts") ?? PAGE), PAGE);
  const left = [...upload.parts].filter(([number]) => number > after).sort(([one], [other]) => one - other);
  const page = left.slice(0, most);
  const listed = page.map(([PartNumber, part]) =>
    bare("Part", { PartNumber, ETag: part.etag, Size: part.content.bytes, ...checksum(upload, part) }),
  );
  const more = page.length < left.length;
  const head = {
    Bucket: upload.bucket,
    Key: upload.key,
    UploadId: upload.id,
    PartNumberMarker: after,
    ...(more ? { NextPartNumberMarker: page.at(-1)?.[0] } : {}),
    MaxParts: most,
    IsTruncated: more,
  };
  return repeated("ListPartsResult", head, listed);
}

/** The bytes that UploadPartCopy names: an object, or a range of one. @throws AwsFault */
function copied({ store, caller, headers }: S3Call, source: string): Content {
  authorize(caller, "s3", "GetObject");
  const [, bucketName = "", key = ""] = /^\/?([^/]+)\/(.+)$/.exec(decodeURIComponent(source)) ?? [];
  const bucket = store.bucket(bucketName);
  if (bucket === undefined) throw new AwsFault("NoSuchBucket", "The specified bucket does not exist", 404);
  if (bucket.owner !== caller.account) throw new AwsFault("AccessDenied", "Access Denied", 403);
  const object = bucket.objects.get(key);
  if (object === undefined) throw new AwsFault("NoSuchKey", "The specified key does not exist.", 404);
  const range = headers["x-amz-copy-source-range"];
  if (range === undefined) return object.content;
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(String(range)) ?? [];
  // Every range has to lie within an object of more than 5 MiB.
  if (first === undefined || Number(last) >= object.content.bytes || object.content.bytes <= SMALLEST_PART) {
    throw new AwsFault("InvalidArgument", "The x-amz-copy-source-range value must be of the form bytes=first-last");
  }
  return new Content([object.content.slice(Number(first), Number(last) + 1)]);
}

function checksum(upload: Upload, part: Part): Record<string, string> {
  return upload.checksums === undefined ? {} : { ChecksumSHA256: part.sha256 };
}

function checksumHeader(upload: Upload, part: Part): Record<string, string> {
  return upload.checksums === undefined ? {} : { "x-amz-checksum-sha256": part.sha256 };
}

const S3_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/";

function xml(body: string): S3Answer {
  return { status: 200, type: "application/xml", body };
}

/** S3 repeats an element instead of wrapping a list, which is the one shape `element` does not know. */
function repeated(
  name: string,
  head: Record<string, string | number | boolean | undefined>,
  listed: string[],
): S3Answer {
  return xml(element(name, head, S3_NAMESPACE).replace(`</${name}>`, `${listed.join("")}</${name}>`));
}

/** An element of such a list: without a declaration. */
function bare(name: string, value: Record<string, string | number>): string {
  return element(name, value).split("\n", 2)[1] ?? "";
}

function partNumber(url: URL): number {
  const number = Number(url.searchParams.get("partNumber"));
  if (!Number.isInteger(number) || number < 1 || number > MOST_PARTS) {
    throw new AwsFault("InvalidArgument", `Part number must be an integer between 1 and ${MOST_PARTS}, inclusive`);
  }
  return number;
}

/** The parts that a CompleteMultipartUpload names: rising, there, with the right tags, none too small but the last. */
function chosenParts(upload: Upload, text: string): Part[] {
  const asked = [...text.matchAll(/<Part>(.*?)<\/Part>/gs)].map(([, inner = ""]) => ({
    number: Number(/<PartNumber>(\d+)<\/PartNumber>/.exec(inner)?.[1]),
    etag: /<ETag>(.*?)<\/ETag>/.exec(inner)?.[1]?.replace(/&quot;|&#34;|"/g, ""),
    sha256: /<ChecksumSHA256>(.*?)<\/ChecksumSHA256>/.exec(inner)?.[1],
  }));
  if (asked.length === 0 || asked.length > MOST_PARTS) {
    throw new AwsFault(
      "MalformedXML",
      "The XML you provided was not well-formed or did not validate against our schema",
    );
  }
  if (asked.some(({ number }, index) => index > 0 && !(number > (asked[index - 1]?.number ?? 0)))) {
    throw new AwsFault("InvalidPartOrder", "The list of parts was not in ascending order.");
  }
  return asked.map(({ number, etag, sha256 }, index) => {
    const part = upload.parts.get(number);
    if (upload.checksums !== undefined && sha256 === undefined) {
      throw new AwsFault(
        "InvalidRequest",
        `The upload was created using a sha256 checksum. The complete request must include the checksum for each part. It was missing for part ${number} in the request.`,
      );
    }
    const wrongSum = upload.checksums !== undefined && sha256 !== part?.sha256;
    if (part === undefined || part.etag !== `"${etag}"` || wrongSum) {
      throw new AwsFault("InvalidPart", "One or more of the specified parts could not be found.");
    }
    if (index < asked.length - 1 && part.content.bytes < SMALLEST_PART) {
      throw new AwsFault("EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size");
    }
    return part;
  });
}
