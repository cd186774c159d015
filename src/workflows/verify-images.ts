/**
 * Whether what is out is what was attested: signature, statement, ids, states, visibility and bytes, each a verdict of its
 * own. Asks the catalog, the clouds and the registries; changes nothing.
 */
import {
  IMAGE_RELEASE,
  IN_TOTO,
  openEnvelope,
  parseEnvelope,
  parseStatement,
  type Statement,
  type VerifyingKey,
} from "../attestations/index.ts";
import { type Attestation, attestationsOf } from "../catalog/attestations.ts";
import type { CallContext } from "../lib/call.ts";
import { reportOf } from "../lib/errors.ts";
import { type Choice, readChosen } from "./chosen.ts";
import type { Services } from "./services.ts";
import { type LookedAt, lookAtChosen } from "./steps/look-at-images.ts";
import { type BytesWanted, verifyBytes } from "./verify-bytes.ts";
import { verifyContainer } from "./verify-container.ts";

export interface Verdict {
  readonly check: "signature" | "statement" | "id" | "state" | "visibility" | "tag" | "bytes";
  /** `unreadable`: the cloud lets nobody look, which is no fault. `unknown`: it did not answer. */
  readonly verdict: "right" | "wrong" | "unknown" | "unreadable";
  readonly name: string;
  readonly target: string;
  /** Absent where it is about no single region. */
  readonly region?: string;
  readonly id?: string;
  readonly detail?: string;
}

export interface VerifyOptions {
  /** Read bytes again: some blocks of each disk, or all. */
  readonly bytes?: BytesWanted | undefined;
  /** Trusted beside those configured. */
  readonly keys?: readonly VerifyingKey[];
}

export async function verifyImages(
  services: Services,
  choice: Choice,
  options: VerifyOptions,
  call: CallContext,
): Promise<Verdict[]> {
  const trusted = [...(await services.attester.trusted()), ...(options.keys ?? [])];
  const chosen = await readChosen(services.db, choice);
  const { images, containers } = await lookAtChosen(chosen, services, call);
  const subjects = [...new Set(images.map(({ place }) => place.versionId)), ...containers.map(({ id }) => id)];
  const attestations = await attestationsOf(services.db, subjects);
  const verdicts: Verdict[] = [];
  for (const [position, image] of images.entries()) {
    const onRecord = new Map(chosen.images[position]!.images.map(({ region, id }) => [region, id]));
    const about = { name: image.name, target: image.target };
    const { signature, statement } = readStatement(attestations.get(image.place.versionId), trusted);
    verdicts.push({ ...about, check: "signature", ...signature });
    if (statement !== undefined) verdicts.push(...againstStatement(image, onRecord, statement));
    verdicts.push(...states(image, onRecord), ...(await visibility(image, services, call)));
    if (options.bytes !== undefined) verdicts.push(...(await verifyBytes(image, options.bytes, services, call)));
  }
  for (const container of containers) {
    const attestation = attestations.get(container.id);
    const { signature, statement } = readStatement(attestation, trusted);
    const about = { name: `${container.registry}/${container.repository}`, target: container.target };
    verdicts.push({ ...about, check: "signature", ...signature });
    const found = await verifyContainer(container, statement && attestation, statement, options.bytes, services, call);
    verdicts.push(...found);
  }
  return verdicts;
}

type Bare = Pick<Verdict, "verdict" | "detail">;

function readStatement(
  attestation: Attestation | undefined,
  trusted: readonly VerifyingKey[],
): { signature: Bare; statement?: Statement } {
  const wrong = (detail: string) => ({ signature: { verdict: "wrong" as const, detail } });
  if (attestation === undefined) return wrong('nothing attests it: "slipway images attest" does');
  if (trusted.length === 0) {
    return { signature: { verdict: "unknown", detail: "no key is trusted: set attestations.trusted, or give --key" } };
  }
  try {
    const envelope = parseEnvelope(attestation.envelope);
    const opened = envelope.payloadType === IN_TOTO ? openEnvelope(envelope, trusted) : undefined;
    if (opened === undefined) return wrong(`signed by none of ${trusted.length} trusted keys`);
    const statement = parseStatement(opened.payload);
    return { signature: { verdict: "right", detail: `key ${opened.keyId.slice(0, 16)}` }, statement };
  } catch (error) {
    return wrong(reportOf(error).message);
  }
}

