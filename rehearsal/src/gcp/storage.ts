/** Cloud Storage's JSON API: objects of one bucket, their checksums, parts joined to a whole. */
import { z } from "zod";
import { type Answer, type Exchange, header, wholeNumber } from "../azure/exchange.ts";
import { crc32cText, createSums, joinCrc32c } from "./checksums.ts";
import { readAll } from "./content.ts";
import { GcpFault, json, notBuilt } from "./fault.ts";
import {
  type BucketState,
  checkGeneration,
  checkName,
  checkSums,
  contentTypeOf,
  find,
  type GivenObject,
  givenObject,
  keep,
  need,
  objectView,
  parsed,
  remove,
  resource,
  type StoredObject,
} from "./objects.ts";
import type { Sessions } from "./resumable.ts";

export type { BucketState, StoredObject } from "./objects.ts";

const MOST_SOURCES = 32;
const PAGE = 1000;

export async function storage(state: BucketState, sessions: Sessions, exchange: Exchange): Promise<Answer> {
  const upload = exchange.path[0] === "upload";
  // Google's own clients download from a path of its own.
  const moved = upload || exchange.path[0] === "download";
  const [, , , bucket, kind, name, verb] = moved ? exchange.path.slice(1) : exchange.path;
  if (bucket === undefined && exchange.method === "GET") {
    return json({ kind: "storage#buckets", items: [bucketView(state)] });
  }
  if (bucket !== state.bucket) throw new GcpFault(404, "notFound", "The specified bucket does not exist.");
  const does = `${exchange.method} ${[upload ? "upload" : "", kind, name === undefined ? "" : "NAME", verb].filter(Boolean).join("/")}`;
  const { query } = exchange;
  const view = (object: StoredObject) => json(objectView(state, object, exchange.origin));
  if (exchange.method === "POST" && kind === "o" && verb === "rewriteTo") {
    need(state, "storage.objects.create");
    return json(rewrite(state, exchange, name!, exchange.path.slice(7)));
  }
  switch (does) {
    case "GET ":
      need(state, "storage.buckets.get");
      return json(bucketView(state));
    case "GET iam/NAME": {
      if (name !== "testPermissions") throw notBuilt(`bucket's ${name}`);
      const permissions = query.getAll("permissions").filter((one) => !state.denied(one));
      return json({ kind: "storage#testIamPermissionsResponse", permissions });
    }
    case "POST upload/o":
      need(state, "storage.objects.create");
      if (query.get("uploadType") === "resumable") return await sessions.start(exchange);
      return view(await insert(state, exchange));
    case "GET o":
      need(state, "storage.objects.list");
      return json(list(state, exchange));
    case "GET o/NAME":
      need(state, "storage.objects.get");
      return get(state, exchange, name!);
    case "DELETE o/NAME":
      need(state, "storage.objects.delete");
      find(state, name!, query.get("generation"));
      checkGeneration(state, query, name!);
      remove(state, name!);
      return { status: 204 };
    case "POST o/NAME/compose":
      need(state, "storage.objects.create");
      return view(compose(state, exchange, name!));
    default:
      throw notBuilt(`storage operation ${does}`);
  }
}

/** An upload in one request: its bytes alone, or behind what it says of itself. */
async function insert(state: BucketState, exchange: Exchange): Promise<StoredObject> {
  const { given, data } = uploadOf(exchange);
  const name = checkName(given.name ?? exchange.query.get("name"));
  const sums = createSums();
  sums.add(data);
  const calculated = sums.end();
  checkSums(given, calculated);
  checkGeneration(state, exchange.query, name);
  const writer = await state.store.start();
  try {
    await writer.append(data);
  } catch (error) {
    await writer.abandon();
    throw error;
  }
  state.uploads.push({ name, bytes: data.length });
  const contents = [await writer.finish()];
  return keep(state, exchange, { name, contents, ...calculated, components: undefined, wanted: wantedOf(given) });
}

