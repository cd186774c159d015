/**
 * Sends one blob: found, mounted from a neighbour, or uploaded; small ones in one piece, large ones in chunks that are
 * taken up again where the registry says it stopped. This is the one place of the driver that tries again.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { BlobRef } from "../images/container.ts";
import type { CallContext } from "../lib/call.ts";
import { codeOf, isTransient } from "../lib/errors.ts";
import { MiB, minutes } from "../lib/units.ts";
import { RegistryError } from "./errors.ts";
import type { Answer, RegistryRequest } from "./http.ts";
import type { Repository } from "./repository.ts";

export interface BlobUpload {
  readonly repository: Repository;
  readonly blob: BlobRef;
  /** The bytes, from the beginning; may be called again. */
  readonly open: () => AsyncIterable<Uint8Array>;
  /** A repository of the same registry that may have it. */
  readonly mountFrom?: string | undefined;
  /** Called with the bytes of every body that is sent, whether it arrives or not. */
  readonly onSent: (bytes: number) => void;
  /** Waits before the second, third … attempt. */
  readonly delaysMs: readonly number[];
}

// A chunk is held in memory so that it can be sent again; three blobs at a time make 24 MiB.
export const CHUNK_BYTES = 8 * MiB;
/** Larger chunks than this are not made, whatever the registry wishes for. */
const MAX_CHUNK_BYTES = 32 * MiB;
const MAX_RETRY_WAIT_MS = minutes(1);
export const DEFAULT_DELAYS_MS: readonly number[] = [500, 2_000, 8_000];

/** @throws RegistryError; whatever `open` throws, with the half-made upload cancelled */
export async function uploadBlob(upload: BlobUpload, call: CallContext): Promise<void> {
  const { repository, blob, delaysMs } = upload;
  if (await repository.hasBlob(blob, call)) return;
  for (let failures = 0; ; failures++) {
    try {
      return await sendOnce(upload, failures === 0 ? upload.mountFrom : undefined, call);
    } catch (error) {
      if (!isTransient(error) || failures >= delaysMs.length) throw afterAttempts(error, failures + 1, call);
      call.log.warn("sending a blob failed, trying again", {
        blob: blob.digest,
        attempt: failures + 1,
        error: String(error),
      });
      await pause(delaysMs[failures]!, error, call);
      // It may have been only the answer that was lost.
      if (await repository.hasBlob(blob, call)) return;
    }
  }
}

/** What was begun can be cancelled only where its answer says; so long that answer is waited for after a stop. */
const START_GRACE_MS = 5_000;

async function sendOnce(upload: BlobUpload, mountFrom: string | undefined, call: CallContext): Promise<void> {
  const { repository, blob } = upload;
  const started = await withGrace(call, START_GRACE_MS, (patient) => start(upload, mountFrom, patient));
  if (started === "mounted") return;
  const session = { location: started.location };
  try {
    const chunkBytes = Math.min(MAX_CHUNK_BYTES, Math.max(CHUNK_BYTES, started.minChunkBytes));
    let offset = 0;
    let last: Uint8Array | undefined;
    const wrongSize = (has: string) =>
      repository.fail("corrupt", "PUT blob", blob.digest, `was declared with ${blob.bytes} bytes and has ${has}`);
    for await (const chunk of inChunks(upload.open(), chunkBytes, blob.bytes, () => wrongSize("more"))) {
      // The last chunk of a small blob travels with the closing PUT: one call less for every config.
      if (offset === 0 && chunk.length === blob.bytes) last = chunk;
      else await sendChunk(upload, session, chunk, offset, call);
      offset += chunk.length;
    }
    if (offset !== blob.bytes) throw wrongSize(String(offset));
    await finish(upload, session.location, last, call);
  } catch (error) {
    await cancelUpload(repository, session.location, call);
    throw error;
  }
}

/** Runs a call that a stop ends only `graceMs` later. One that was stopped before begins nothing. */
async function withGrace<T>(call: CallContext, graceMs: number, run: (call: CallContext) => Promise<T>): Promise<T> {
  if (call.signal.aborted) return run(call);
  const over = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const stopped = () => {
    timer = setTimeout(() => over.abort(call.signal.reason), graceMs);
  };
  call.signal.addEventListener("abort", stopped, { once: true });
  try {
    return await run({ ...call, signal: over.signal });
  } finally {
    call.signal.removeEventListener("abort", stopped);
    clearTimeout(timer);
  }
}

