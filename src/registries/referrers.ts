/**
 * Artifacts that refer to a manifest by its digest: signatures, attestations, SBOMs.
 *
 * A registry that knows them answers a PUT with `OCI-Subject` and lists them under `/referrers/`. For the others the
 * specification has a tag, `sha256-<hex>`, whose index lists them; clients maintain it, so it has several writers, and
 * is treated like any index with several writers: merged from what is there, written, looked at again.
 * @see https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pushing-manifests-with-subject
 */
import type { Digest } from "../images/container.ts";
import type { CallContext } from "../lib/call.ts";
import { RegistryError } from "./errors.ts";
import { digestOf, OCI_INDEX, OCI_MANIFEST, parseManifest, type RawDescriptor } from "./manifests.ts";
import type { NewReferrer, Referrer } from "./registry.ts";
import type { Manifest, Repository } from "./repository.ts";
import { inTurn, settle } from "./turns.ts";
import { uploadBlob } from "./upload.ts";

export interface ReferrerOptions {
  readonly settleMs: number;
  readonly delaysMs: readonly number[];
}

const EMPTY = { mediaType: "application/vnd.oci.empty.v1+json", bytes: Buffer.from("{}") };
const MEDIA_TYPE = /^[A-Za-z0-9][\w!#$&^.+-]{0,126}\/[A-Za-z0-9][\w!#$&^.+-]{0,126}$/;
const ROUNDS = 6;

export const fallbackTag = (subject: Digest): string => subject.replace(":", "-");

/** Blobs, the manifest, and that it is listed. Safe to repeat. */
export async function attachReferrer(
  repository: Repository,
  subject: Digest,
  artifact: NewReferrer,
  options: ReferrerOptions,
  call: CallContext,
): Promise<Referrer> {
  const name = `${repository.path}@${subject}`;
  if (!MEDIA_TYPE.test(artifact.artifactType)) {
    throw repository.fail("invalid", "PUT referrer", name, `has no usable artifact type`);
  }
  const target = await repository.manifest(subject, call);
  if (!target) throw repository.fail("not-found", "PUT referrer", name, "is not possible: it is not there");

  const blobs = artifact.blobs.length > 0 ? artifact.blobs : [EMPTY];
  for (const { bytes, mediaType } of [EMPTY, ...blobs]) {
    const blob = { digest: digestOf(bytes), bytes: bytes.length, mediaType };
    const open = async function* () {
      yield bytes;
    };
    await uploadBlob({ repository, blob, open, onSent() {}, delaysMs: options.delaysMs }, call);
  }
  const manifest = writeReferrer(target, { ...artifact, blobs });
  return putReferrer(repository, subject, manifest, options, call);
}

/** Puts a referrer's manifest, whose blobs are there, and sees to it that it is found by its subject. */
export async function putReferrer(
  repository: Repository,
  subject: Digest,
  manifest: Manifest,
  options: ReferrerOptions,
  call: CallContext,
): Promise<Referrer> {
  const noted = await repository.putManifest(manifest.digest, manifest, call);
  if (noted !== undefined && noted !== subject) {
    const said = `answers that it refers to ${noted.slice(0, 80)}, not to ${subject}`;
    throw repository.fail("corrupt", "PUT manifest", `${repository.path}@${manifest.digest}`, said);
  }
  const referrer = describeReferrer(manifest);
  if (noted === undefined) await listByTag(repository, subject, referrer, options.settleMs, call);
  return referrer;
}

/** @throws RegistryError; SlipwayError `invalid` for a list that is none */
export async function listReferrers(
  repository: Repository,
  subject: Digest,
  artifactType: string | undefined,
  call: CallContext,
): Promise<Referrer[]> {
  const name = `${repository.path}@${subject}`;
  const pages = await repository.referrers(subject, call);
  const found = new Map<Digest, Referrer>();
  const take = (children: readonly RawDescriptor[]) => {
    for (const child of children) found.set(child.digest, referrerOf(child));
  };
  if (pages) {
    for (const page of pages) {
      const parsed = parseManifest(page, OCI_INDEX, name);
      if (parsed.kind === "index") take(parsed.children);
    }
  } else {
    const present = await repository.manifest(fallbackTag(subject), call);
    if (present?.mediaType === OCI_INDEX) take(childrenOf(repository, present));
  }
  // A registry may filter by itself, and need not: this is the same either way.
  return [...found.values()].filter((each) => artifactType === undefined || each.artifactType === artifactType);
}

/** What the manifest says of itself, as the specification wants it told beside its digest. @throws SlipwayError `invalid` */
function describeReferrer({ bytes, mediaType, digest }: Manifest): Referrer {
  parseManifest(bytes, mediaType, digest);
  const { artifactType, annotations, config } = JSON.parse(Buffer.from(bytes).toString()) as Record<string, unknown>;
  const ofConfig = (config as { mediaType?: unknown } | undefined)?.mediaType;
  const type = typeof artifactType === "string" && artifactType ? artifactType : ofConfig;
  return {
    ...{ digest, mediaType, bytes: bytes.length, annotations: stringsOf(annotations) },
    artifactType: typeof type === "string" ? type : "",
  };
}

async function listByTag(
  repository: Repository,
  subject: Digest,
  referrer: Referrer,
  settleMs: number,
  call: CallContext,
): Promise<void> {
  const tag = fallbackTag(subject);
  await inTurn(`${repository.transport.origin}/${repository.path}:${tag}`, call, async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const present = await repository.manifest(tag, call);
      const children = present ? childrenOf(repository, present) : [];
      if (children.some((child) => child.digest === referrer.digest)) return;
      await repository.putManifest(tag, withReferrer(present, referrer), call);
      // Who looked before we wrote and wrote after has displaced us. So we look again.
      await settle(settleMs, call);
    }
    throw new RegistryError("conflict", `${repository.path}:${tag} was changed by another writer each time`, {
      ...{ registry: repository.transport.display, operation: "PUT manifest", subject: `${repository.path}:${tag}` },
      tried: `${ROUNDS} rounds of merging and writing`,
      next: "find out who else attaches to this image; run again when only one does",
    });
  });
}

