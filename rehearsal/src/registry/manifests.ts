import { subjectOf } from "./referrers.ts";
import type { RepositoryState } from "./state.ts";
import { type Asked, checkDigest, Refusal, sendEmpty, sha256 } from "./wire.ts";

const IMAGES = ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const INDEXES = [
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
];
const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
const MAX_BYTES = 4 * 1024 * 1024;

export function getManifest({ state, request, response, name, rest }: Asked): void {
  const repository = state.repositories.get(name);
  const digest = rest.includes(":") ? checkDigest(rest) : repository?.tags.get(rest);
  const found = digest === undefined ? undefined : repository?.manifests.get(digest);
  // As docker-registry: a type the client did not ask for is not there for it.
  if (!found || !accepted(request.headers.accept, found.mediaType)) {
    throw new Refusal(404, "MANIFEST_UNKNOWN", "manifest unknown");
  }
  response.writeHead(200, {
    "Content-Type": found.mediaType,
    "Content-Length": found.bytes.length,
    "Docker-Content-Digest": digest,
  });
  response.end(request.method === "HEAD" ? undefined : found.bytes);
}

/** @param notes whether the registry keeps referrers, and says so */
export function putManifest({ state, request, response, name, rest, body }: Asked, notes: boolean): void {
  const digest = sha256(body);
  const byDigest = rest.includes(":");
  if (byDigest && checkDigest(rest) !== digest) {
    throw new Refusal(400, "DIGEST_INVALID", "provided digest did not match uploaded content");
  }
  if (!byDigest && !TAG.test(rest)) throw new Refusal(400, "TAG_INVALID", `"${rest}" is not a tag`);
  if (body.length > MAX_BYTES) throw new Refusal(413, "SIZE_INVALID", "manifest too large");
  const mediaType = request.headers["content-type"] ?? "";
  const repository = state.repository(name);
  checkContent(repository, state.blobs, mediaType, body);
  const subject = subjectOf(body);
  repository.manifests.set(digest, { bytes: body, mediaType });
  if (!byDigest) repository.tags.set(rest, digest);
  sendEmpty(response, 201, {
    ...{ Location: `/v2/${name}/manifests/${digest}`, "Docker-Content-Digest": digest },
    ...(notes && subject ? { "OCI-Subject": subject } : {}),
  });
}

/** A manifest by digest, with every tag on it; a tag alone cannot be deleted. */
export function deleteManifest({ state, response, name, rest }: Asked): void {
  const digest = checkDigest(rest);
  const repository = state.repositories.get(name);
  if (!repository?.manifests.delete(digest)) throw new Refusal(404, "MANIFEST_UNKNOWN", "manifest unknown");
  for (const [tag, pointsAt] of repository.tags) if (pointsAt === digest) repository.tags.delete(tag);
  sendEmpty(response, 202, {});
}

/** Everything a manifest points at has to be here, with the size it says. */
function checkContent(
  repository: RepositoryState,
  blobs: ReadonlyMap<string, Buffer>,
  mediaType: string,
  body: Buffer,
): void {
  const invalid = (why: string) => new Refusal(400, "MANIFEST_INVALID", why);
  let parsed: Record<string, unknown>;
  try {
    parsed = JSON.parse(body.toString()) as Record<string, unknown>;
  } catch {
    throw invalid("manifest is not JSON");
  }
  if (parsed.schemaVersion !== 2) throw invalid("schemaVersion is not 2");
  if (parsed.mediaType !== undefined && parsed.mediaType !== mediaType) throw invalid("Content-Type is not mediaType");
  if (!IMAGES.includes(mediaType) && !INDEXES.includes(mediaType)) throw invalid(`unknown type ${mediaType}`);
  const isIndex = INDEXES.includes(mediaType);
  const children: unknown = isIndex ? parsed.manifests : parsed.layers;
  if (!Array.isArray(children)) throw invalid("nothing is listed");
  for (const child of isIndex ? children : [parsed.config, ...children]) {
    const { digest, size, mediaType: type } = (child ?? {}) as Record<string, unknown>;
    if (typeof digest !== "string" || typeof size !== "number" || typeof type !== "string") {
      throw invalid("a descriptor lacks digest, size or mediaType");
    }
    const manifest = repository.manifests.get(digest);
    const bytes = isIndex ? manifest?.bytes : repository.blobs.has(digest) ? blobs.get(digest) : undefined;
    if (!bytes) throw new Refusal(400, "MANIFEST_BLOB_UNKNOWN", `${digest} unknown to registry`);
    if (bytes.length !== size)
      throw new Refusal(400, "SIZE_INVALID", `${digest} has ${bytes.length} bytes, not ${size}`);
    if (isIndex && manifest?.mediaType !== type) throw invalid(`${digest} is a ${manifest?.mediaType}`);
  }
}

function accepted(accept: string | undefined, mediaType: string): boolean {
  const types = (accept ?? "").split(",").map((part) => part.split(";")[0]!.trim());
  return types.includes(mediaType) || types.includes("*/*");
}
