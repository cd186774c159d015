/**
 * The single calls of the distribution specification on one repository, each answering with facts already checked:
 * digests compared, sizes bounded, statuses as they are due. Nothing here is repeated; that is upload.ts's and the
 * step's business.
 * @see https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md
 */
import { createHash } from "node:crypto";
import type { BlobRef, Digest } from "../images/container.ts";
import type { CallContext } from "../lib/call.ts";
import type { ErrorCode } from "../lib/errors.ts";
import { KiB, MiB, seconds } from "../lib/units.ts";
import { BREAKS_RULES, RegistryError } from "./errors.ts";
import type { Answer, RegistryRequest, Transport } from "./http.ts";
import { ACCEPT_MANIFESTS, digestOf, MAX_MANIFEST_BYTES, OCI_INDEX } from "./manifests.ts";
import { checkReference, isDigest } from "./names.ts";

export interface Manifest {
  readonly bytes: Uint8Array;
  readonly mediaType: string;
  readonly digest: Digest;
}

export interface Repository {
  /** The registry's own name of it. */
  readonly path: string;
  readonly transport: Transport;
  readonly pullScope: string;
  readonly pushScope: string;
  manifest(reference: string, call: CallContext): Promise<Manifest | undefined>;
  /** Digest a tag points at, or the digest itself if it is there. */
  digest(reference: string, call: CallContext): Promise<Digest | undefined>;
  /** Answers with the subject the registry says it has noted (`OCI-Subject`); undefined where it keeps no referrers. */
  putManifest(reference: string, manifest: Manifest, call: CallContext): Promise<string | undefined>;
  hasBlob(blob: BlobRef, call: CallContext): Promise<boolean>;
  /** Fails with `corrupt` at its end if size or digest are wrong. */
  blob(blob: BlobRef, call: CallContext): AsyncIterable<Uint8Array>;
  tags(call: CallContext): Promise<string[]>;
  /** Pages of the referrers API, each an index; undefined where the registry has no such API. */
  referrers(subject: Digest, call: CallContext): Promise<Uint8Array[] | undefined>;
  deleteManifest(digest: Digest, call: CallContext): Promise<void>;
  /** Takes a tag away and leaves what it points at. False if the registry will not: many delete by digest only. */
  deleteTag(tag: string, call: CallContext): Promise<boolean>;
  /** @param answer the one that was wrong, if it was one: its request id goes into the error */
  fail(code: ErrorCode, operation: string, subject: string, what: string, answer?: Answer): RegistryError;
}

const TAGS_PAGE = 1000;
const MAX_TAG_PAGES = 1000;
const MAX_REFERRER_PAGES = 100;
const TAGS_BODY_BYTES = 8 * MiB;
/** The slowest link a download is waited for. */
const SLOWEST_BYTES_PER_SECOND = 64 * KiB;

