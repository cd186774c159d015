import { generateKeyPairSync } from "node:crypto";
import { open, readdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readSigningKey, type SigningKey } from "../attestations/index.ts";
import { SlipwayError } from "../lib/errors.ts";
import { openStage, type Play, REGIONS, type Stage } from "./testing/stage.ts";
import type { Verdict } from "./verify-images.ts";

const SECONDS = 60_000;

let stage: Stage;
let key: SigningKey;
beforeAll(async () => {
  stage = await openStage();
  key = await newKey();
  stage.signing.key = key;
}, SECONDS);
afterAll(() => stage?.close());

function newKey(): Promise<SigningKey> {
  const { privateKey } = generateKeyPairSync("ed25519");
  return readSigningKey(privateKey.export({ type: "pkcs8", format: "pem" }).toString(), undefined, "test");
}

const bad = (verdicts: readonly Verdict[]) => verdicts.filter(({ verdict }) => verdict !== "right");
const lines = (verdicts: readonly Verdict[]) =>
  verdicts.map(({ check, verdict, region = "" }) => `${check} ${verdict} ${region}`.trim());

test("what is as it was released is right, to the last byte", { timeout: SECONDS }, async () => {
  const play = await stage.play({ to: ["one"], containers: true });
  await play.release();
  for (const bytes of ["sample", "full"] as const) {
    const verdicts = await play.verify(bytes);
    expect(bad(verdicts)).toEqual([]);
    const of = (check: string) => verdicts.filter((one) => one.check === check);
    expect(of("id")).toHaveLength(REGIONS.length);
    expect(of("state")).toHaveLength(REGIONS.length + 1);
    expect(of("bytes")).toHaveLength(REGIONS.length + 1);
    expect(of("bytes")[0]).toMatchObject({ detail: "all 8 blocks" });
    expect(of("signature")).toHaveLength(3);
    expect(of("tag")).toHaveLength(1);
  }
});

test("one flipped bit in one region is found, and where", { timeout: SECONDS }, async () => {
  const play = await stage.play({ to: ["one"] });
  await play.release();
  await flipBit(play, "eu-west-1");
  const wrong = bad(await play.verify("full"));
  expect(wrong).toEqual([expect.objectContaining({ check: "bytes", verdict: "wrong", region: "eu-west-1" })]);
  expect(wrong[0]!.detail).toMatch(/^block \d is not what was sent$/);
});

async function flipBit(play: Play, region: string): Promise<void> {
  const directory = join(stage.directory, play.system, "one", region);
  const files = await readdir(directory, { recursive: true });
  const disk = files.find((file) => file.endsWith(".raw"))!;
  const file = await open(join(directory, disk), "r+");
  const [byte] = (await file.read(Buffer.alloc(1), 0, 1, 700_000)).buffer;
  await file.write(Buffer.from([byte! ^ 1]), 0, 1, 700_000);
  await file.close();
}

test("bytes that nobody can read are no fault, and are said", { timeout: SECONDS }, async () => {
  const play = await stage.play({ to: ["one"] });
  await play.release();
  play.faults.one = (cloud) => ({ ...cloud, diskBehind: async () => ({ unreadable: "it is public" }) });
  const verdicts = await play.verify("sample");
  expect(lines(bad(verdicts))).toEqual(REGIONS.map((region) => `bytes unreadable ${region}`));
});

test("a region that does not answer is unknown, not wrong", { timeout: SECONDS }, async () => {
  const play = await stage.play({ to: ["one"] });
  await play.release();
  play.faults.one = (cloud) => ({
    ...cloud,
    async find(spec, region, call) {
      if (region === "ap-south-1") throw new SlipwayError("unavailable", "it is down");
      return cloud.find(spec, region, call);
    },
  });
  expect(lines(bad(await play.verify()))).toEqual(["state unknown ap-south-1"]);
});