/** @throws RegistryError `already-exists` if the tag is something else than a list of referrers */
function childrenOf(repository: Repository, present: Manifest): readonly RawDescriptor[] {
  const { bytes, mediaType, digest } = present;
  if (mediaType === OCI_INDEX) {
    const parsed = parseManifest(bytes, mediaType, `${repository.path}@${digest}`);
    if (parsed.kind === "index") return parsed.children;
  }
  const { display } = repository.transport;
  throw new RegistryError("already-exists", `A tag for referrers in ${repository.path} is a ${mediaType}`, {
    ...{ registry: display, operation: "PUT manifest", subject: `${repository.path}@${digest}` },
    next: "such a tag (sha256-…) must be an image index; find out who made this one, and remove it",
  });
}

/** The present index with one entry more; all that others wrote in it stays as it is. */
function withReferrer(present: Manifest | undefined, referrer: Referrer): Manifest {
  const before = present
    ? (JSON.parse(Buffer.from(present.bytes).toString()) as Record<string, unknown>)
    : { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [] };
  const { mediaType, digest, bytes: size, artifactType, annotations } = referrer;
  const entry = {
    ...{ mediaType, digest, size },
    ...(artifactType ? { artifactType } : {}),
    ...(Object.keys(annotations).length > 0 ? { annotations } : {}),
  };
  const index = { ...before, manifests: [...(before.manifests as unknown[]), entry] };
  const bytes = Buffer.from(JSON.stringify(index));
  return { bytes, mediaType: OCI_INDEX, digest: digestOf(bytes) };
}

function writeReferrer(subject: Manifest, { artifactType, blobs, annotations }: NewReferrer): Manifest {
  const descriptor = (bytes: Uint8Array, mediaType: string) => ({
    ...{ mediaType, digest: digestOf(bytes), size: bytes.length },
  });
  const bytes = Buffer.from(
    JSON.stringify({
      ...{ schemaVersion: 2, mediaType: OCI_MANIFEST, artifactType },
      config: descriptor(EMPTY.bytes, EMPTY.mediaType),
      layers: blobs.map((blob) => ({
        ...descriptor(blob.bytes, blob.mediaType),
        ...(blob.annotations ? { annotations: sorted(blob.annotations) } : {}),
      })),
      subject: descriptor(subject.bytes, subject.mediaType),
      ...(annotations ? { annotations: sorted(annotations) } : {}),
    }),
  );
  return { bytes, mediaType: OCI_MANIFEST, digest: digestOf(bytes) };
}

function referrerOf({ digest, mediaType, bytes, artifactType, annotations }: RawDescriptor): Referrer {
  return {
    ...{ digest, mediaType, bytes, annotations: stringsOf(annotations) },
    artifactType: typeof artifactType === "string" ? artifactType : "",
  };
}

function stringsOf(value: unknown): Record<string, string> {
  const entries = Object.entries((value ?? {}) as Record<string, unknown>);
  return Object.fromEntries(entries.filter((entry): entry is [string, string] => typeof entry[1] === "string"));
}

const sorted = (record: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(record).sort(([one], [other]) => (one < other ? -1 : 1)));