interface Started {
  readonly location: URL;
  readonly minChunkBytes: number;
}

async function start(
  upload: BlobUpload,
  mountFrom: string | undefined,
  call: CallContext,
): Promise<"mounted" | Started> {
  const { repository, blob } = upload;
  const { transport, path, pushScope } = repository;
  const query = mountFrom ? `?mount=${blob.digest}&from=${encodeURIComponent(mountFrom)}` : "";
  const answer = await transport.call(
    {
      ...{ operation: "POST upload", subject: `${path}@${blob.digest}`, method: "POST" },
      ...{ to: `/v2/${path}/blobs/uploads/${query}`, headers: { "content-length": "0" } },
      scopes: mountFrom ? [pushScope, `repository:${mountFrom}:pull`] : [pushScope],
      expect: mountFrom ? [201, 202] : [202],
    },
    call,
  );
  await answer.discard();
  if (answer.status === 201) {
    const said = answer.header("docker-content-digest");
    if (said === undefined || said === blob.digest) return "mounted";
    throw repository.fail("corrupt", "POST upload", blob.digest, `answers with digest ${said.slice(0, 80)}`, answer);
  }
  const minimum = Number(answer.header("oci-chunk-min-length"));
  return { location: locationOf(repository, answer), minChunkBytes: minimum > 0 ? minimum : 0 };
}

/** Sends a chunk until the registry has all of it. `session.location` moves on with every answer. */
async function sendChunk(
  upload: BlobUpload,
  session: { location: URL },
  chunk: Uint8Array,
  offset: number,
  call: CallContext,
): Promise<void> {
  const { repository, blob, delaysMs } = upload;
  const { transport, path, pushScope } = repository;
  let done = 0;
  for (let failures = 0; done < chunk.length; ) {
    const body = chunk.subarray(done);
    const from = offset + done;
    upload.onSent(body.length);
    try {
      const answer = await transport.call(
        {
          ...{ operation: "PATCH upload", subject: `${path}@${blob.digest}`, method: "PATCH", to: session.location },
          headers: {
            "content-type": "application/octet-stream",
            "content-range": `${from}-${from + body.length - 1}`,
          },
          ...{ body, scopes: [pushScope], expect: [202] },
        },
        call,
      );
      await answer.discard();
      session.location = locationOf(repository, answer);
      const received = receivedOf(answer) ?? from + body.length;
      const wrong = (what: string) => repository.fail("unknown", "PATCH upload", blob.digest, what, answer);
      if (received <= from) throw wrong("was taken and not kept");
      if (received > from + body.length) throw wrong(`left ${received} bytes there; ${from + body.length} were sent`);
      // A part of a chunk may be taken; one byte a call would never end.
      if (received < from + body.length && failures++ >= delaysMs.length)
        throw wrong("is taken in ever smaller pieces");
      done = received - offset;
    } catch (error) {
      if (!isTransient(error) || failures >= delaysMs.length) throw error;
      await pause(delaysMs[failures++]!, error, call);
      const received = await whereItStopped(upload, session, call);
      // Before this chunk, beyond it, or forgotten: only the beginning is certain. The caller starts the blob again.
      if (received === undefined || received < offset || received > offset + chunk.length) throw error;
      done = received - offset;
    }
  }
}

/** Bytes the registry has of an upload; undefined if it does not know the upload any more. */
async function whereItStopped(
  upload: BlobUpload,
  session: { location: URL },
  call: CallContext,
): Promise<number | undefined> {
  const { repository, blob } = upload;
  const { transport, path, pushScope } = repository;
  try {
    const answer = await transport.call(
      {
        ...{ operation: "GET upload", subject: `${path}@${blob.digest}`, method: "GET", to: session.location },
        ...{ scopes: [pushScope], expect: [204] },
      },
      call,
    );
    await answer.discard();
    if (answer.header("location")) session.location = locationOf(repository, answer);
    return receivedOf(answer) ?? 0;
  } catch (error) {
    if (codeOf(error) === "cancelled") throw error;
    return undefined;
  }
}

