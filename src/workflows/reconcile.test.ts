import { afterAll, beforeAll, expect, test } from "vitest";
import { recordContainer } from "../catalog/catalog.ts";
import { specsOf } from "../catalog/offers.ts";
import type { Cloud } from "../clouds/index.ts";
import { quietCall } from "../lib/call.ts";
import { SlipwayError } from "../lib/errors.ts";
import { IMAGE, openStage, REGIONS, type Stage } from "./testing/stage.ts";

let stage: Stage;
beforeAll(async () => {
  stage = await openStage();
}, 120_000);
afterAll(() => stage?.close());

const call = quietCall();
type Play = Awaited<ReturnType<Stage["play"]>>;

const lacking =
  (region: string) =>
  (cloud: Cloud): Cloud => ({
    ...cloud,
    async *replicate(image, spec, regions, context) {
      yield* cloud.replicate(
        image,
        spec,
        regions.filter((one) => one !== region),
        context,
      );
      if (regions.includes(region)) yield { region, error: { code: "quota", message: "is full" } };
    },
  });

async function removeFrom(play: Play, region: string): Promise<void> {
  const row = (await play.images()).find((one) => one.region === region)!;
  for await (const resource of play.cloud("one").list([region], call)) {
    if (resource.id === row.id && resource.region === region) await play.cloud("one").remove(resource, call);
  }
}

async function stateIn(play: Play, region: string): Promise<string | undefined> {
  const { key, name } = (await play.images())[0]!;
  return (await play.cloud("one").find({ key, diskKey: "", name } as never, region, call)).image?.state;
}

const kinds = (found: readonly { kind: string; region: string }[]) => found.map((one) => `${one.region} ${one.kind}`);

test("nothing differs: nothing is done and nothing is said", async () => {
  const play = await stage.play({ to: ["one"] });
  await play.release();
  expect(await play.reconcile()).toMatchObject({ result: "nothing", repaired: [], left: [] });
  expect(await play.offers()).toEqual([]);
});

test("an image that is gone is made again and offered, and one that is private again is offered", async () => {
  const play = await stage.play({ to: ["one"] });
  await play.release();
  await removeFrom(play, "eu-west-1");
  const row = (await play.images()).find((one) => one.region === "ap-south-1")!;
  const spec = { key: row.key, diskKey: "", name: row.name } as never;
  const { image } = await play.cloud("one").find(spec, "ap-south-1", call);
  await play.cloud("one").withdraw([image!], spec, call);

  const outcome = await play.reconcile();
  expect(outcome).toMatchObject({ result: "done", left: [] });
  expect(kinds(outcome.repaired)).toEqual(["ap-south-1 not-public", "eu-west-1 missing"]);
  for (const region of REGIONS) expect(await stateIn(play, region)).toBe("active");
  expect(await play.reconcile()).toMatchObject({ result: "nothing" });
});

test("what users see and should not, and what was deprecated by hand: reported, and written down", async () => {
  const play = await stage.play({ to: ["one"], releaseAs: "candidate" });
  await play.release();
  const row = (await play.images())[0]!;
  const spec = { key: row.key, diskKey: "", name: row.name } as never;
  const at = async (region: string) => (await play.cloud("one").find(spec, region, call)).image!;
  await play.cloud("one").offer([await at("eu-west-1")], spec, { to: "public" }, call);
  await play.cloud("one").setState(await at("ap-south-1"), "deprecated", call);
  const outcome = await play.reconcile();
  expect(outcome.result).toBe("partial");
  expect(kinds(outcome.left)).toEqual(["eu-west-1 public"]);
  expect(kinds(outcome.repaired)).toEqual(["ap-south-1 state"]);
  expect((await play.images()).find((one) => one.region === "ap-south-1")?.state).toBe("deprecated");
  expect(await stateIn(play, "eu-west-1")).toBe("active");
});

test("a home region that is gone cannot be repaired: the release has to make it again", async () => {
  const play = await stage.play({ to: ["one"] });
  await play.release();
  await removeFrom(play, "us-east-1");
  const outcome = await play.reconcile();
  expect(outcome).toMatchObject({
    result: "failed",
    left: [{ kind: "missing", region: "us-east-1", repairable: false }],
  });
});

test("a cloud that does not answer is no drift: nothing is known, nothing is done", async () => {
  const play = await stage.play({ to: ["one"] });
  await play.release();
  play.faults.one = (cloud) => ({
    ...cloud,
    async find() {
      throw new SlipwayError("unavailable", "is down");
    },
  });
  const outcome = await play.reconcile();
  expect(new Set(outcome.left.map((one) => one.kind))).toEqual(new Set(["silent"]));
  expect(outcome.repaired).toEqual([]);
});

