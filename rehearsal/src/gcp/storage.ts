/** Cloud Storage's JSON API: objects of one bucket, their checksums, parts joined to a whole. */
import { createHash } from "node:crypto";
import type { Answer, Exchange } from "../azure/exchange.ts";
import { GcpFault, json, notBuilt } from "./fault.ts";

export interface StoredObject {
  readonly name: string;
  readonly pieces: readonly Buffer[];
  readonly bytes: number;
  readonly crc32c: string;
  /** Absent for a composed object, as with the real one. */
  readonly md5: string | undefined;
  readonly components: number | undefined;
  readonly contentType: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly generation: number;
  readonly created: number;
}

export interface BucketState {
  readonly bucket: string;
  readonly location: string;
  readonly objects: Map<string, StoredObject>;
  /** Bytes of each accepted upload, oldest first. */
  readonly uploads: { readonly name: string; readonly bytes: number }[];
  denied(permission: string): boolean;
  nextGeneration(): number;
}

const MOST_SOURCES = 32;
const PAGE = 1000;

export function storage(state: BucketState, exchange: Exchange): Answer {
  const upload = exchange.path[0] === "upload";
  // Google's own clients download from a path of its own.
  const moved = upload || exchange.path[0] === "download";
  const [, , , bucket, kind, name, verb] = moved ? exchange.path.slice(1) : exchange.path;
  if (bucket !== state.bucket) throw new GcpFault(404, "notFound", "The specified bucket does not exist.");
  const does = `${exchange.method} ${[upload ? "upload" : "", kind, name === undefined ? "" : "NAME", verb].filter(Boolean).join("/")}`;
  switch (does) {
    case "GET ":
      need(state, "storage.buckets.get");
      return json(bucketView(state));
    case "GET iam/NAME": {
      if (name !== "testPermissions") throw notBuilt(`bucket's ${name}`);
      const permissions = exchange.query.getAll("permissions").filter((one) => !state.denied(one));
      return json({ kind: "storage#testIamPermissionsResponse", permissions });
    }
    case "POST upload/o":
      need(state, "storage.objects.create");
      return json(objectView(state, insert(state, exchange)));
    case "GET o":
      need(state, "storage.objects.list");
      return json(list(state, exchange));
    case "GET o/NAME":
      need(state, "storage.objects.get");
      return get(state, exchange, name!);
    case "DELETE o/NAME":
      need(state, "storage.objects.delete");
      find(state, name!);
      state.objects.delete(name!);
      return { status: 204 };
    case "POST o/NAME/compose":
      need(state, "storage.objects.create");
      return json(objectView(state, compose(state, exchange, name!)));
    default:
      throw notBuilt(`storage operation ${does}`);
  }
}

function need(state: BucketState, permission: string): void {
  if (!state.denied(permission)) return;
  throw new GcpFault(
    403,
    "forbidden",
    `The account does not have ${permission} access to the Google Cloud Storage object. Permission '${permission}' denied on resource (or it may not exist).`,
  );
}

function find(state: BucketState, name: string): StoredObject {
  const found = state.objects.get(name);
  if (found) return found;
  throw new GcpFault(404, "notFound", `No such object: ${state.bucket}/${name}`);
}

