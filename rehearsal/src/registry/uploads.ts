import { randomUUID } from "node:crypto";
import type { Upload } from "./state.ts";
import { type Asked, checkDigest, Refusal, sendEmpty, sha256 } from "./wire.ts";

export function getBlob({ state, request, response, name, rest }: Asked): void {
  const digest = checkDigest(rest);
  const blob = state.repositories.get(name)?.blobs.has(digest) ? state.blobs.get(digest) : undefined;
  if (!blob) throw new Refusal(404, "BLOB_UNKNOWN", "blob unknown to registry");
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
  const start = Number(range?.[1] ?? 0);
  const end = Math.min(range?.[2] ? Number(range[2]) : blob.length - 1, blob.length - 1);
  if (range && start > end) throw new Refusal(416, "RANGE_INVALID", "range out of the blob");
  const part = blob.subarray(start, end + 1);
  response.writeHead(range ? 206 : 200, {
    "Content-Type": "application/octet-stream",
    "Content-Length": part.length,
    "Docker-Content-Digest": digest,
    "Accept-Ranges": "bytes",
    ...(range ? { "Content-Range": `bytes ${start}-${end}/${blob.length}` } : {}),
  });
  response.end(request.method === "HEAD" ? undefined : part);
}

/** Starts an upload, or mounts a blob of another repository, or takes a whole blob at once. */
export function startUpload(asked: Asked): void {
  const { state, response, url, name, body } = asked;
  const mount = url.searchParams.get("mount");
  const from = url.searchParams.get("from");
  if (mount !== null) {
    const digest = checkDigest(mount);
    if (from && state.repositories.get(from)?.blobs.has(digest)) {
      state.repository(name).blobs.add(digest);
      created(asked, digest);
      return;
    }
  }
  if (url.searchParams.has("digest")) {
    store(asked, body, checkDigest(url.searchParams.get("digest")));
    return;
  }
  const id = randomUUID();
  const upload: Upload = { parts: [], bytes: 0, turn: 0 };
  state.repository(name).uploads.set(id, upload);
  sendEmpty(response, 202, { ...progress(name, id, upload), "Docker-Upload-UUID": id });
}

export function getUpload(asked: Asked): void {
  const upload = find(asked);
  sendEmpty(asked.response, 204, progress(asked.name, asked.rest, upload));
}

export function patchUpload(asked: Asked): void {
  const upload = find(asked);
  checkTurn(asked, upload);
  append(asked, upload);
  sendEmpty(asked.response, 202, progress(asked.name, asked.rest, upload));
}

export function putUpload(asked: Asked): void {
  const { state, url, name, rest, body } = asked;
  const upload = find(asked);
  checkTurn(asked, upload);
  const digest = checkDigest(url.searchParams.get("digest"));
  if (body.length > 0) append(asked, upload);
  store(asked, Buffer.concat(upload.parts), digest);
  state.repository(name).uploads.delete(rest);
}

export function deleteUpload(asked: Asked): void {
  find(asked);
  asked.state.repository(asked.name).uploads.delete(asked.rest);
  sendEmpty(asked.response, 204, {});
}

function find({ state, name, rest }: Asked): Upload {
  const upload = state.repositories.get(name)?.uploads.get(rest);
  if (!upload) throw new Refusal(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry");
  return upload;
}

/** Only the Location of the last answer is good: a client that keeps the first one is wrong. */
function checkTurn({ url }: Asked, upload: Upload): void {
  if (url.searchParams.get("_state") !== String(upload.turn)) {
    throw new Refusal(404, "BLOB_UPLOAD_INVALID", "this Location has been answered already; use the new one");
  }
}

function append({ request, body }: Asked, upload: Upload): void {
  const range = request.headers["content-range"];
  if (range !== undefined) {
    const match = /^(\d+)-(\d+)$/.exec(range);
    const fits = match && Number(match[1]) === upload.bytes && Number(match[2]) === upload.bytes + body.length - 1;
    if (!fits) throw new Refusal(416, "BLOB_UPLOAD_INVALID", `${range} does not follow ${upload.bytes} bytes`);
  } else if (upload.bytes > 0 && request.method === "PATCH") {
    throw new Refusal(416, "BLOB_UPLOAD_INVALID", "a further chunk needs its Content-Range");
  }
  upload.parts.push(body);
  upload.bytes += body.length;
  upload.turn++;
}

function store(asked: Asked, bytes: Buffer, digest: string): void {
  if (sha256(bytes) !== digest) {
    throw new Refusal(400, "DIGEST_INVALID", "provided digest did not match uploaded content");
  }
  asked.state.blobs.set(digest, bytes);
  asked.state.repository(asked.name).blobs.add(digest);
  created(asked, digest);
}

function created({ response, name }: Asked, digest: string): void {
  sendEmpty(response, 201, { Location: `/v2/${name}/blobs/${digest}`, "Docker-Content-Digest": digest });
}

function progress(name: string, id: string, upload: Upload): Record<string, string> {
  return {
    Location: `/v2/${name}/blobs/uploads/${id}?_state=${upload.turn}`,
    Range: `0-${Math.max(0, upload.bytes - 1)}`,
  };
}