test("a region that was full is caught up with on schedule, and the whole map is announced; a candidate's is not", async () => {
  const play = await stage.play({ to: ["one"], offerWhen: { quorum: 0.6 } });
  play.faults.one = lacking("ap-south-1");
  await play.release();
  expect(await play.heal(1)).toMatchObject({ result: "failed", left: [{ error: { message: "is full" } }] });
  delete play.faults.one;
  expect(await play.heal(2)).toMatchObject({ result: "done" });
  expect(await stateIn(play, "ap-south-1")).toBe("active");
  expect((await play.images()).map((row) => row.state)).toEqual(["active", "active", "active"]);
  const [message, ...more] = await play.offers();
  expect(more).toEqual([]);
  expect(message?.topic).toBe("fedora_image_uploader.published.v1.aws.rc.Cloud_Base.x86_64");
  expect(message?.body).toMatchObject({ image_name: IMAGE });
  expect(Object.keys(message?.body.regions as object).sort()).toEqual([...REGIONS].sort());
  expect(await play.heal(3)).toBeUndefined();

  const waiting = await stage.play({ to: ["one"] });
  waiting.faults.one = lacking("ap-south-1");
  await waiting.release();
  delete waiting.faults.one;
  expect(await waiting.heal(4)).toBeUndefined();
});

test("a region that was seen by one attempt and not by the next is left behind, and caught up with", {
  timeout: 60_000,
}, async () => {
  const play = await stage.play({ to: ["one"], offerWhen: { quorum: 0.6 } });
  let attempts = 0;
  play.faults.one = (cloud) => ({
    ...cloud,
    async *replicate(image, spec, regions, call) {
      attempts++;
      for await (const outcome of cloud.replicate(image, spec, regions, call)) {
        const down = { code: "unavailable", message: "the answer was lost" };
        const lost = outcome.region === (attempts === 1 ? "eu-west-1" : "ap-south-1");
        yield lost ? { region: outcome.region, error: down } : outcome;
      }
    },
  });
  const { outcome } = await play.release();
  expect(attempts).toBeGreaterThan(1);
  expect(outcome.groups[0]!.targets[0]).toMatchObject({ state: "active", missing: [{ region: "ap-south-1" }] });
  const stateOf = async (region: string) => (await play.images()).find((image) => image.region === region)?.state;
  expect(await stateOf("ap-south-1")).toBe("missing");

  delete play.faults.one;
  await play.heal(Math.floor(Math.random() * 1e9));
  expect(await stateOf("ap-south-1")).toBe("active");
});

test("a container's tags that somebody moved or took away are put back; an index that is gone is reported", {
  timeout: 60_000,
}, async () => {
  const play = await stage.play({ containers: true });
  await play.release();
  const [container] = await play.containers();
  const { repository, digest, tags } = container!;
  const registry = await play.registry();
  const own = tags[0]!;
  expect(await play.reconcile()).toMatchObject({ result: "nothing" });

  // This registry deletes by digest only; that the tag is gone is what the first look at it says.
  let looks = 0;
  play.bad.registry = (real) => ({
    ...real,
    find: async (name, reference, context) =>
      reference === own && looks++ === 0 ? undefined : real.find(name, reference, context),
  });
  const children = (await registry.find(repository, digest, call))!.entries!;
  await registry.tag(repository, children[0]!.digest, "latest", call);
  const outcome = await play.reconcile();
  expect(outcome).toMatchObject({ result: "done", left: [] });
  expect(outcome.repaired).toHaveLength(2);
  expect(outcome.repaired).toEqual(
    expect.arrayContaining([
      expect.objectContaining({ kind: "wrong-tags", region: own, detail: "the tag is gone" }),
      expect.objectContaining({
        kind: "wrong-tags",
        region: "latest",
        detail: `the tag points at ${children[0]!.digest}`,
      }),
    ]),
  );
  for (const tag of tags) expect((await registry.find(repository, tag, call))?.digest).toBe(digest);

  play.bad.registry = (real) => ({ ...real, find: async () => undefined });
  expect(await play.reconcile()).toMatchObject({ result: "failed", left: [{ kind: "missing", repairable: false }] });
  play.bad.registry = (real) => ({
    ...real,
    find: async () => {
      throw new SlipwayError("unavailable", "it is down");
    },
  });
  expect(await play.reconcile()).toMatchObject({ result: "failed", left: [{ kind: "silent" }] });
});

test("a floating tag that a newer version has taken is no drift of the older one", { timeout: 60_000 }, async () => {
  const play = await stage.play({ containers: true });
  await play.release();
  const [container] = await play.containers();
  const { repository, digest } = container!;
  const registry = await play.registry();
  const newer = {
    ...container!,
    composeId: "Fedora-43-20251022.0",
    digest: (await registry.find(repository, digest, call))!.entries![0]!.digest,
  };
  await recordContainer(stage.services.db, { ...newer, system: `${play.system}-newer` }, "run");
  for (const tag of newer.floating) await registry.tag(repository, newer.digest, tag, call);
  expect(await play.reconcile()).toMatchObject({ result: "nothing" });
});

test("tags that somebody changed in a cloud are set right", { timeout: 60_000 }, async () => {
  const play = await stage.play({ to: ["one"] });
  await play.release();
  const spec = (await specsOf(stage.services.db, [(await play.images())[0]!.version.id])).values().next().value!;
  const cloud = play.cloud("one");
  const { image } = await cloud.find(spec, "eu-west-1", call);
  await cloud.retag!(image!, { ...spec, tags: { ...spec.tags, ComposeID: "another" } }, call);
  const outcome = await play.reconcile();
  expect(outcome).toMatchObject({ result: "done", left: [] });
  expect(outcome.repaired).toMatchObject([
    { kind: "wrong-tags", region: "eu-west-1", detail: 'ComposeID is "another"' },
  ]);
  expect(await play.reconcile()).toMatchObject({ result: "nothing" });
});
