import { BUNDLE_TYPE, bundleOf, CONTAINER_RELEASE, parseEnvelope, type Statement } from "../attestations/index.ts";
import type { Attestation } from "../catalog/attestations.ts";
import type { Digest } from "../images/container.ts";
import type { CallContext } from "../lib/call.ts";
import { reportOf } from "../lib/errors.ts";
import { parseManifest } from "../registries/index.ts";
import type { Registry } from "../registries/registry.ts";
import type { ChosenContainer } from "./chosen.ts";
import type { Services } from "./services.ts";
import type { BytesWanted } from "./verify-bytes.ts";
import type { Verdict } from "./verify-images.ts";

/** A repository's index: what the statement says of it, that its tags point at it, that the statement is beside it. */
export async function verifyContainer(
  container: ChosenContainer,
  attestation: Attestation | undefined,
  statement: Statement | undefined,
  bytes: BytesWanted | undefined,
  services: Services,
  call: CallContext,
): Promise<Verdict[]> {
  const { repository, digest, target } = container;
  const about = { name: `${container.registry}/${repository}`, target };
  const verdicts: Verdict[] = [];
  if (statement !== undefined) verdicts.push({ ...about, check: "statement", ...saysOf(container, statement) });
  try {
    const registry = await services.targets.registry(target, call);
    const there = await registry.find(repository, digest, call);
    const state =
      there === undefined ? { verdict: "wrong" as const, detail: "it is gone" } : { verdict: "right" as const };
    verdicts.push({ ...about, check: "state", id: digest, ...state });
    for (const tag of ownTags(container)) {
      const at = (await registry.find(repository, tag, call))?.digest;
      const verdict = at === digest ? "right" : "wrong";
      const detail = at === digest ? tag : `${tag} ${at === undefined ? "is gone" : `points at ${at}`}`;
      verdicts.push({ ...about, check: "tag", id: digest, verdict, detail });
    }
    if (there === undefined) return verdicts;
    if (attestation !== undefined)
      verdicts.push({ ...about, check: "signature", ...(await beside(registry, container, attestation, call)) });
    if (bytes !== undefined) {
      verdicts.push({
        ...about,
        check: "bytes",
        id: digest,
        ...(await readAll(registry, repository, digest, bytes, call)),
      });
    }
  } catch (error) {
    call.signal.throwIfAborted();
    verdicts.push({ ...about, check: "state", id: digest, verdict: "unknown", detail: reportOf(error).message });
  }
  return verdicts;
}

type Bare = Pick<Verdict, "verdict" | "detail">;

/** Floating tags move on with later versions: they say nothing about this one. */
function ownTags({ tags, floating }: ChosenContainer): readonly string[] {
  return tags.filter((tag) => !floating.includes(tag));
}

function saysOf(container: ChosenContainer, statement: Statement): Bare {
  if (statement.predicateType !== CONTAINER_RELEASE) return { verdict: "wrong", detail: "it is about disk images" };
  const { subject, predicate } = statement;
  if (!subject.some((one) => `sha256:${one.digest.sha256}` === container.digest)) {
    return { verdict: "wrong", detail: `it is about sha256:${subject[0]!.digest.sha256}` };
  }
  if (predicate.compose.id !== container.composeId || predicate.repository !== container.repository) {
    return { verdict: "wrong", detail: `it is about ${predicate.repository} of ${predicate.compose.id}` };
  }
  return { verdict: "right", detail: predicate.tags.join(" ") };
}

/** Whether who pulls the container finds the statement beside it. */
async function beside(
  registry: Registry,
  { repository, digest }: ChosenContainer,
  attestation: Attestation,
  call: CallContext,
): Promise<Bare> {
  const { keyId, predicateType, envelope } = attestation;
  const ours = bundleOf(parseEnvelope(envelope), keyId, predicateType).bytes;
  for (const referrer of await registry.referrers(repository, digest as Digest, BUNDLE_TYPE, call)) {
    const manifest = await registry.manifest(repository, referrer.digest, call);
    const layers = manifest === undefined ? [] : partsOf(manifest).layers;
    for (const blob of layers.filter((one) => one.bytes === ours.length)) {
      const found = Buffer.concat(await Array.fromAsync(registry.blob(repository, blob, call)));
      if (found.equals(ours)) return { verdict: "right", detail: "beside it in the registry" };
    }
  }
  return { verdict: "wrong", detail: 'its statement is not beside it: "slipway images attest" puts it there' };
}

/** The digests of everything below an index are checked by whoever reads it; `sample` leaves out layers. */
async function readAll(
  registry: Registry,
  repository: string,
  digest: string,
  wanted: BytesWanted,
  call: CallContext,
): Promise<Bare> {
  let [read, total] = [0, 0];
  const index = await registry.find(repository, digest, call);
  for (const { digest: child } of index?.entries ?? []) {
    const manifest = await registry.manifest(repository, child, call);
    if (manifest === undefined) return { verdict: "wrong", detail: `${child} is gone` };
    const { config, layers } = partsOf(manifest);
    for (const blob of wanted === "full" ? [...config, ...layers] : config) {
      for await (const chunk of registry.blob(repository, blob, call)) total += chunk.length;
      read++;
    }
  }
  const what = wanted === "full" ? "configurations and layers" : "configurations";
  return { verdict: "right", detail: `${read} ${what}, ${total} bytes` };
}

/** The configuration, and everything else a manifest points at. */
function partsOf({ bytes, mediaType, digest }: { bytes: Uint8Array; mediaType: string; digest: string }) {
  const parsed = parseManifest(bytes, mediaType, digest);
  if (parsed.kind !== "image") return { config: [], layers: [] };
  const { config, blobs } = parsed;
  return { config: [config], layers: blobs.filter((blob) => blob.digest !== config.digest) };
}
