import { createHash, randomBytes } from "node:crypto";
import { authorize, type Caller } from "./accounts.ts";
import { AwsFault } from "./fault.ts";
import type { ObjectStore, S3Answer } from "./s3.ts";
import { element } from "./xml.ts";

/** https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html: every part but the last, and how many there may be. */
const SMALLEST_PART = 5 * 1024 * 1024;
const MOST_PARTS = 10_000;

interface Part {
  readonly etag: string;
  readonly md5: Buffer;
  readonly body: Buffer;
}

interface Upload {
  readonly bucket: string;
  readonly key: string;
  readonly parts: Map<number, Part>;
}

/** The uploads of large objects that were begun and are neither put together nor given up. */
export class MultipartUploads {
  readonly #uploads = new Map<string, Upload>();

  begin(bucket: string, key: string): string {
    const id = randomBytes(24).toString("base64url");
    this.#uploads.set(id, { bucket, key, parts: new Map() });
    return id;
  }

  /** @throws AwsFault NoSuchUpload, also for an id that belongs to another object. */
  find(id: string, bucket: string, key: string): Upload {
    const upload = this.#uploads.get(id);
    if (upload === undefined || upload.bucket !== bucket || upload.key !== key) {
      throw new AwsFault("NoSuchUpload", "The specified multipart upload does not exist.", 404);
    }
    return upload;
  }

  end(id: string): void {
    this.#uploads.delete(id);
  }

  clear(): void {
    this.#uploads.clear();
  }
}

export function isMultipart(url: URL): boolean {
  return url.searchParams.has("uploads") || url.searchParams.has("uploadId");
}

/**
 * Begin, one part, the list of parts, put together, give up.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
 * @throws AwsFault; undefined for what is none of them
 */
export function handleMultipart(
  store: ObjectStore,
  caller: Caller,
  call: { method: string; url: URL; bucket: string; key: string; body: Buffer },
): S3Answer | undefined {
  const { method, url, bucket, key, body } = call;
  const names = { Bucket: bucket, Key: key };
  if (url.searchParams.has("uploads")) {
    if (method !== "POST") return undefined;
    authorize(caller, "s3", "PutObject");
    const UploadId = store.uploads.begin(bucket, key);
    return xml(element("InitiateMultipartUploadResult", { ...names, UploadId }, S3_NAMESPACE));
  }

  const id = url.searchParams.get("uploadId") ?? "";
  switch (method) {
    case "PUT": {
      authorize(caller, "s3", "PutObject");
      const upload = store.uploads.find(id, bucket, key);
      const part = partOf(body);
      upload.parts.set(partNumber(url), part);
      return { status: 200, headers: { etag: part.etag } };
    }
    case "GET": {
      authorize(caller, "s3", "ListMultipartUploadParts");
      const { parts } = store.uploads.find(id, bucket, key);
      const listed = [...parts]
        .sort(([one], [other]) => one - other)
        .map(([PartNumber, { etag, body }]) => bare("Part", { PartNumber, ETag: etag, Size: body.length }));
      const head = element(
        "ListPartsResult",
        { ...names, UploadId: id, MaxParts: MOST_PARTS, IsTruncated: false },
        S3_NAMESPACE,
      );
      return xml(head.replace("</ListPartsResult>", `${listed.join("")}</ListPartsResult>`));
    }
    case "POST": {
      authorize(caller, "s3", "PutObject");
      const upload = store.uploads.find(id, bucket, key);
      const parts = chosenParts(upload, body.toString("utf8"));
      const object = Buffer.concat(parts.map((part) => part.body));
      const md5 = createHash("md5").update(Buffer.concat(parts.map((part) => part.md5)));
      // How many parts there were stands in the ETag, which is why it is not the object's MD5.
      const etag = `"${md5.digest("hex")}-${parts.length}"`;
      store.put(bucket, key, object, etag);
      store.uploads.end(id);
      return xml(
        element("CompleteMultipartUploadResult", { Location: `/${bucket}/${key}`, ...names, ETag: etag }, S3_NAMESPACE),
      );
    }
    case "DELETE":
      authorize(caller, "s3", "AbortMultipartUpload");
      store.uploads.find(id, bucket, key);
      store.uploads.end(id);
      return { status: 204 };
    default:
      return undefined;
  }
}

const S3_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/";

function xml(body: string): S3Answer {
  return { status: 200, type: "application/xml", body };
}

/** S3 repeats an element instead of wrapping a list, so the parts of one are written without a declaration. */
function bare(name: string, value: Record<string, string | number>): string {
  return element(name, value).split("\n", 2)[1] ?? "";
}

function partOf(body: Buffer): Part {
  const md5 = createHash("md5").update(body).digest();
  return { md5, body, etag: `"${md5.toString("hex")}"` };
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
  return asked.map(({ number, etag }, index) => {
    const part = upload.parts.get(number);
    if (part === undefined || part.etag !== `"${etag}"`) {
      throw new AwsFault("InvalidPart", "One or more of the specified parts could not be found.");
    }
    if (index < asked.length - 1 && part.body.length < SMALLEST_PART) {
      throw new AwsFault("EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size");
    }
    return part;
  });
}
