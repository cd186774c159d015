/**
 * Writes one index under its tags without losing an architecture that someone else brought.
 *
 * The distribution protocol has no compare-and-swap: between our look and our write another writer may have moved the
 * tag. So, in this order: writers of one process take turns; the index is merged from what the first tag holds at the
 * last moment; after the write and a short settling time it is read again, and merged again if it is not ours.
 * What is left is a writer elsewhere that takes longer than the settling time from its look to its write; the queue of
 * one writer per tag in the workflows closes that.
 */
import type { CallContext } from "../lib/call.ts";
import { MiB } from "../lib/units.ts";
import { RegistryError } from "./errors.ts";
import { keptOf, parseManifest, platformKey, platformOf, type RawDescriptor, writeIndex } from "./manifests.ts";
import { checkTag } from "./names.ts";
import type { IndexEntry, JoinedIndex, JoinOptions } from "./registry.ts";
import type { Manifest, Repository } from "./repository.ts";
import { inTurn, settle } from "./turns.ts";

const ROUNDS = 6;
const MAX_CONFIG_BYTES = 4 * MiB;

export async function joinIndex(
  repository: Repository,
  entries: readonly IndexEntry[],
  tags: readonly string[],
  options: JoinOptions & { readonly settleMs: number },
  call: CallContext,
): Promise<JoinedIndex> {
  check(repository, entries, tags);
  return inTurn(`${repository.transport.origin}/${repository.path}`, call, async () => {
    let changed = false;
    for (let round = 0; round < ROUNDS; round++) {
      const present = await repository.manifest(tags[0]!, call);
      const kept = options.keepOthers && present ? keptOf(await childrenOf(repository, present, call), entries) : [];
      const index = writeIndex(entries, kept, options.annotations);
      if (present?.digest !== index.digest) {
        await repository.putManifest(tags[0]!, index, call);
        changed = true;
        await settle(options.settleMs, call);
        if ((await repository.digest(tags[0]!, call)) !== index.digest) {
          call.log.info("another writer moved a tag, merging again", { repository: repository.path, tag: tags[0] });
          continue;
        }
      }
      // Floating tags move last, when the full version is certain.
      let moved = false;
      for (const tag of tags.slice(1)) {
        if ((await repository.digest(tag, call)) === index.digest) continue;
        await repository.putManifest(tag, index, call);
        changed = true;
        moved = true;
      }
      if (moved && (await repository.digest(tags[0]!, call)) !== index.digest) continue;
      return { digest: index.digest, tags, changed };
    }
    const name = `${repository.path}:${tags[0]}`;
    throw new RegistryError("conflict", `${name} was changed by another writer each time it was written`, {
      registry: repository.transport.display,
      operation: "PUT manifest",
      subject: name,
      tried: `${ROUNDS} rounds of merging and writing`,
      next: "find out who else writes this tag; run again when only one does",
    });
  });
}

function check(repository: Repository, entries: readonly IndexEntry[], tags: readonly string[]): void {
  for (const tag of tags) checkTag(tag);
  const refuse = (what: string) => repository.fail("invalid", "PUT manifest", repository.path, what);
  if (tags.length === 0) throw refuse("is given no tag");
  if (entries.length === 0) throw refuse("is given no image to list");
  const platforms = new Set(entries.map((entry) => platformKey(entry.platform)));
  if (platforms.size !== entries.length) throw refuse("is given two images of one platform");
}

/** What the tag lists now. A single image counts as an index of one: it is an architecture somebody uses. */
async function childrenOf(
  repository: Repository,
  present: Manifest,
  call: CallContext,
): Promise<readonly RawDescriptor[]> {
  const { bytes, mediaType, digest } = present;
  const parsed = parseManifest(bytes, mediaType, `${repository.path}@${digest}`);
  if (parsed.kind === "index") return parsed.children;
  if (parsed.config.bytes > MAX_CONFIG_BYTES) return [];
  const config: Uint8Array[] = [];
  for await (const chunk of repository.blob(parsed.config, call)) config.push(chunk);
  const platform = platformOf(readJson(Buffer.concat(config).toString()));
  return [{ mediaType, digest, size: bytes.length, bytes: bytes.length, platform }];
}

function readJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
