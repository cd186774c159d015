import { afterAll, beforeAll, expect, test } from "vitest";
import type { Cloud } from "../clouds/index.ts";
import { quietCall } from "../lib/call.ts";
import type { ErrorCode } from "../lib/errors.ts";
import { SlipwayError } from "../lib/errors.ts";
import { COMPOSE, IMAGE, openStage, REGIONS, type Stage } from "./testing/stage.ts";

let stage: Stage;
beforeAll(async () => {
  stage = await openStage();
});
afterAll(() => stage?.close());

const call = quietCall();

function failing(verb: keyof Cloud, code: ErrorCode) {
  return (cloud: Cloud): Cloud => ({
    ...cloud,
    [verb]: async () => {
      throw new SlipwayError(code, `${verb} does not work today`);
    },
  });
}

/** One region out of order; the others are made. */
function without(region: string, code: ErrorCode = "unavailable") {
  return (cloud: Cloud): Cloud => ({
    ...cloud,
    async *replicate(image, spec, regions, context) {
      const others = regions.filter((one) => one !== region);
      yield* cloud.replicate(image, spec, others, context);
      yield { region, error: { code, message: `${region} is down` } };
    },
  });
}

async function statesIn(cloud: Cloud): Promise<string[]> {
  const found: string[] = [];
  for await (const resource of cloud.list(REGIONS, call)) {
    if (resource.kind !== "image") continue;
    const spec = { key: resource.key ?? "", diskKey: "", name: resource.name };
    const { image } = await cloud.find(spec as never, resource.region, call);
    found.push(`${resource.region} ${image?.state ?? "?"}`);
  }
  return found.sort();
}

const everywhere = (state: string) => REGIONS.map((region) => `${region} ${state}`).sort();

async function rows(play: { images(): ReturnType<Awaited<ReturnType<Stage["play"]>>["images"]> }) {
  return (await play.images()).map((row) => `${row.target.replace(/.*-/, "")} ${row.region} ${row.state}`).sort();
}

const rowsOf = (role: string, state: string) => REGIONS.map((region) => `${role} ${region} ${state}`).sort();

test("an image is made, offered in every region, recorded and announced with its whole region map, once", async () => {
  const play = await stage.play({ to: ["one"] });
  const { outcome, runId } = await play.release();
  expect(outcome).toMatchObject({ composeId: COMPOSE, system: play.system, result: "done" });
  expect(outcome.groups[0]?.targets).toMatchObject([{ name: IMAGE, state: "active", missing: [] }]);
  expect(outcome.groups[0]?.offerSeconds).toBeGreaterThanOrEqual(0);
  expect(await statesIn(play.cloud("one"))).toEqual(everywhere("active"));
  expect(await rows(play)).toEqual(rowsOf("one", "active"));
  const [message, ...more] = await play.messages();
  expect(more).toEqual([]);
  expect(message?.topic).toBe("fedora_image_uploader.published.v1.aws.rc.Cloud_Base.x86_64");
  expect(message?.body).toMatchObject({
    image_name: IMAGE,
    release: 43,
    regions: outcome.groups[0]?.targets[0]?.regions,
  });
  expect(Object.keys(message?.body.regions as object).sort()).toEqual([...REGIONS].sort());
  expect((await play.steps(runId)).map((step) => step.name)).toEqual([
    "read-compose",
    "survey-images",
    "upload-disk",
    "read-back",
    "register-image",
    "replicate-image",
    "look-at-freeze",
    "offer-images",
    "record-release",
    "notify-subscribers",
    "attest-release",
    "tidy-staged",
  ]);
});

test("released again by force it looks, moves no byte, and says nothing twice", async () => {
  const play = await stage.play({ to: ["one"] });
  await play.release();
  const before = { messages: await play.messages(), images: (await play.images()).map(({ changedAt, ...row }) => row) };
  const again = await play.release(true);
  expect(again.outcome).toMatchObject({ result: "done", groups: [{ targets: [{ sentBytes: 0 }] }] });
  expect((await play.steps(again.runId)).map((step) => step.name)).not.toContain("upload-disk");
  expect(await play.messages()).toEqual(before.messages);
  expect((await play.images()).map(({ changedAt, ...row }) => row)).toEqual(before.images);
});

test("as a candidate it is everywhere, recorded, and offered to nobody", async () => {
  const play = await stage.play({ to: ["one"], releaseAs: "candidate" });
  const { outcome } = await play.release();
  expect(outcome).toMatchObject({ result: "done", groups: [{ targets: [{ state: "candidate" }] }] });
  expect(await statesIn(play.cloud("one"))).toEqual(everywhere("candidate"));
  expect(await rows(play)).toEqual(rowsOf("one", "candidate"));
  expect(await play.messages()).toEqual([]);
});