function uploadOf(exchange: Exchange): { given: GivenObject; data: Buffer } {
  const type = header(exchange, "content-type");
  if (exchange.query.get("uploadType") === "media") {
    return { given: type === undefined ? {} : { contentType: type }, data: exchange.body };
  }
  if (exchange.query.get("uploadType") !== "multipart") {
    throw notBuilt(`upload of type ${exchange.query.get("uploadType")}`);
  }
  const boundary = /boundary=["']?([^"';]+)/.exec(type ?? "")?.[1];
  if (!boundary) throw new GcpFault(400, "badContent", "Multipart body has no boundary.");
  const [said, data, dataType] = partsOf(exchange.body, boundary);
  return { given: { ...(dataType === undefined ? {} : { contentType: dataType }), ...givenObject(said) }, data };
}

/** The two parts of multipart/related, without their own headers, and the second one's type. */
function partsOf(body: Buffer, boundary: string): [Buffer, Buffer, string | undefined] {
  const malformed = new GcpFault(400, "badContent", "Malformed multipart body.");
  const mark = `--${boundary}`;
  const start = body.indexOf(mark);
  if (start < 0) throw malformed;
  // gsutil ends lines as Unix does, and the service takes it; which way is seen at the first mark.
  const line = body[start + mark.length] === 0x0a ? "\n" : "\r\n";
  const second = body.indexOf(`${line}${mark}`, start + mark.length);
  const end = body.lastIndexOf(`${line}${mark}--`);
  const first = body.indexOf(line + line, start) + 2 * line.length;
  const inner = body.indexOf(line + line, second + line.length) + 2 * line.length;
  if (second < 0 || first > second || inner < second || inner > end) throw malformed;
  const type = /^content-type:[ \t]*([^\r\n]+)/im.exec(body.toString("latin1", second, inner))?.[1];
  return [body.subarray(first, second), Buffer.from(body.subarray(inner, end)), type];
}

function wantedOf({ name: _, ...wanted }: GivenObject): StoredObject["wanted"] {
  return wanted;
}

const composition = z.object({
  sourceObjects: z
    .array(z.object({ name: z.string(), generation: z.union([z.string(), z.number()]).optional() }))
    .default([]),
  destination: resource.default({}),
});

function compose(state: BucketState, exchange: Exchange, name: string): StoredObject {
  const { sourceObjects, destination } = parsed(composition, exchange.body);
  if (sourceObjects.length === 0 || sourceObjects.length > MOST_SOURCES) {
    throw new GcpFault(
      400,
      "invalid",
      `The number of source components provided (${sourceObjects.length}) exceeds the maximum (32)`,
    );
  }
  const sources = sourceObjects.map((one) => find(state, one.name, one.generation?.toString()));
  checkGeneration(state, exchange.query, checkName(name));
  return keep(state, exchange, {
    ...{ name, md5: undefined, wanted: wantedOf(destination) },
    contents: sources.flatMap((source) => source.contents.map((content) => content.share())),
    crc32c: sources.reduce((crc, source) => joinCrc32c(crc, source.crc32c, source.bytes), 0),
    components: sources.reduce((sum, source) => sum + (source.components ?? 1), 0),
  });
}

/**
 * A copy in the bucket, whole in one answer: the service takes several for what changes its place or class.
 * @param target path segments: `b/BUCKET/o/NAME`
 * @see https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite
 */
function rewrite(state: BucketState, exchange: Exchange, name: string, target: readonly string[]): object {
  const [, bucket, , newName] = target;
  if (bucket !== state.bucket) throw new GcpFault(404, "notFound", "The specified bucket does not exist.");
  const source = find(state, name, exchange.query.get("sourceGeneration"));
  checkGeneration(state, exchange.query, checkName(newName));
  const given = givenObject(exchange.body);
  const copy = keep(state, exchange, {
    ...{ ...source, name: newName! },
    contents: source.contents.map((content) => content.share()),
    // What is said of the copy is said instead of all that was said of the source.
    wanted: Object.keys(wantedOf(given)).length > 0 ? wantedOf(given) : source.wanted,
  });
  const size = String(copy.bytes);
  const resource = objectView(state, copy, exchange.origin);
  return { kind: "storage#rewriteResponse", totalBytesRewritten: size, objectSize: size, done: true, resource };
}

/** Names in the order of their bytes; with a delimiter what is behind it is one prefix. */
function list(state: BucketState, { query, origin }: Exchange): object {
  for (const name of ["matchGlob", "startOffset", "endOffset"]) {
    if (query.has(name)) throw notBuilt(`listing by ${name}`);
  }
  const prefix = query.get("prefix") ?? "";
  const delimiter = query.get("delimiter") ?? "";
  const after = query.get("pageToken") ?? "";
  const most = Math.min(PAGE, wholeNumber(query.get("maxResults") ?? undefined) || PAGE);
  const entries = new Set<string>();
  const prefixes = new Set<string>();
  for (const name of [...state.objects.keys()].filter((one) => one.startsWith(prefix)).sort()) {
    const cut = delimiter === "" ? -1 : name.indexOf(delimiter, prefix.length);
    const entry = cut < 0 ? name : name.slice(0, cut + delimiter.length);
    if (entry <= after) continue;
    entries.add(entry);
    if (cut >= 0) prefixes.add(entry);
  }
  const page = [...entries].slice(0, most);
  const items = page
    .filter((entry) => !prefixes.has(entry))
    .map((name) => objectView(state, find(state, name), origin));
  const cut = page.filter((entry) => prefixes.has(entry));
  return {
    kind: "storage#objects",
    ...(items.length > 0 ? { items } : {}),
    ...(cut.length > 0 ? { prefixes: cut } : {}),
    ...(entries.size > most ? { nextPageToken: page.at(-1) } : {}),
  };
}

function get(state: BucketState, exchange: Exchange, name: string): Answer {
  const object = find(state, name, exchange.query.get("generation"));
  checkGeneration(state, exchange.query, name);
  if (exchange.query.get("alt") !== "media") return json(objectView(state, object, exchange.origin));
  const { contentEncoding, contentDisposition, contentLanguage, cacheControl } = object.wanted;
  const headers = {
    "content-type": contentTypeOf(object),
    ...{ "content-encoding": contentEncoding, "content-disposition": contentDisposition },
    ...{ "content-language": contentLanguage, "cache-control": cacheControl },
    "x-goog-hash": `crc32c=${crc32cText(object.crc32c)}${object.md5 === undefined ? "" : `,md5=${object.md5}`}`,
    ...{ "x-goog-generation": String(object.generation), "x-goog-metageneration": "1" },
    ...{ "x-goog-stored-content-length": String(object.bytes), "accept-ranges": "bytes" },
  };
  const range = rangeOf(header(exchange, "range"), object.bytes);
  if (range === undefined) {
    const body = readAll(object.contents, 0, object.bytes);
    return { status: 200, headers: { ...headers, "content-length": object.bytes }, body };
  }
  const { from, to } = range;
  if (from >= to) throw new GcpFault(416, "requestedRangeNotSatisfiable", "Request range not satisfiable");
  return {
    status: 206,
    headers: { ...headers, "content-length": to - from, "content-range": `bytes ${from}-${to - 1}/${object.bytes}` },
    body: readAll(object.contents, from, to),
  };
}

/** `bytes=a-b`, `bytes=a-` or `bytes=-n`, held against the object's size; anything else is the whole. */
function rangeOf(text: string | undefined, bytes: number): { from: number; to: number } | undefined {
  const parts = /^bytes=(\d*)-(\d*)$/.exec(text ?? "");
  const [first, last] = [wholeNumber(parts?.[1]), wholeNumber(parts?.[2])];
  if (first !== undefined) return { from: first, to: Math.min(bytes, (last ?? bytes) + 1) };
  return last === undefined ? undefined : { from: Math.max(0, bytes - last), to: bytes };
}

function bucketView({ bucket, location }: BucketState): object {
  return {
    kind: "storage#bucket",
    ...{ id: bucket, name: bucket, location, locationType: "multi-region", storageClass: "STANDARD" },
  };
}