function insert(state: BucketState, exchange: Exchange): StoredObject {
  if (exchange.query.get("uploadType") !== "multipart") {
    throw notBuilt(`upload of type ${exchange.query.get("uploadType")}`);
  }
  const boundary = /boundary=["']?([^"';]+)/.exec(exchange.headers["content-type"] ?? "")?.[1];
  if (!boundary) throw new GcpFault(400, "badContent", "Multipart body has no boundary.");
  const [head, data] = partsOf(exchange.body, boundary);
  const given = JSON.parse(head.toString()) as { name?: string; md5Hash?: string; crc32c?: string } & Wanted;
  const name = given.name ?? exchange.query.get("name");
  if (!name) throw new GcpFault(400, "required", "Required parameter: name");
  const md5 = createHash("md5").update(data).digest("base64");
  if (given.md5Hash !== undefined && given.md5Hash !== md5) {
    throw new GcpFault(
      400,
      "invalid",
      `Provided MD5 hash "${given.md5Hash}" doesn't match calculated MD5 hash "${md5}".`,
    );
  }
  checkGeneration(state, exchange, name);
  state.uploads.push({ name, bytes: data.length });
  return keep(state, exchange, name, [data], given, { md5, components: undefined });
}

/** The two parts of multipart/related, without their own headers. */
function partsOf(body: Buffer, boundary: string): [Buffer, Buffer] {
  const mark = `--${boundary}`;
  const second = body.indexOf(`\r\n${mark}`, mark.length);
  const end = body.lastIndexOf(`\r\n${mark}--`);
  const first = body.indexOf("\r\n\r\n");
  const inner = body.indexOf("\r\n\r\n", second + 2);
  if (!body.subarray(0, mark.length).equals(Buffer.from(mark)) || second < 0 || end <= second || inner < 0) {
    throw new GcpFault(400, "badContent", "Malformed multipart body.");
  }
  return [body.subarray(first + 4, second), Buffer.from(body.subarray(inner + 4, end))];
}

interface Wanted {
  readonly contentType?: string;
  readonly metadata?: Record<string, string>;
}

function keep(
  state: BucketState,
  exchange: Exchange,
  name: string,
  pieces: readonly Buffer[],
  { contentType = "application/octet-stream", metadata = {} }: Wanted,
  more: Pick<StoredObject, "md5" | "components">,
): StoredObject {
  const object: StoredObject = {
    ...{ name, pieces, contentType, metadata, ...more },
    bytes: pieces.reduce((sum, piece) => sum + piece.length, 0),
    crc32c: crc32c(pieces),
    generation: state.nextGeneration(),
    created: exchange.now,
  };
  state.objects.set(name, object);
  return object;
}

function checkGeneration(state: BucketState, exchange: Exchange, name: string): void {
  const wanted = exchange.query.get("ifGenerationMatch");
  if (wanted === null || Number(wanted) === (state.objects.get(name)?.generation ?? 0)) return;
  throw new GcpFault(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.");
}

function compose(state: BucketState, exchange: Exchange, name: string): StoredObject {
  const given = JSON.parse(exchange.body.toString()) as {
    sourceObjects?: { name: string; generation?: string }[];
    destination?: Wanted;
  };
  const sources = (given.sourceObjects ?? []).map((source) => find(state, source.name));
  if (sources.length === 0 || sources.length > MOST_SOURCES) {
    throw new GcpFault(
      400,
      "invalid",
      `The number of source components provided (${sources.length}) exceeds the maximum (32)`,
    );
  }
  checkGeneration(state, exchange, name);
  const components = sources.reduce((sum, source) => sum + (source.components ?? 1), 0);
  const pieces = sources.flatMap((source) => source.pieces);
  return keep(state, exchange, name, pieces, given.destination ?? {}, { md5: undefined, components });
}

function list(state: BucketState, { query }: Exchange): object {
  const prefix = query.get("prefix") ?? "";
  const after = query.get("pageToken") ?? "";
  const most = Math.min(PAGE, Number(query.get("maxResults") ?? PAGE));
  const names = [...state.objects.keys()].filter((name) => name.startsWith(prefix) && name > after).sort();
  const page = names.slice(0, most);
  return {
    kind: "storage#objects",
    ...(page.length > 0 ? { items: page.map((name) => objectView(state, find(state, name))) } : {}),
    ...(names.length > most ? { nextPageToken: page.at(-1) } : {}),
  };
}

function get(state: BucketState, exchange: Exchange, name: string): Answer {
  const object = find(state, name);
  if (exchange.query.get("alt") !== "media") return json(objectView(state, object));
  const headers = { "content-type": object.contentType, "x-goog-hash": `crc32c=${object.crc32c}` };
  const range = /^bytes=(\d+)-(\d*)$/.exec(exchange.headers.range ?? "");
  if (!range) {
    const body = (async function* () {
      yield* object.pieces;
    })();
    return { status: 200, headers: { ...headers, "content-length": object.bytes }, body };
  }
  const from = Number(range[1]);
  const to = Math.min(object.bytes - 1, range[2] ? Number(range[2]) : object.bytes - 1);
  if (from > to) throw new GcpFault(416, "requestedRangeNotSatisfiable", "Request range not satisfiable");
  const body = Buffer.concat(object.pieces).subarray(from, to + 1);
  return { status: 206, headers: { ...headers, "content-range": `bytes ${from}-${to}/${object.bytes}` }, body };
}

function bucketView({ bucket, location }: BucketState): object {
  return {
    kind: "storage#bucket",
    ...{ id: bucket, name: bucket, location, locationType: "multi-region", storageClass: "STANDARD" },
  };
}

function objectView({ bucket }: BucketState, object: StoredObject): object {
  const time = new Date(object.created).toISOString();
  return {
    kind: "storage#object",
    id: `${bucket}/${object.name}/${object.generation}`,
    ...{ bucket, name: object.name, generation: String(object.generation), metageneration: "1" },
    ...{ contentType: object.contentType, storageClass: "STANDARD", size: String(object.bytes) },
    ...(object.md5 === undefined ? {} : { md5Hash: object.md5 }),
    ...(object.components === undefined ? {} : { componentCount: object.components }),
    ...{ crc32c: object.crc32c, timeCreated: time, updated: time },
    ...(Object.keys(object.metadata).length > 0 ? { metadata: object.metadata } : {}),
  };
}

const TABLE = Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

/** CRC-32C, big endian, base64: as the service writes it. */
function crc32c(pieces: readonly Buffer[]): string {
  let crc = -1;
  for (const piece of pieces) {
    for (let at = 0; at < piece.length; at++) crc = (crc >>> 8) ^ TABLE[(crc ^ piece[at]!) & 0xff]!;
  }
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(~crc);
  return bytes.toString("base64");
}
