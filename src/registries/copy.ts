/**
 * Brings an image or a whole index from one registry to another, bytes unchanged, so that its digest stays.
 * Children before parents, blobs before manifests: at no moment is something there whose parts are not.
 */
import type { BlobRef } from "../images/container.ts";
import type { CallContext } from "../lib/call.ts";
import { parseManifest } from "./manifests.ts";
import type { Registry } from "./registry.ts";
import type { Manifest, Repository } from "./repository.ts";

export interface GraphCopy {
  readonly from: Registry;
  readonly fromRepository: string;
  readonly to: Repository;
  /** Brings one blob, by whatever way is shortest. */
  readonly sendBlob: (blob: BlobRef, open: () => AsyncIterable<Uint8Array>) => Promise<void>;
  /** Called when a manifest has told what there is to bring, before it is brought. */
  readonly onFound: (bytes: number) => void;
}

/** An index of indexes is allowed by the specification and seen nowhere; deeper is somebody's joke. */
const MAX_DEPTH = 3;

/** Copies everything below a manifest and the manifest itself, by digest. Tags are the caller's. */
export async function copyGraph(copy: GraphCopy, manifest: Manifest, call: CallContext, depth = 0): Promise<void> {
  const { from, fromRepository, to } = copy;
  const subject = `${fromRepository}@${manifest.digest}`;
  if (depth >= MAX_DEPTH) throw to.fail("invalid", "copy", subject, "nests indexes too deeply");
  if ((await to.digest(manifest.digest, call)) === manifest.digest) return;
  const parsed = parseManifest(manifest.bytes, manifest.mediaType, subject);
  if (parsed.kind === "index") {
    for (const { digest } of parsed.children) {
      const child = await from.manifest(fromRepository, digest, call);
      if (!child)
        throw to.fail("invalid", "copy", `${fromRepository}@${digest}`, "is listed by its index and not there");
      await copyGraph(copy, child, call, depth + 1);
    }
  } else {
    copy.onFound(parsed.blobs.reduce((sum, blob) => sum + blob.bytes, 0));
    for (const blob of parsed.blobs) await copy.sendBlob(blob, () => from.blob(fromRepository, blob, call));
  }
  await to.putManifest(manifest.digest, manifest, call);
}