test("offered to nobody it is what it is: a candidate that is not announced", async () => {
  const play = await stage.play({ to: ["one"], audience: { to: "nobody" } });
  const { outcome } = await play.release();
  expect(outcome).toMatchObject({ result: "done", groups: [{ targets: [{ state: "candidate" }] }] });
  expect(await statesIn(play.cloud("one"))).toEqual(everywhere("candidate"));
  expect(await rows(play)).toEqual(rowsOf("one", "candidate"));
  expect(await play.messages()).toEqual([]);
});

test("one target down: the other is prepared and waits, nothing is public; a retry finishes both", async () => {
  const play = await stage.play({ to: ["one", "two"] });
  play.faults.two = failing("find", "unavailable");
  const { outcome } = await play.release();
  expect(outcome.result).toBe("failed");
  expect(outcome.groups[0]?.targets).toMatchObject([
    {
      state: "failed",
      error: { code: "unavailable", message: expect.stringContaining("the others of its group wait") },
    },
    { state: "failed", error: { code: "unavailable" } },
  ]);
  expect(await statesIn(play.cloud("one"))).toEqual(everywhere("candidate"));
  expect(await rows(play)).toEqual(rowsOf("one", "candidate"));
  expect(await play.messages()).toEqual([]);

  delete play.faults.two;
  const retry = await play.release();
  expect(retry.how).toBe("started");
  expect(retry.outcome.result).toBe("done");
  expect(retry.outcome.groups[0]?.targets.map((target) => target.sentBytes > 0)).toEqual([false, true]);
  expect(await rows(play)).toEqual([...rowsOf("one", "active"), ...rowsOf("two", "active")]);
  expect(await play.messages()).toHaveLength(2);
});

test("a group that fails takes no other with it", async () => {
  const play = await stage.play({ to: ["one"], containers: true });
  play.faults.one = failing("find", "unavailable");
  const { outcome } = await play.release();
  expect(outcome.result).toBe("partial");
  expect(outcome.groups.flatMap((group) => group.targets.map((target) => target.state)).sort()).toEqual([
    "active",
    "failed",
  ]);
  expect(await play.containers()).toHaveLength(1);
});

test("all regions are asked for and one is missing: nothing is offered, and the row says why", async () => {
  const play = await stage.play({ to: ["one"] });
  play.faults.one = without("ap-south-1");
  const { outcome } = await play.release();
  expect(outcome.result).toBe("failed");
  const [target] = outcome.groups[0]!.targets;
  expect(target).toMatchObject({ state: "failed", missing: [{ region: "ap-south-1" }] });
  expect(target?.error?.message).toContain("2 of 3 regions are there and all are asked for; missing ap-south-1");
  expect(await rows(play)).toEqual(["one ap-south-1 missing", "one eu-west-1 candidate", "one us-east-1 candidate"]);
  expect(await statesIn(play.cloud("one"))).toEqual(["eu-west-1 candidate", "us-east-1 candidate"]);
  expect(await play.messages()).toEqual([]);

  delete play.faults.one;
  const retry = await play.release();
  expect(retry.outcome).toMatchObject({ result: "done", groups: [{ targets: [{ sentBytes: 0 }] }] });
  expect(await rows(play)).toEqual(rowsOf("one", "active"));
});

test("a quorum is there: it is offered and announced, and again with the whole map when the last region has healed", async () => {
  const play = await stage.play({ to: ["one"], offerWhen: { quorum: 0.6 } });
  play.faults.one = without("ap-south-1", "quota");
  const { outcome } = await play.release();
  expect(outcome.result).toBe("partial");
  expect(outcome.groups[0]?.targets).toMatchObject([{ state: "active", missing: [{ region: "ap-south-1" }] }]);
  expect(await rows(play)).toEqual(["one ap-south-1 missing", "one eu-west-1 active", "one us-east-1 active"]);
  const offeredAt = (await play.images()).find((row) => row.region === "us-east-1")?.offeredAt;

  delete play.faults.one;
  expect((await play.release()).outcome.result).toBe("done");
  expect(await rows(play)).toEqual(rowsOf("one", "active"));
  expect(await statesIn(play.cloud("one"))).toEqual(everywhere("active"));
  expect((await play.images()).find((row) => row.region === "us-east-1")?.offeredAt).toBe(offeredAt);
  const maps = (await play.messages()).map((message) => Object.keys(message.body.regions as object).sort());
  expect(maps).toEqual([["eu-west-1", "us-east-1"], [...REGIONS].sort()]);
});

