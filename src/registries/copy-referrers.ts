/**
 * What goes along when an image is copied: whoever checks its signature finds it beside the copy as well.
 *
 * Two ways are in use: referrers (the specification's, and cosign's since 3), and cosign's older tags, `sha256-<hex>`
 * with `.sig`, `.att` and `.sbom`, each a manifest whose layers are the signatures.
 */
import type { Digest } from "../images/container.ts";
import type { CallContext } from "../lib/call.ts";
import { copyGraph, type GraphCopy } from "./copy.ts";
import { RegistryError } from "./errors.ts";
import { parseManifest } from "./manifests.ts";
import { fallbackTag, putReferrer, type ReferrerOptions } from "./referrers.ts";
import type { Manifest } from "./repository.ts";

const COSIGN_SUFFIXES = [".sig", ".att", ".sbom"];
/** A signature of an SBOM of an image is two deep. */
const MAX_DEPTH = 4;
const MAX_REFERRERS = 1000;

/** Brings what refers to a manifest that was copied, and to what it lists. Safe to repeat. */
export async function copyReferrers(
  copy: GraphCopy,
  manifest: Manifest,
  options: ReferrerOptions,
  call: CallContext,
): Promise<void> {
  const parsed = parseManifest(manifest.bytes, manifest.mediaType, `${copy.fromRepository}@${manifest.digest}`);
  const subjects = [manifest.digest, ...(parsed.kind === "index" ? parsed.children.map(({ digest }) => digest) : [])];
  const done = new Set<Digest>();
  for (const subject of new Set(subjects)) {
    await bring(copy, subject, done, options, call, 0);
    for (const suffix of COSIGN_SUFFIXES) await copyCosignTag(copy, `${fallbackTag(subject)}${suffix}`, call);
  }
}

async function bring(
  copy: GraphCopy,
  subject: Digest,
  done: Set<Digest>,
  options: ReferrerOptions,
  call: CallContext,
  depth: number,
): Promise<void> {
  const { from, fromRepository, to } = copy;
  for (const { digest } of await from.referrers(fromRepository, subject, undefined, call)) {
    if (done.has(digest)) continue;
    done.add(digest);
    if (depth >= MAX_DEPTH || done.size > MAX_REFERRERS) {
      const what = `has more than ${MAX_REFERRERS} referrers, or ${MAX_DEPTH} generations of them`;
      throw to.fail("invalid", "copy", `${fromRepository}@${subject}`, what);
    }
    const manifest = await from.manifest(fromRepository, digest, call);
    if (!manifest) {
      // A fallback index is maintained by clients, and not all of them take out what they remove.
      call.log.warn("a referrer is listed and not there", { repository: fromRepository, subject, digest });
      continue;
    }
    await copyGraph(copy, manifest, call);
    await putReferrer(to, subject, manifest, options, call);
    await bring(copy, digest, done, options, call, depth + 1);
  }
}

async function copyCosignTag(copy: GraphCopy, tag: string, call: CallContext): Promise<void> {
  const { from, fromRepository, to } = copy;
  const manifest = await from.manifest(fromRepository, tag, call);
  if (!manifest) return;
  const present = await to.manifest(tag, call);
  if (present?.digest === manifest.digest) return;
  if (present) {
    const here = blobsOf(manifest, `${fromRepository}:${tag}`);
    const there = blobsOf(present, `${to.path}:${tag}`);
    if (here.isSubsetOf(there)) return;
    if (!there.isSubsetOf(here)) {
      throw new RegistryError("conflict", `${to.path}:${tag} holds signatures that ${fromRepository}:${tag} lacks`, {
        ...{ registry: to.transport.display, operation: "copy", subject: `${to.path}:${tag}` },
        next: "nothing was tagged; sign the image in one place again with all keys, or remove one of the two tags",
      });
    }
  }
  await copyGraph(copy, manifest, call);
  await to.putManifest(tag, manifest, call);
}

/** The signatures: their configuration only repeats which they are. */
function blobsOf({ bytes, mediaType }: Manifest, subject: string): Set<Digest> {
  const parsed = parseManifest(bytes, mediaType, subject);
  if (parsed.kind === "index") return new Set(parsed.children.map(({ digest }) => digest));
  return new Set(parsed.blobs.map(({ digest }) => digest).filter((digest) => digest !== parsed.config.digest));
}
