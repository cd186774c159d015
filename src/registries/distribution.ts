/**
 * The one driver there is: any registry that speaks the OCI distribution protocol, version 2 (quay.io,
 * registry.fedoraproject.org, docker-registry, Harbor, zot …).
 *
 * What stands where: `http.ts` makes a call, `auth.ts` proves who we are, `repository.ts` has the protocol's single
 * calls, `upload.ts` sends a blob, `join.ts` writes an index, `referrers.ts` attaches signatures, `copy.ts` and
 * `copy-referrers.ts` bring a graph and what refers to it, `manifests.ts` reads and writes what they all carry. It knows no compose, no system and no catalog.
 */
import type { Dispatcher } from "undici";
import type { BlobRef, ContainerImage, Digest } from "../images/container.ts";
import type { CallContext } from "../lib/call.ts";
import { codeOf, reportOf } from "../lib/errors.ts";
import type { Credentials } from "./auth.ts";
import { copyGraph } from "./copy.ts";
import { copyReferrers } from "./copy-referrers.ts";
import { createTransport, type Patience } from "./http.ts";
import { joinIndex } from "./join.ts";
import { entriesOf, parseManifest } from "./manifests.ts";
import { checkReference, checkTag, parseAddress, repositoryPath } from "./names.ts";
import { attachReferrer, listReferrers } from "./referrers.ts";
import type { PushContext, Registry, RegistryFinding } from "./registry.ts";
import { openRepository, type Repository } from "./repository.ts";
import { cancelUpload, DEFAULT_DELAYS_MS, locationOf, uploadBlob } from "./upload.ts";

export interface RegistryOptions {
  /** Host and optional path prefix, `quay.io/fedora`; a scheme may stand before it. */
  readonly url: string;
  readonly credentials?: Credentials;
  /** PEM of a private authority. */
  readonly ca?: string;
  /** PEMs of a client certificate, for registries that ask for one. */
  readonly clientCert?: { readonly cert: string; readonly key: string };
  /** Plain http, to this machine only. */
  readonly insecure?: boolean;
  /** Used for every connection instead of our own; brings its own proxy and TLS settings. Closed by its owner. */
  readonly dispatcher?: Dispatcher;
  /** Waits between attempts at one blob, and so how many attempts there are. Default 0.5, 2 and 8 s. */
  readonly retryDelaysMs?: readonly number[];
  /** How long a written index is left alone before it is read again for other writers' work. Default 1 s. */
  readonly settleMs?: number;
  /** How long the registry is waited for. */
  readonly patience?: Partial<Patience>;
}

/** Blobs of one image on their way at once, where the archive allows reading at several places. */
const BLOB_LANES = 3;
const DEFAULT_SETTLE_MS = 1_000;