/** What the statement says against what the catalog has. */
function againstStatement(image: LookedAt, onRecord: ReadonlyMap<string, string>, statement: Statement): Verdict[] {
  const { name, target, facts, artifact } = image;
  const about = { name, target };
  const wrong = (detail: string): Verdict[] => [{ ...about, check: "statement", verdict: "wrong", detail }];
  if (statement.predicateType !== IMAGE_RELEASE) return wrong("it is about a container");
  const { predicate, subject } = statement;
  if (
    predicate.artifact.sha256 !== artifact.sha256 ||
    !subject.some(({ digest }) => digest.sha256 === artifact.sha256)
  ) {
    return wrong(`it is about another artifact: sha256:${predicate.artifact.sha256}`);
  }
  if (predicate.compose.id !== facts.composeId || predicate.compose.system !== facts.system) {
    return wrong(`it is about another compose: ${predicate.compose.id} of ${predicate.compose.system}`);
  }
  const attested = new Map(predicate.images.filter((one) => one.target === target).map((one) => [one.region, one.id]));
  const verdicts: Verdict[] = [
    { ...about, check: "statement", verdict: "right", detail: attested.size === 1 ? "1 id" : `${attested.size} ids` },
  ];
  for (const [region, id] of onRecord) {
    const said = attested.get(region);
    attested.delete(region);
    if (said === id) verdicts.push({ ...about, check: "id", verdict: "right", region, id });
    else {
      const detail = said === undefined ? "it is not attested" : `attested is ${said}`;
      verdicts.push({ ...about, check: "id", verdict: "wrong", region, id, detail });
    }
  }
  for (const [region, id] of attested) {
    verdicts.push({ ...about, check: "id", verdict: "wrong", region, id, detail: "attested, and on no record" });
  }
  return verdicts;
}

/** What the clouds have against what the catalog has. */
function states({ name, target, images, absent, known }: LookedAt, onRecord: ReadonlyMap<string, string>): Verdict[] {
  const about = { name, target, check: "state" as const };
  const there = images.map(({ region, id, state }): Verdict => {
    const [wanted, kept] = [known[region], onRecord.get(region)];
    if (id !== kept) return { ...about, verdict: "wrong", region, id, detail: `on record is ${kept}` };
    if (state === wanted) return { ...about, verdict: "right", region, id, detail: state };
    return { ...about, verdict: "wrong", region, id, detail: `${state}, on record as ${wanted}` };
  });
  const gone = absent.map(({ region, id, error }): Verdict => {
    if (error === undefined) return { ...about, verdict: "wrong", region, id, detail: "it is gone" };
    return { ...about, verdict: "unknown", region, id, detail: error.message };
  });
  return [...there, ...gone];
}

/** Asked with the second identity, where the target has one: what is offered to all is seen, what is not is not. */
async function visibility(image: LookedAt, services: Services, call: CallContext): Promise<Verdict[]> {
  const { name, target, images } = image;
  if (services.targets.facts(target).audience.to !== "public" || images.length === 0) return [];
  const about = { name, target, check: "visibility" as const };
  try {
    const cloud = await services.targets.cloud(target, call);
    if (cloud.witness === undefined) return [];
    const seen = await cloud.witness(images, call);
    return images.map(({ region, id, state }, position): Verdict => {
      const open = state === "active" || state === "deprecated";
      const detail = seen[position] ? "everybody sees it" : "nobody else sees it";
      return { ...about, verdict: seen[position] === open ? "right" : "wrong", region, id, detail };
    });
  } catch (error) {
    call.signal.throwIfAborted();
    return [{ ...about, verdict: "unknown", detail: reportOf(error).message }];
  }
}