export function openRepository(transport: Transport, path: string): Repository {
  const pullScope = `repository:${path}:pull`;
  const pushScope = `repository:${path}:pull,push`;
  const to = (rest: string) => `/v2/${path}/${rest}`;
  const pull = (request: Omit<RegistryRequest, "scopes">, call: CallContext) =>
    transport.call({ ...request, scopes: [pullScope] }, call);

  function fail(code: ErrorCode, operation: string, subject: string, what: string, answer?: Answer) {
    return new RegistryError(code, `${transport.display}: ${operation} of ${subject} ${what}`, {
      registry: transport.display,
      operation,
      subject,
      requestId: answer?.requestId,
      status: answer?.status,
      next:
        code === "corrupt"
          ? "nothing was tagged; try again, and tell the registry's operators if it stays so"
          : code === "unknown"
            ? BREAKS_RULES
            : undefined,
    });
  }

  /** What the registry says it has must be what was meant. The header may be absent: not every registry sends it. */
  function checkDigest(answer: Answer, expected: Digest, operation: string): void {
    const said = answer.header("docker-content-digest");
    if (said !== undefined && said !== expected) {
      throw fail("corrupt", operation, `${path}@${expected}`, `answers with digest ${said.slice(0, 80)}`, answer);
    }
  }

  async function manifest(reference: string, call: CallContext): Promise<Manifest | undefined> {
    checkReference(reference);
    const operation = "GET manifest";
    const subject = nameOf(path, reference);
    const answer = await pull(
      {
        ...{ operation, subject, method: "GET", to: to(`manifests/${reference}`) },
        ...{ headers: { accept: ACCEPT_MANIFESTS }, expect: [200, 404] },
      },
      call,
    );
    if (answer.status === 404) {
      await answer.discard();
      return undefined;
    }
    const bytes = await answer.bytes(MAX_MANIFEST_BYTES);
    const digest = digestOf(bytes);
    checkDigest(answer, digest, operation);
    if (isDigest(reference) && reference !== digest) {
      throw fail("corrupt", operation, subject, `has digest ${digest}`, answer);
    }
    const mediaType = (answer.header("content-type") ?? "").split(";")[0]!.trim();
    return { bytes, mediaType, digest };
  }

  return {
    path,
    transport,
    pullScope,
    pushScope,
    fail,
    manifest,

    async digest(reference, call) {
      checkReference(reference);
      const operation = "HEAD manifest";
      const subject = nameOf(path, reference);
      const answer = await pull(
        {
          ...{ operation, subject, method: "HEAD", to: to(`manifests/${reference}`) },
          ...{ headers: { accept: ACCEPT_MANIFESTS }, expect: [200, 404] },
        },
        call,
      );
      await answer.discard();
      if (answer.status === 404) return undefined;
      const said = answer.header("docker-content-digest");
      // A registry that does not say it has to be asked for the bytes.
      if (said === undefined) return (await manifest(reference, call))?.digest;
      if (!isDigest(said)) {
        throw fail("corrupt", operation, subject, `answers with digest ${said.slice(0, 80)}`, answer);
      }
      if (isDigest(reference) && said !== reference) {
        throw fail("corrupt", operation, subject, `answers with ${said}`, answer);
      }
      return said;
    },

    async putManifest(reference, { bytes, mediaType, digest }, call) {
      checkReference(reference);
      const operation = "PUT manifest";
      const answer = await transport.call(
        {
          ...{ operation, subject: nameOf(path, reference), method: "PUT", to: to(`manifests/${reference}`) },
          ...{ headers: { "content-type": mediaType }, body: bytes, scopes: [pushScope], expect: [201] },
        },
        call,
      );
      await answer.discard();
      checkDigest(answer, digest, operation);
      return answer.header("oci-subject");
    },

    async hasBlob(blob, call) {
      const operation = "HEAD blob";
      const subject = nameOf(path, blob.digest);
      const request = {
        operation,
        subject,
        method: "HEAD",
        to: to(`blobs/${blob.digest}`),
        expect: [200, 404],
      } as const;
      const answer = await pull(request, call);
      await answer.discard();
      if (answer.status === 404) return false;
      checkDigest(answer, blob.digest, operation);
      const length = answer.header("content-length");
      if (length !== undefined && Number(length) !== blob.bytes) {
        throw fail("corrupt", operation, subject, `says ${length.slice(0, 20)} bytes; it has ${blob.bytes}`, answer);
      }
      return true;
    },

    async *blob(blob, call) {
      const operation = "GET blob";
      const subject = nameOf(path, blob.digest);
      const deadlineMs = seconds(60 + Math.ceil(blob.bytes / SLOWEST_BYTES_PER_SECOND));
      const request = { operation, subject, method: "GET", to: to(`blobs/${blob.digest}`), expect: [200] } as const;
      const answer = await pull({ ...request, deadlineMs }, call);
      const hash = createHash("sha256");
      let seen = 0;
      for await (const chunk of answer.stream()) {
        seen += chunk.length;
        if (seen > blob.bytes)
          throw fail("corrupt", operation, subject, `has more than the ${blob.bytes} bytes declared`, answer);
        hash.update(chunk);
        yield chunk;
      }
      if (seen !== blob.bytes)
        throw fail("corrupt", operation, subject, `has ${seen} bytes instead of ${blob.bytes}`, answer);
      const digest = `sha256:${hash.digest("hex")}`;
      if (digest !== blob.digest) throw fail("corrupt", operation, subject, `has digest ${digest}`, answer);
    },

    async tags(call) {
      const found = new Set<string>();
      let next: string | URL | undefined = to(`tags/list?n=${TAGS_PAGE}`);
      for (let page = 0; next !== undefined && page < MAX_TAG_PAGES; page++) {
        const request = { operation: "GET tags", subject: path, method: "GET", to: next, expect: [200, 404] } as const;
        const answer: Answer = await pull(request, call);
        if (answer.status === 404) {
          await answer.discard();
          break;
        }
        const before = found.size;
        for (const tag of readTags(await answer.bytes(TAGS_BODY_BYTES))) found.add(tag);
        next = found.size > before ? nextPage(answer, transport.origin) : undefined;
      }
      return [...found].sort();
    },

    async referrers(subject, call) {
      const pages: Uint8Array[] = [];
      let next: string | URL | undefined = to(`referrers/${subject}`);
      for (; next !== undefined && pages.length < MAX_REFERRER_PAGES; ) {
        const answer: Answer = await pull(
          {
            ...{ operation: "GET referrers", subject: nameOf(path, subject), method: "GET", to: next },
            // 404 is how the specification lets a registry say that it has no such API; others know no such path.
            ...{ headers: { accept: OCI_INDEX }, expect: [200, 404, 405, 501] },
          },
          call,
        );
        if (answer.status !== 200) {
          await answer.discard();
          return pages.length === 0 ? undefined : pages;
        }
        pages.push(await answer.bytes(MAX_MANIFEST_BYTES));
        next = nextPage(answer, transport.origin);
      }
      return pages;
    },

    async deleteManifest(digest, call) {
      const answer = await transport.call(
        {
          ...{ operation: "DELETE manifest", subject: nameOf(path, digest), method: "DELETE" },
          ...{ to: to(`manifests/${digest}`), scopes: [`repository:${path}:delete`], expect: [202, 404] },
        },
        call,
      );
      await answer.discard();
    },

    async deleteTag(tag, call) {
      const answer = await transport.call(
        {
          ...{ operation: "DELETE tag", subject: nameOf(path, tag), method: "DELETE", to: to(`manifests/${tag}`) },
          // 400 and 405 are how the specification lets a registry refuse; docker-registry takes the tag for a digest.
          ...{ scopes: [`repository:${path}:delete`], expect: [202, 400, 404, 405] },
        },
        call,
      );
      await answer.discard();
      return answer.status === 202 || answer.status === 404;
    },
  };
}

function nameOf(path: string, reference: string): string {
  return isDigest(reference) ? `${path}@${reference}` : `${path}:${reference}`;
}

function readTags(body: Uint8Array): string[] {
  try {
    const { tags } = JSON.parse(Buffer.from(body).toString()) as { tags?: unknown };
    return Array.isArray(tags) ? tags.filter((tag): tag is string => typeof tag === "string") : [];
  } catch {
    return [];
  }
}

/** `Link: </v2/…?last=x>; rel="next"`, followed within the registry only. */
function nextPage(answer: Answer, origin: string): URL | undefined {
  const target = /<([^>]{1,4096})>\s*;\s*rel="?next"?/.exec(answer.header("link") ?? "")?.[1];
  if (!target || !URL.canParse(target, answer.url.href)) return undefined;
  const url = new URL(target, answer.url);
  return url.origin === origin ? url : undefined;
}