/** @throws SlipwayError `invalid` for an address that cannot be used; nothing is contacted yet */
export function openRegistry(options: RegistryOptions): Registry {
  const address = parseAddress(options.url, options.insecure ?? false);
  const { credentials, ca, clientCert, dispatcher } = options;
  const delaysMs = options.retryDelaysMs ?? DEFAULT_DELAYS_MS;
  const transport = createTransport({ address, credentials, ca, clientCert, dispatcher, patience: options.patience });
  const referring = { settleMs: options.settleMs ?? DEFAULT_SETTLE_MS, delaysMs };
  const open = (repository: string) => openRepository(transport, repositoryPath(address, repository));

  async function check(repositories: readonly string[], call: CallContext): Promise<RegistryFinding[]> {
    const findings: RegistryFinding[] = [];
    const attempt = async (subject: string, work: () => Promise<void>) => {
      try {
        await work();
        return true;
      } catch (error) {
        if (call.signal.aborted) throw error;
        const { code, message, next } = reportOf(error);
        findings.push({ severity: "error", subject, message, code, ...(next ? { next } : {}) });
        return false;
      }
    };
    const request = { operation: "GET /v2/", method: "GET", to: "/v2/", scopes: [], expect: [200] } as const;
    const answers = await attempt(address.display, async () => (await transport.call(request, call)).discard());
    if (!answers) return findings;
    for (const name of repositories)
      await attempt(`push to ${address.display}/${name}`, () => mayPush(open(name), call));
    return findings;
  }

  /** Blobs, then the manifest by digest. */
  async function push(name: string, image: ContainerImage, call: PushContext) {
    const repository = open(name);
    const { manifest: bytes, manifestDigest: digest, mediaType, platform } = image;
    const meter = createMeter(call);
    meter.found(image.blobs.reduce((sum, blob) => sum + blob.bytes, 0));
    if ((await repository.digest(digest, call)) === undefined) {
      const lanes = image.access === "sequential" ? 1 : BLOB_LANES;
      await inLanes(lanes, image.blobs, call, async (blob, laneCall) => {
        const source = () => image.open(blob, laneCall);
        await uploadBlob({ repository, blob, open: source, onSent: meter.sent, delaysMs }, laneCall);
        meter.done(blob.bytes);
      });
      await repository.putManifest(digest, { bytes, mediaType, digest }, call);
      meter.sent(bytes.length);
    }
    return { digest, mediaType, bytes: bytes.length, platform, sentBytes: meter.sentBytes };
  }

  async function copy(
    from: Registry,
    source: { repository: string; reference: string },
    name: string,
    tags: readonly string[],
    call: PushContext,
  ): Promise<Digest> {
    for (const tag of tags) checkTag(tag);
    const to = open(name);
    const manifest = await from.manifest(source.repository, source.reference, call);
    if (!manifest) {
      throw to.fail("not-found", "copy", `${from.url}/${source.repository}:${source.reference}`, "is not there");
    }
    const meter = createMeter(call);
    const mountFrom = sameHost(from.url, address.display) ? pathIn(from.url, source.repository) : undefined;
    const sendBlob = async (blob: BlobRef, openBlob: () => AsyncIterable<Uint8Array>) => {
      await uploadBlob({ repository: to, blob, open: openBlob, mountFrom, onSent: meter.sent, delaysMs }, call);
      meter.done(blob.bytes);
    };
    const graph = { from, fromRepository: source.repository, to, sendBlob, onFound: meter.found };
    await copyGraph(graph, manifest, call);
    await copyReferrers(graph, manifest, referring, call);
    for (const tag of tags) {
      if ((await to.digest(tag, call)) !== manifest.digest) await to.putManifest(tag, manifest, call);
    }
    return manifest.digest;
  }

  return {
    url: address.display,
    check,
    push,
    copy,

    async find(name, reference, call) {
      const repository = open(name);
      const found = await repository.manifest(reference, call);
      if (!found) return undefined;
      const { digest, mediaType, bytes } = found;
      const parsed = parseManifest(bytes, mediaType, `${repository.path}@${digest}`);
      const entries = parsed.kind === "index" ? { entries: entriesOf(parsed.children) } : {};
      return { digest, mediaType, bytes: bytes.length, ...entries };
    },

    joinIndex: async (name, entries, tags, join, call) =>
      joinIndex(open(name), entries, tags, { ...join, settleMs: referring.settleMs }, call),

    async attach(name, subject, artifact, call) {
      checkReference(subject);
      return attachReferrer(open(name), subject, artifact, referring, call);
    },

    async referrers(name, subject, artifactType, call) {
      checkReference(subject);
      return listReferrers(open(name), subject, artifactType, call);
    },

    async tag(name, digest, tag, call) {
      checkTag(tag);
      const repository = open(name);
      if ((await repository.digest(tag, call)) === digest) return;
      const manifest = await repository.manifest(digest, call);
      if (!manifest) throw repository.fail("not-found", "PUT manifest", `${repository.path}@${digest}`, "is not there");
      await repository.putManifest(tag, manifest, call);
    },

    async untag(name, tag, call) {
      checkTag(tag);
      const repository = open(name);
      const refused = !(await repository.deleteTag(tag, call));
      if ((await repository.digest(tag, call)) === undefined) return;
      const why = refused ? "is refused: this registry deletes by digest only" : "was accepted and not done";
      throw repository.fail("unsupported", "DELETE tag", `${repository.path}:${tag}`, why);
    },

    tags: async (name, call) => open(name).tags(call),
    remove: async (name, digest, call) => open(name).deleteManifest(digest, call),
    manifest: async (name, reference, call) => open(name).manifest(reference, call),
    blob: (name, blob, call) => open(name).blob(blob, call),
    close: () => transport.close(),
  };
}

/**
 * Asks for an upload and takes it back at once: the one question about permission every registry answers truthfully
 * (token services grant less than was asked for, silently). No blob and no tag comes of it.
 */
async function mayPush(repository: Repository, call: CallContext): Promise<void> {
  const { path, pushScope: scope, transport } = repository;
  const answer = await transport.call(
    {
      ...{ operation: "POST upload", subject: path, method: "POST", to: `/v2/${path}/blobs/uploads/` },
      ...{ headers: { "content-length": "0" }, scopes: [scope], expect: [202] },
    },
    call,
  );
  await answer.discard();
  await cancelUpload(repository, locationOf(repository, answer), call);
}

/** Counts for `onProgress`, and for the answer. */
function createMeter(call: PushContext) {
  let [doneBytes, totalBytes, sentBytes] = [0, 0, 0];
  const tell = () => call.onProgress?.({ doneBytes, totalBytes, sentBytes });
  return {
    get sentBytes() {
      return sentBytes;
    },
    found(bytes: number) {
      totalBytes += bytes;
      tell();
    },
    done(bytes: number) {
      doneBytes += bytes;
      tell();
    },
    sent(bytes: number) {
      sentBytes += bytes;
      tell();
    },
  };
}

/** Works through a list, a few at a time. The first failure stops the others and is the one that is thrown. */
async function inLanes<T>(
  lanes: number,
  items: readonly T[],
  call: CallContext,
  work: (item: T, call: CallContext) => Promise<void>,
): Promise<void> {
  const stop = new AbortController();
  const laneCall = { log: call.log, signal: AbortSignal.any([call.signal, stop.signal]) };
  const queue = items.values();
  const failures: unknown[] = [];
  const lane = async () => {
    for (const item of queue) {
      if (stop.signal.aborted) return;
      try {
        await work(item, laneCall);
      } catch (error) {
        failures.push(error);
        stop.abort(error);
      }
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  if (failures.length > 0) throw failures.find((error) => codeOf(error) !== "cancelled") ?? failures[0];
}

function sameHost(a: string, b: string): boolean {
  return a.split("/")[0] === b.split("/")[0];
}

function pathIn(url: string, repository: string): string {
  return [...url.split("/").slice(1), repository].join("/");
}
