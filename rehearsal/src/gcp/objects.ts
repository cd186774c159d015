/** The objects of one bucket: how they are kept, replaced and removed, and how the service describes them. */
import { z } from "zod";
import type { Exchange } from "../azure/exchange.ts";
import { crc32cText } from "./checksums.ts";
import type { Content, ContentStore } from "./content.ts";
import { GcpFault } from "./fault.ts";

export interface StoredObject {
  readonly name: string;
  /** One behind the other; a composed object has those of its sources. */
  readonly contents: readonly Content[];
  readonly bytes: number;
  readonly crc32c: number;
  /** Base64. Absent for a composed object, as with the real one. */
  readonly md5: string | undefined;
  readonly components: number | undefined;
  readonly wanted: Wanted;
  readonly generation: number;
  readonly created: number;
}

export interface BucketState {
  readonly bucket: string;
  readonly location: string;
  readonly store: ContentStore;
  readonly objects: Map<string, StoredObject>;
  /** Bytes of each accepted upload, oldest first. */
  readonly uploads: { readonly name: string; readonly bytes: number }[];
  denied(permission: string): boolean;
  nextGeneration(): number;
}

const shortText = z.string().max(1024).optional();

/** What a client may say of an object that it makes. Other fields of the resource are taken and forgotten. */
export const resource = z.object({
  name: shortText,
  md5Hash: shortText,
  crc32c: shortText,
  contentType: shortText,
  contentEncoding: shortText,
  contentDisposition: shortText,
  contentLanguage: shortText,
  cacheControl: shortText,
  metadata: z.record(z.string(), z.string()).optional(),
});

export type Wanted = Omit<z.infer<typeof resource>, "name">;
export type GivenObject = z.infer<typeof resource>;

/** @throws GcpFault 400 for what is no JSON, or no object resource */
export function givenObject(body: Buffer): GivenObject {
  return parsed(resource, body);
}

/** @throws GcpFault 400 */
export function parsed<Shape extends z.ZodType>(schema: Shape, body: Buffer): z.infer<Shape> {
  let json: unknown;
  try {
    // A field that is null counts as one that is not there; Google's Python client sends such.
    json = JSON.parse(body.toString() || "{}", (_, value) => value ?? undefined);
  } catch {
    throw new GcpFault(400, "parseError", "Parse Error");
  }
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new GcpFault(400, "invalid", `Invalid value at ${issue?.path.join(".")}: ${issue?.message}`);
}

/** @see https://cloud.google.com/storage/docs/objects#naming */
export function checkName(name: string | null | undefined): string {
  if (!name) throw new GcpFault(400, "required", "Required parameter: name");
  if (Buffer.byteLength(name) > 1024 || /[\r\n]/.test(name)) {
    throw new GcpFault(400, "invalid", `Invalid object name: ${JSON.stringify(name.slice(0, 100))}`);
  }
  return name;
}

export function need(state: BucketState, permission: string): void {
  if (!state.denied(permission)) return;
  throw new GcpFault(
    403,
    "forbidden",
    `The account does not have ${permission} access to the Google Cloud Storage object. Permission '${permission}' denied on resource (or it may not exist).`,
  );
}

/** @param generation the one that is meant; absent: the one that is there */
export function find(state: BucketState, name: string, generation?: string | null): StoredObject {
  const found = state.objects.get(name);
  if (found && (!generation || Number(generation) === found.generation)) return found;
  throw new GcpFault(404, "notFound", `No such object: ${state.bucket}/${name}`);
}

/** Holds what a request demands of the object's generation against what is there, 0 if nothing is. */
export function checkGeneration(state: BucketState, query: URLSearchParams, name: string): void {
  const wanted = query.get("ifGenerationMatch");
  if (wanted === null || Number(wanted) === (state.objects.get(name)?.generation ?? 0)) return;
  throw new GcpFault(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.");
}

/** @throws GcpFault 400 if the client said other checksums */
export function checkSums(given: Wanted, { crc32c, md5 }: { readonly crc32c: number; readonly md5: string }): void {
  const refuse = (what: string, said: string, is: string) =>
    new GcpFault(400, "invalid", `Provided ${what} "${said}" doesn't match calculated ${what} "${is}".`);
  if (given.md5Hash !== undefined && given.md5Hash !== md5) throw refuse("MD5 hash", given.md5Hash, md5);
  const crc = crc32cText(crc32c);
  if (given.crc32c !== undefined && given.crc32c !== crc) throw refuse("CRC32C", given.crc32c, crc);
}

/** Makes an object of contents that it owns from now on; one of that name is replaced. */
export function keep(
  state: BucketState,
  { now }: Pick<Exchange, "now">,
  made: Omit<StoredObject, "generation" | "created" | "bytes">,
): StoredObject {
  const bytes = made.contents.reduce((sum, content) => sum + content.bytes, 0);
  const object: StoredObject = { ...made, bytes, generation: state.nextGeneration(), created: now };
  remove(state, made.name);
  state.objects.set(made.name, object);
  return object;
}

export function remove(state: BucketState, name: string): void {
  for (const content of state.objects.get(name)?.contents ?? []) content.release();
  state.objects.delete(name);
}

export function contentTypeOf({ wanted }: StoredObject): string {
  return wanted.contentType ?? "application/octet-stream";
}

/** @param origin of the request: links are built on it, or clients would follow them to the real service */
export function objectView({ bucket }: BucketState, object: StoredObject, origin: string): object {
  const path = `storage/v1/b/${bucket}/o/${encodeURIComponent(object.name)}`;
  const time = new Date(object.created).toISOString();
  const { md5Hash: _, crc32c: __, metadata = {}, ...wanted } = object.wanted;
  return {
    kind: "storage#object",
    id: `${bucket}/${object.name}/${object.generation}`,
    ...{ bucket, name: object.name, generation: String(object.generation), metageneration: "1" },
    ...{ ...wanted, contentType: contentTypeOf(object), storageClass: "STANDARD", size: String(object.bytes) },
    ...(object.md5 === undefined ? {} : { md5Hash: object.md5 }),
    ...(object.components === undefined ? {} : { componentCount: object.components }),
    selfLink: `${origin}/${path}`,
    mediaLink: `${origin}/download/${path}?generation=${object.generation}&alt=media`,
    // Of generation and metageneration, and nothing more, as with the real one; opaque to clients.
    etag: Buffer.from(`${object.generation}/1`).toString("base64"),
    ...{ crc32c: crc32cText(object.crc32c), timeCreated: time, updated: time },
    ...(Object.keys(metadata).length > 0 ? { metadata } : {}),
  };
}
