import { afterAll, beforeAll, expect, test } from "vitest";
import type { Cloud } from "../clouds/index.ts";
import { quietCall } from "../lib/call.ts";
import { SlipwayError } from "../lib/errors.ts";
import type { Registry } from "../registries/index.ts";
import { IMAGE, openStage, REGIONS, type Stage } from "./testing/stage.ts";

let stage: Stage;
beforeAll(async () => {
  stage = await openStage();
}, 120_000);
afterAll(() => stage?.close());

const call = quietCall();
type Play = Awaited<ReturnType<Stage["play"]>>;

const broken =
  (verb: "offer" | "withdraw" | "setState", region?: string) =>
  (cloud: Cloud): Cloud => ({
    ...cloud,
    async [verb](images: Parameters<Cloud["offer"]>[0], ...rest: never[]) {
      if (region === undefined || images.some((image) => image.region === region)) {
        throw new SlipwayError("forbidden", `${verb} does not work today`);
      }
      return (cloud[verb] as (...given: unknown[]) => Promise<void>)(images, ...rest);
    },
  });

async function states(play: Play): Promise<string[]> {
  return [...new Set((await play.images()).map((row) => row.state))].sort();
}

async function inCloud(play: Play, role: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { kind, region, key, name } of play.cloud(role).list(REGIONS, call)) {
    if (kind !== "image") continue;
    const { image } = await play.cloud(role).find({ key, diskKey: "", name } as never, region, call);
    found.push(image?.state ?? "?");
  }
  return [...new Set(found)].sort();
}

const tagged = async (registry: Registry, tag: string) => (await registry.find("fedora", tag, call))?.digest;

test("a candidate is promoted everywhere, announced in its readers' words, and rolled back again", async () => {
  const play = await stage.play({ to: ["one", "two"], releaseAs: "candidate" });
  await play.release();
  const promoted = await play.promote();
  expect(promoted).toMatchObject({ result: "done", images: [{ name: IMAGE, state: "active" }, { state: "active" }] });
  expect(Object.keys(promoted.images[0]!.regions).sort()).toEqual([...REGIONS].sort());
  expect(promoted.offerSeconds).toBeGreaterThanOrEqual(0);
  expect(await states(play)).toEqual(["active"]);
  expect(await inCloud(play, "two")).toEqual(["active"]);

  expect(await play.promote()).toMatchObject({ result: "nothing" });

  expect(await play.rollBack()).toMatchObject({
    result: "done",
    images: [{ state: "candidate" }, { state: "candidate" }],
  });
  expect(await states(play)).toEqual(["candidate"]);
  expect(await inCloud(play, "one")).toEqual(["candidate"]);
  expect(await play.rollBack()).toMatchObject({ result: "nothing" });

  const topics = (await play.offers()).map((message) => message.topic.split(".").slice(1, 4).join(".")).sort();
  const each = ["promoted.v1.aws", "published.v1.aws", "rolled_back.v1.aws"];
  expect(topics).toEqual(each.flatMap((topic) => [topic, topic]));
});

test("released as a candidate first, the whole release offers it and moves its tags", async () => {
  const play = await stage.play({ to: ["one"], containers: true });
  expect((await play.release(false, "candidate")).outcome).toMatchObject({ result: "done" });
  expect(await states(play)).toEqual(["candidate"]);
  expect(await tagged(play.registry(), "latest")).toBeUndefined();
  expect(await play.release(false, "candidate")).toMatchObject({ how: "finished" });
  expect((await play.release()).outcome).toMatchObject({ result: "done" });
  expect(await states(play)).toEqual(["active"]);
  expect(await play.containers()).toMatchObject([{ state: "active" }]);
  expect(await tagged(play.registry(), "latest")).toBeDefined();
});

test("deprecated instead of private: users keep what they run", async () => {
  const play = await stage.play({ to: ["one"] });
  await play.release();
  expect(await play.rollBack("deprecated")).toMatchObject({ result: "done", images: [{ state: "deprecated" }] });
  expect(await inCloud(play, "one")).toEqual(["deprecated"]);
  expect(await states(play)).toEqual(["deprecated"]);
});

test("one target may not offer: what the other offered is taken back and nothing is said", async () => {
  const play = await stage.play({ to: ["one", "two"], releaseAs: "candidate" });
  await play.release();
  play.faults.two = broken("offer");
  expect(await play.promote()).toMatchObject({ result: "failed", error: { code: "forbidden" } });
  expect(await inCloud(play, "one")).toEqual(["candidate"]);
  expect(await states(play)).toEqual(["candidate"]);
  expect(await play.offers()).toEqual([]);

  delete play.faults.two;
  expect(await play.promote()).toMatchObject({ result: "done" });
});

test("a target that offers to nobody is told so, and stays as it is", async () => {
  const play = await stage.play({ to: ["one"], audience: { to: "nobody" } });
  await play.release();
  const outcome = await play.promote();
  expect(outcome).toMatchObject({ result: "partial", images: [{ state: "candidate", regions: {} }] });
  expect(outcome.images[0]?.failed[0]?.error.message).toContain("to nobody");
  expect(await states(play)).toEqual(["candidate"]);
});