async function finish(
  upload: BlobUpload,
  location: URL,
  body: Uint8Array | undefined,
  call: CallContext,
): Promise<void> {
  const { repository, blob } = upload;
  const { transport, path, pushScope } = repository;
  if (body) upload.onSent(body.length);
  const answer = await transport.call(
    {
      ...{ operation: "PUT blob", subject: `${path}@${blob.digest}`, method: "PUT" },
      // Appended as text: the registry's own query must come back to it unchanged, it may be signed.
      to: `${location.href}${location.search ? "&" : "?"}digest=${encodeURIComponent(blob.digest)}`,
      headers: body ? { "content-type": "application/octet-stream" } : { "content-length": "0" },
      ...(body ? { body } : {}),
      ...{ scopes: [pushScope], expect: [201] },
    },
    call,
  );
  await answer.discard();
  const said = answer.header("docker-content-digest");
  if (said !== undefined && said !== blob.digest) {
    throw repository.fail("corrupt", "PUT blob", blob.digest, `answers with digest ${said.slice(0, 80)}`, answer);
  }
}

/** Tidies up behind a failed upload, also a cancelled one; a registry that cannot will forget it by itself. */
export async function cancelUpload(repository: Repository, location: URL, call: CallContext): Promise<void> {
  const { transport, path, pushScope } = repository;
  const request: RegistryRequest = {
    ...{ operation: "DELETE upload", subject: path, method: "DELETE", to: location },
    ...{ scopes: [pushScope], expect: [204, 202, 200], deadlineMs: 5_000 },
  };
  const signal = AbortSignal.timeout(5_000);
  await transport.call(request, { log: call.log, signal }).then(
    (answer) => answer.discard(),
    () => {},
  );
}

/**
 * The Location to go on with. A registry behind a proxy that ends TLS often says http: with its own host; that is
 * read as our own scheme, never followed in clear.
 */
export function locationOf(repository: Repository, answer: Answer): URL {
  const text = answer.header("location");
  if (!text || !URL.canParse(text, answer.url.href)) {
    throw repository.fail("unknown", "POST upload", repository.path, "answers without a Location", answer);
  }
  const url = new URL(text, answer.url);
  const own = new URL(repository.transport.origin);
  if (url.protocol === "http:" && own.protocol === "https:" && url.hostname === own.hostname) {
    url.protocol = "https:";
    url.port = own.port;
  }
  url.hash = "";
  return url;
}

/** `Range: 0-1023` says 1024 bytes are there. docker-registry answers `0-0` to an upload that has none as well. */
function receivedOf(answer: Answer): number | undefined {
  const match = /^(?:bytes=)?0-(\d{1,15})$/.exec(answer.header("range") ?? "");
  if (!match) return undefined;
  return match[1] === "0" ? 0 : Number(match[1]) + 1;
}

/** Cuts a stream of `total` bytes into pieces of exactly this size, the last one shorter. */
async function* inChunks(
  source: AsyncIterable<Uint8Array>,
  size: number,
  total: number,
  tooLong: () => Error,
): AsyncIterable<Uint8Array> {
  let left = total;
  let fill = 0;
  // A new buffer each time: the one before may still be in a socket that is being torn down.
  let chunk = Buffer.allocUnsafeSlow(Math.min(size, left));
  for await (const piece of source) {
    for (let rest = piece; rest.length > 0; ) {
      if (left === 0) throw tooLong();
      const part = rest.subarray(0, chunk.length - fill);
      chunk.set(part, fill);
      fill += part.length;
      rest = rest.subarray(part.length);
      if (fill < chunk.length) continue;
      left -= fill;
      yield chunk;
      fill = 0;
      chunk = Buffer.allocUnsafeSlow(Math.min(size, left));
    }
  }
  if (fill > 0) yield chunk.subarray(0, fill);
}

/** Waits as long as we would, or as long as the registry asks: within reason. */
async function pause(ms: number, error: unknown, call: CallContext): Promise<void> {
  const asked = error instanceof RegistryError ? (error.retryAfterMs ?? 0) : 0;
  await sleep(Math.max(ms, Math.min(asked, MAX_RETRY_WAIT_MS)), undefined, { signal: call.signal }).catch(() =>
    call.signal.throwIfAborted(),
  );
}

function afterAttempts(error: unknown, attempts: number, call: CallContext): unknown {
  if (attempts === 1 || call.signal.aborted || !(error instanceof RegistryError)) return error;
  const { registry, operation, status, subject, requestId, next, cause } = error;
  const tried = [`${attempts} attempts`, error.tried].filter(Boolean).join("; ");
  return new RegistryError(error.code, error.message, {
    registry,
    operation,
    status,
    subject,
    requestId,
    next,
    cause,
    tried,
  });
}