test.each(["forbidden", "unavailable"] as const)(
  "a target that may not offer (%s): what others offered is taken back",
  async (code) => {
    const play = await stage.play({ to: ["one", "two"] });
    play.faults.two = failing("offer", code);
    const { outcome } = await play.release();
    expect(outcome.result).toBe("failed");
    expect(outcome.groups[0]?.targets.map((target) => target.error?.code)).toEqual([code, code]);
    expect(outcome.groups[0]).not.toHaveProperty("offerSeconds");
    expect(await statesIn(play.cloud("one"))).toEqual(everywhere("candidate"));
    expect(await rows(play)).toEqual([...rowsOf("one", "candidate"), ...rowsOf("two", "candidate")]);
    expect(await play.messages()).toEqual([]);
  },
);

test("a target that offered some regions before it failed is taken back as well", async () => {
  const play = await stage.play({ to: ["one"] });
  play.faults.one = (cloud) => ({
    ...cloud,
    async offer(images, spec, audience, context) {
      await cloud.offer(images.slice(0, 1), spec, audience, context);
      throw new SlipwayError("forbidden", "ec2:ModifyImageAttribute is not allowed in the other regions");
    },
  });
  expect((await play.release()).outcome.result).toBe("failed");
  expect(await statesIn(play.cloud("one"))).toEqual(everywhere("candidate"));
});

