import { generateKeyPairSync } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  BUNDLE_TYPE,
  envelopeIn,
  openEnvelope,
  parseEnvelope,
  parseStatement,
  readSigningKey,
  type SigningKey,
} from "../attestations/index.ts";
import { attestationsOf, diskDigestsOf } from "../catalog/attestations.ts";
import type { Digest } from "../images/container.ts";
import { silent } from "../lib/call.ts";
import { SlipwayError } from "../lib/errors.ts";
import { openStage, type Play, REGIONS, type Stage } from "./testing/stage.ts";

const SECONDS = 60_000;
const call = { log: silent, signal: new AbortController().signal };

let stage: Stage;
let key: SigningKey;
beforeAll(async () => {
  stage = await openStage();
  key = await newKey();
  stage.signing.key = key;
}, SECONDS);
afterAll(() => stage?.close());

/** ECDSA: each signature is another one, so a statement that was signed twice shows. */
function newKey(): Promise<SigningKey> {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return readSigningKey(privateKey.export({ type: "pkcs8", format: "pem" }).toString(), undefined, "test");
}

async function attestationOf(play: Play) {
  const [image] = await play.images();
  const [container] = await play.containers();
  const id = image?.version.id ?? container!.id;
  return (await attestationsOf(stage.services.db, [id])).get(id);
}

async function statementOf(play: Play) {
  const attestation = (await attestationOf(play))!;
  const opened = openEnvelope(parseEnvelope(attestation.envelope), [key])!;
  return parseStatement(opened.payload);
}

test("what is released is bound to its ids in every cloud, and said on the bus", { timeout: SECONDS }, async () => {
  const play = await stage.play({ to: ["one", "two"] });
  const { outcome } = await play.release();
  expect(outcome.result).toBe("done");
  const statement = await statementOf(play);
  const images = await play.images();
  const { version } = images[0]!;
  expect(statement.subject).toEqual([{ name: version.artifactPath, digest: { sha256: version.artifactSha256 } }]);
  const disk = (await diskDigestsOf(stage.services.db, version.artifactSha256))!;
  expect(statement.predicate).toMatchObject({
    compose: { id: version.composeId, system: play.system },
    disk: { bytes: disk.diskBytes, blockBytes: 524288, blocksSha256: disk.blocksSha256 },
  });
  const ids = (statement.predicate as { images: { target: string; region: string; id: string }[] }).images;
  expect(ids).toHaveLength(2 * REGIONS.length);
  expect(ids.map(({ target, region, id }) => `${target} ${region} ${id}`).sort()).toEqual(
    images.map(({ target, region, id }) => `${target} ${region} ${id}`).sort(),
  );
  const said = (await play.messages()).filter(({ topic }) => topic.includes(".attested."));
  expect(said).toHaveLength(1);
  expect(openEnvelope(parseEnvelope(JSON.stringify(said[0]!.body.envelope)), [key])).toBeDefined();
});

test("the same release again is the same statement, under its first signature", { timeout: SECONDS }, async () => {
  const play = await stage.play({ to: ["one"] });
  await play.release();
  const first = await attestationOf(play);
  await play.release(true);
  expect(await attestationOf(play)).toEqual(first);
  expect((await play.messages()).filter(({ topic }) => topic.includes(".attested."))).toHaveLength(1);
});

test("a region that comes later is in the next statement", { timeout: SECONDS }, async () => {
  const play = await stage.play({ to: ["one"], offerWhen: { quorum: 0.6 } });
  play.faults.one = (cloud) => ({
    ...cloud,
    async *replicate(image, spec, regions, context) {
      for await (const outcome of cloud.replicate(image, spec, regions, context)) {
        const down = { code: "unavailable", message: "it is down" };
        yield outcome.region === "ap-south-1" ? { region: outcome.region, error: down } : outcome;
      }
    },
  });
  expect((await play.release()).outcome.result).toBe("partial");
  const before = await statementOf(play);
  delete play.faults.one;
  await play.heal(Math.floor(Math.random() * 1e9));
  const after = await statementOf(play);
  const regions = (statement: typeof before) =>
    (statement.predicate as { images: { region: string }[] }).images.map(({ region }) => region);
  expect(regions(before)).toHaveLength(REGIONS.length - 1);
  expect(regions(after)).toHaveLength(REGIONS.length);
});

test("a container has its statement beside it, as cosign looks for it", { timeout: SECONDS }, async () => {
  const play = await stage.play({ containers: true });
  await play.release();
  const [container] = await play.containers();
  const { repository, digest } = container!;
  const registry = await play.registry();
  const found = await registry.referrers(repository, digest as Digest, BUNDLE_TYPE, call);
  expect(found).toHaveLength(1);
  expect(found[0]!.annotations).toMatchObject({ "dev.sigstore.bundle.content": "dsse-envelope" });
  const manifest = await registry.manifest(repository, found[0]!.digest, call);
  const { layers } = JSON.parse(Buffer.from(manifest!.bytes).toString());
  const layer = { digest: layers[0].digest, bytes: layers[0].size, mediaType: layers[0].mediaType };
  const bundle = Buffer.concat(await Array.fromAsync(registry.blob(repository, layer, call))).toString();
  const { payload } = openEnvelope(envelopeIn(bundle), [key])!;
  expect(parseStatement(payload).subject[0]!.digest.sha256).toBe(digest.slice("sha256:".length));
  await play.release(true);
  expect(await registry.referrers(repository, digest as Digest, BUNDLE_TYPE, call)).toEqual(found);
});

test("a key that cannot be used takes nothing back; it is said", { timeout: SECONDS }, async () => {
  const { attester } = stage.services;
  const honest = attester.signer;
  try {
    Object.assign(attester, {
      signer: async () => {
        throw new SlipwayError("unauthenticated", "the passphrase does not open the key");
      },
    });
    const play = await stage.play({ to: ["one"] });
    const { outcome } = await play.release();
    expect(outcome.result).toBe("partial");
    expect(outcome.groups[0]).toMatchObject({
      targets: [{ state: "active" }],
      unattested: { code: "unauthenticated" },
    });
    expect(await attestationOf(play)).toBeUndefined();
  } finally {
    Object.assign(attester, { signer: honest });
  }
});

test("without a key nothing is attested, and the release is done", { timeout: SECONDS }, async () => {
  stage.signing.key = undefined;
  try {
    const play = await stage.play({ to: ["one"] });
    expect((await play.release()).outcome.result).toBe("done");
    expect(await attestationOf(play)).toBeUndefined();
  } finally {
    stage.signing.key = key;
  }
});