test("what cannot be taken back either is said: a part of it is out", async () => {
  const play = await stage.play({ to: ["one", "two"], releaseAs: "candidate" });
  await play.release();
  play.faults.one = broken("withdraw");
  play.faults.two = broken("offer");
  const outcome = await play.promote();
  expect(outcome).toMatchObject({ result: "partial" });
  expect(outcome.error?.message).toContain("could not be taken back everywhere");
});

test("a region that does not withdraw holds up no other, and the repeat does the rest", async () => {
  const play = await stage.play({ to: ["one"] });
  await play.release();
  play.faults.one = broken("withdraw", "eu-west-1");
  const outcome = await play.rollBack();
  expect(outcome).toMatchObject({ result: "partial", images: [{ failed: [{ region: "eu-west-1" }] }] });
  expect((await play.images()).map((row) => `${row.region} ${row.state}`).sort()).toEqual([
    "ap-south-1 candidate",
    "eu-west-1 active",
    "us-east-1 candidate",
  ]);
  delete play.faults.one;
  expect(await play.rollBack()).toMatchObject({ result: "done" });
  expect(await inCloud(play, "one")).toEqual(["candidate"]);
});

test("a region that lacks the image stops a promotion, unless that is allowed", async () => {
  const play = await stage.play({ to: ["one"], releaseAs: "candidate" });
  await play.release();
  const image = (await play.images()).find((row) => row.region === "eu-west-1")!;
  for await (const resource of play.cloud("one").list(["eu-west-1"], call)) {
    if (resource.id === image.id) await play.cloud("one").remove(resource, call);
  }
  expect(await play.promote()).toMatchObject({ result: "failed", error: { code: "not-found", subject: image.id } });
  expect(await inCloud(play, "one")).toEqual(["candidate"]);
});

test("floating tags follow last, go back to where they were, and a later version's are left alone", async () => {
  const play = await stage.play({ containers: true, releaseAs: "candidate" });
  await play.release();
  const registry = play.registry();
  const [container] = await play.containers();
  expect(container).toMatchObject({ state: "candidate", floating: ["43", "latest"] });
  const entry = (await registry.find("fedora", container!.digest, call))!.entries![0]!.digest;
  await registry.tag("fedora", entry, "43", call);

  const promoted = await play.promote();
  expect(promoted).toMatchObject({ result: "done", containers: [{ state: "active" }] });
  expect(await tagged(registry, "43")).toBe(container!.digest);
  expect(await tagged(registry, "latest")).toBe(container!.digest);
  expect(await play.containers()).toMatchObject([{ state: "active", tags: ["43.20251021.0", "43", "latest"] }]);

  // `latest` belongs to somebody else by now.
  await registry.tag("fedora", entry, "latest", call);
  const back = await play.rollBack();
  expect(back).toMatchObject({ result: "done", containers: [{ tags: { 43: entry }, moved: ["latest"] }] });
  expect(await tagged(registry, "43")).toBe(entry);
  expect(await tagged(registry, "latest")).toBe(entry);
  expect(await play.containers()).toMatchObject([{ state: "candidate", tags: ["43.20251021.0"] }]);
});

test("a registry that will not move a tag: images and tags are taken back together", async () => {
  const play = await stage.play({ to: ["one"], containers: true, releaseAs: "candidate" });
  await play.release();
  const [container] = await play.containers();
  const entry = (await play.registry().find("fedora", container!.digest, call))!.entries![0]!.digest;
  for (const tag of ["43", "latest"]) await play.registry().tag("fedora", entry, tag, call);
  play.bad.registry = (registry) => ({
    ...registry,
    async tag(repository, digest, tag, context) {
      if (tag === "latest" && digest === container!.digest) throw new SlipwayError("forbidden", "not this tag");
      return registry.tag(repository, digest, tag, context);
    },
  });
  expect(await play.promote()).toMatchObject({ result: "failed", error: { message: "not this tag" } });
  expect(await inCloud(play, "one")).toEqual(["candidate"]);
  expect(await tagged(play.registry(), "43")).toBe(entry);
});

test("the witness decides: seen before is refused, unseen afterwards is taken back", async () => {
  const play = await stage.play({ to: ["one"], releaseAs: "candidate" });
  await play.release();
  const sees =
    (answer: (cloud: Cloud) => Promise<boolean>) =>
    (cloud: Cloud): Cloud => ({
      ...cloud,
      witness: (images) => Promise.all(images.map(() => answer(cloud))),
    });
  play.faults.one = sees(async () => true);
  expect(await play.promote()).toMatchObject({ result: "failed", error: { code: "conflict" } });
  play.faults.one = sees(async () => false);
  expect(await play.promote()).toMatchObject({ result: "failed", error: { code: "forbidden" } });
  expect(await inCloud(play, "one")).toEqual(["candidate"]);
  const spec = (await play.images())[0]!;
  play.faults.one = sees(async (cloud) => {
    const { image } = await cloud.find({ key: spec.key, diskKey: "", name: spec.name } as never, "us-east-1", call);
    return image?.state === "active";
  });
  expect(await play.promote()).toMatchObject({ result: "done", witnessed: 3 });
});
