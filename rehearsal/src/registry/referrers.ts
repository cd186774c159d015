/** What refers to a manifest: found by looking through the repository, so it can never be out of date. */
import { type Asked, checkDigest, Refusal } from "./wire.ts";

const INDEX = "application/vnd.oci.image.index.v1+json";

/** Digest of the manifest that this one refers to. @throws Refusal if what stands there is no descriptor */
export function subjectOf(bytes: Buffer): string | undefined {
  const { subject } = JSON.parse(bytes.toString()) as { subject?: Record<string, unknown> | null };
  if (subject === undefined || subject === null) return undefined;
  if (typeof subject.mediaType !== "string" || typeof subject.size !== "number") {
    throw new Refusal(400, "MANIFEST_INVALID", "the subject lacks mediaType or size");
  }
  return checkDigest(typeof subject.digest === "string" ? subject.digest : null);
}

/** An index, empty if nothing refers to the digest; whether that itself is there does not matter. */
export function listReferrers({ state, response, url, name, rest }: Asked): void {
  const subject = checkDigest(rest);
  const filter = url.searchParams.get("artifactType");
  const manifests = [];
  for (const [digest, { bytes, mediaType }] of state.repositories.get(name)?.manifests ?? []) {
    if (subjectOf(bytes) !== subject) continue;
    const { artifactType, annotations, config } = JSON.parse(bytes.toString());
    const type: unknown = artifactType ?? config?.mediaType;
    if (filter !== null && type !== filter) continue;
    manifests.push({
      ...{ mediaType, digest, size: bytes.length },
      ...(type === undefined ? {} : { artifactType: type }),
      ...(annotations === undefined ? {} : { annotations }),
    });
  }
  const body = JSON.stringify({ schemaVersion: 2, mediaType: INDEX, manifests });
  response.writeHead(200, {
    ...{ "Content-Type": INDEX, "Content-Length": Buffer.byteLength(body) },
    ...(filter === null ? {} : { "OCI-Filters-Applied": "artifactType" }),
  });
  response.end(body);
}

/** docker-registry 2's answer to a path it does not know: no error in JSON, but Go's own page. */
export function noSuchPage({ response }: Asked): void {
  response.writeHead(404, { "Content-Type": "text/plain; charset=utf-8" }).end("404 page not found\n");
}