test("what cannot be taken back is said, and the others are taken back all the same", async () => {
  const play = await stage.play({ to: ["one", "two"] });
  play.faults.one = failing("withdraw", "forbidden");
  play.faults.two = failing("offer", "forbidden");
  const { outcome } = await play.release();
  const [first] = outcome.groups[0]!.targets;
  expect(outcome.result).toBe("failed");
  expect(first?.error?.message).toMatch(/^offer does not work today; .* may still be public: play-\d+-one \(withdraw/);
  expect(await statesIn(play.cloud("two"))).toEqual(everywhere("candidate"));
});

test("what was public before stays public when a later part cannot be offered", async () => {
  const play = await stage.play({ to: ["one"], offerWhen: { quorum: 0.6 } });
  play.faults.one = without("ap-south-1", "quota");
  await play.release();
  play.faults.one = failing("offer", "forbidden");
  expect((await play.release()).outcome.result).toBe("failed");
  expect(await statesIn(play.cloud("one"))).toEqual(["ap-south-1 candidate", "eu-west-1 active", "us-east-1 active"]);
  expect(await rows(play)).toEqual(["one ap-south-1 candidate", "one eu-west-1 active", "one us-east-1 active"]);
});

test("a candidate that somebody offered by hand is not a candidate again when the release is repeated", async () => {
  const play = await stage.play({ to: ["one"], releaseAs: "candidate" });
  await play.release();
  for (const row of await play.images()) {
    const image = { key: row.key, region: row.region, id: row.id ?? "", name: row.name, state: "candidate" } as const;
    await play.cloud("one").setState(image, "active", call);
  }
  await play.release(true);
  expect(await rows(play)).toEqual(rowsOf("one", "active"));
  expect(await statesIn(play.cloud("one"))).toEqual(everywhere("active"));
});

test("a released image stays released when what was needed on the way cannot be deleted", async () => {
  const play = await stage.play({ to: ["one"] });
  play.faults.one = failing("tidy", "forbidden");
  const { outcome } = await play.release();
  expect(outcome).toMatchObject({ result: "done", groups: [{ targets: [{ state: "active" }] }] });
});

test("a retry that offers what an earlier run prepared deletes what that one needed on the way", async () => {
  const play = await stage.play({ to: ["one"] });
  const tidied: string[] = [];
  play.faults.one = failing("offer", "forbidden");
  await play.release();
  play.faults.one = (cloud) => ({ ...cloud, tidy: async (staged) => void tidied.push(staged.id) });
  expect((await play.release()).outcome.result).toBe("done");
  expect(tidied).toEqual([expect.stringMatching(/^disk-/)]);
});

test("a cloud that holds other bytes than were sent: nothing is registered", async () => {
  const play = await stage.play({ to: ["one"] });
  play.faults.one = (cloud) => ({
    ...cloud,
    async *readBack(staged, blocks, context) {
      for await (const block of cloud.readBack(staged, blocks, context)) {
        yield block.index === 2 ? { ...block, sha256: Buffer.alloc(32) } : block;
      }
    },
  });
  const { outcome } = await play.release();
  expect(outcome.groups[0]?.targets).toMatchObject([
    { state: "failed", error: { code: "corrupt", message: expect.stringContaining("block 2") } },
  ]);
  expect(await statesIn(play.cloud("one"))).toEqual([]);
  expect(await play.images()).toEqual([]);
});

test("a foreign image of that name is left alone, and no byte is sent", async () => {
  const play = await stage.play({ to: ["one"] });
  play.faults.one = (cloud) => ({
    ...cloud,
    find: async () => ({ foreign: { id: "ami-foreign", reason: "it carries no key" } }),
  });
  const { outcome, runId } = await play.release();
  expect(outcome.groups[0]?.targets).toMatchObject([
    { state: "failed", error: { code: "already-exists", subject: "ami-foreign" }, sentBytes: 0 },
  ]);
  expect((await play.steps(runId)).map((step) => step.name)).toEqual(["read-compose", "survey-images"]);
});

test("a file with another checksum than its metadata says is not made into an image", async () => {
  const play = await stage.play({
    to: ["one"],
    edit: (text) => text.replace(/("sha256": ")[0-9a-f]{64}/g, `$1${"0".repeat(64)}`),
  });
  const { outcome } = await play.release();
  expect(outcome.groups[0]?.targets).toMatchObject([{ state: "failed", error: { code: "corrupt" } }]);
  const left: string[] = [];
  for await (const resource of play.cloud("one").list(REGIONS, call)) left.push(resource.id);
  expect(left).toEqual([]);
  expect(await play.images()).toEqual([]);
});

test("a permission that is missing is found before a byte is sent", async () => {
  const play = await stage.play({ to: ["one"] });
  play.faults.one = (cloud) => ({
    ...cloud,
    check: async () => [
      { severity: "error", code: "forbidden", subject: "ec2:RegisterImage", message: "is not allowed" },
      { severity: "error", code: "quota", subject: "public AMIs", message: "is full" },
    ],
  });
  const { outcome, runId } = await play.release();
  expect(outcome.groups[0]?.targets).toMatchObject([
    {
      error: { code: "forbidden", subject: "ec2:RegisterImage", message: "is not allowed; public AMIs: is full" },
    },
  ]);
  expect((await play.steps(runId)).map((step) => step.name)).not.toContain("upload-disk");
});

test("containers of all architectures are one index under all its tags, recorded and announced", async () => {
  const play = await stage.play({ containers: true });
  const { outcome } = await play.release();
  expect(outcome.result).toBe("done");
  const registry = play.registry();
  const version = await registry.find("fedora", "43.20251021.0", call);
  expect(version?.entries?.map((entry) => entry.platform.architecture).sort()).toEqual(["amd64", "arm64"]);
  for (const tag of ["43", "latest"]) expect((await registry.find("fedora", tag, call))?.digest).toBe(version?.digest);
  expect(await play.containers()).toMatchObject([
    {
      repository: "fedora",
      digest: version?.digest,
      architectures: ["aarch64", "x86_64"],
      tags: ["43.20251021.0", "43", "latest"],
    },
  ]);
  expect(await play.messages()).toMatchObject([
    { topic: "fedora_image_uploader.published.v1.container.rc.fedora", body: { repository: "fedora", release: 43 } },
  ]);

  const again = await play.release(true);
  expect(again.outcome.result).toBe("done");
  expect((await play.steps(again.runId)).map((step) => step.name)).not.toContain("push-container");
  expect(await play.messages()).toHaveLength(1);
});

test("a candidate has its version's own tag and moves no floating one", async () => {
  const play = await stage.play({ containers: true, releaseAs: "candidate" });
  const { outcome } = await play.release();
  expect(outcome.groups[0]?.targets).toMatchObject([{ state: "candidate" }]);
  expect(await play.registry().tags("fedora", call)).toEqual(["43.20251021.0"]);
});

test("one architecture that cannot be pushed: no index is written, and a retry writes it", async () => {
  const play = await stage.play({ containers: true });
  play.bad.registry = (registry) => ({
    ...registry,
    async push(repository, image, context) {
      if (image.platform.architecture === "arm64") throw new SlipwayError("unavailable", "arm64 does not come through");
      return registry.push(repository, image, context);
    },
  });
  const { outcome } = await play.release();
  expect(outcome).toMatchObject({ result: "failed", groups: [{ targets: [{ error: { code: "unavailable" } }] }] });
  expect(await play.registry().tags("fedora", call)).toEqual([]);
  expect([await play.containers(), await play.messages()]).toEqual([[], []]);

  delete play.bad.registry;
  expect((await play.release()).outcome.result).toBe("done");
  expect(await play.registry().tags("fedora", call)).toEqual(["43", "43.20251021.0", "latest"]);
});

test("a system that is gone is told with those there are", async () => {
  const request = { location: "file:///nowhere", composeId: COMPOSE, system: "gone" };
  const { startRelease } = await import("./start-release.ts");
  const { handle } = await startRelease(stage.engine, request);
  await expect(handle.result()).rejects.toMatchObject({ code: "not-found", message: expect.stringContaining("gone") });
});