test("an image that is gone, and one that somebody made private, are wrong", { timeout: SECONDS }, async () => {
  const play = await stage.play({ to: ["one"] });
  await play.release();
  const [home, other] = (await play.images()).sort((a, b) => b.region.localeCompare(a.region));
  const cloud = play.cloud("one");
  const call = { log: { debug() {}, info() {}, warn() {}, error() {} }, signal: new AbortController().signal };
  const image = (one: typeof home) => ({
    ...{ kind: "image", key: one!.key, region: one!.region, id: one!.id!, name: one!.name, complete: true, tags: {} },
    state: "active" as const,
  });
  await cloud.withdraw([image(home)], {} as never, call);
  await cloud.remove(image(other) as never, call);
  expect(lines(bad(await play.verify())).sort()).toEqual(
    [`state wrong ${home!.region}`, `state wrong ${other!.region}`].sort(),
  );
});

test("an id that was exchanged in the catalog is not the attested one", { timeout: SECONDS }, async () => {
  const play = await stage.play({ to: ["one"] });
  await play.release();
  const [image] = await play.images();
  await stage.services.db
    .updateTable("cloud_images")
    .set({ cloud_id: "ami-of-somebody-else" })
    .where("target", "=", image!.target)
    .where("region", "=", "us-east-1")
    .execute();
  const wrong = bad(await play.verify());
  expect(lines(wrong)).toEqual(["id wrong us-east-1", "state wrong us-east-1"]);
  expect(wrong[0]!.id).toBe("ami-of-somebody-else");
  expect(wrong[1]!.detail).toContain("ami-of-somebody-else");
});

test("a statement that was tampered with, and one of a stranger, are not believed", { timeout: SECONDS }, async () => {
  const play = await stage.play({ to: ["one"] });
  await play.release();
  const { db } = stage.services;
  const [image] = await play.images();
  const mine = () => db.updateTable("attestations").where("subject_id", "=", image!.version.id);
  const { envelope } = await db
    .selectFrom("attestations")
    .selectAll()
    .where("subject_id", "=", image!.version.id)
    .executeTakeFirstOrThrow();
  const parsed = JSON.parse(envelope);
  const payload = Buffer.from(parsed.payload, "base64").toString().replace("us-east-1", "us-east-9");
  const spoilt = { ...parsed, payload: Buffer.from(payload).toString("base64") };
  await mine()
    .set({ envelope: JSON.stringify(spoilt) })
    .execute();
  expect(lines(bad(await play.verify()))).toEqual(["signature wrong"]);
  await mine().set({ envelope: "not an envelope" }).execute();
  expect(bad(await play.verify())[0]).toMatchObject({
    check: "signature",
    detail: expect.stringContaining("not JSON"),
  });
  await mine()
    .set({ envelope: JSON.stringify({ ...parsed, payloadType: "text/plain" }) })
    .execute();
  expect(lines(bad(await play.verify()))).toEqual(["signature wrong"]);
  await mine().set({ envelope }).execute();
  stage.signing.key = await newKey();
  try {
    expect(lines(bad(await play.verify()))).toEqual(["signature wrong"]);
    // The new key signs anew; who trusts it is content again.
    expect(await play.attest()).toMatchObject({ result: "done", attested: 1 });
    expect(bad(await play.verify())).toEqual([]);
  } finally {
    stage.signing.key = key;
  }
});

test("what was released without a key is attested later", { timeout: SECONDS }, async () => {
  stage.signing.key = undefined;
  const play = await stage.play({ to: ["one"], containers: true });
  await play.release();
  await expect(play.attest()).rejects.toMatchObject({ code: "invalid", subject: "attestations.key" });
  stage.signing.key = key;
  expect(lines(bad(await play.verify()))).toEqual(["signature wrong", "signature wrong"]);
  expect(await play.attest()).toMatchObject({ result: "done", attested: 2, failed: [] });
  expect(bad(await play.verify("full"))).toEqual([]);
  expect(await play.attest()).toMatchObject({ result: "nothing", attested: 0, unchanged: 2 });
});

test("a statement that was taken from beside its container is missed", { timeout: SECONDS }, async () => {
  const play = await stage.play({ containers: true });
  await play.release();
  play.bad.registry = (registry) => ({ ...registry, referrers: async () => [] });
  expect(lines(bad(await play.verify()))).toEqual(["signature wrong"]);
  delete play.bad.registry;
  play.bad.registry = (registry) => ({
    ...registry,
    find: async (repository, reference, call) =>
      reference.startsWith("sha256:") ? registry.find(repository, reference, call) : undefined,
  });
  expect(lines(bad(await play.verify()))).toEqual(["tag wrong"]);
});
