import { expect, test } from "vitest";
import { memoryJournal } from "../images/journal.ts";
import { quietCall } from "../lib/call.ts";
import { MiB } from "../lib/units.ts";
import type { CloudImage, ImageSpec } from "../model.ts";
import type { Cloud } from "./cloud.ts";
import { fakeDisk } from "./testing/disks.ts";
import { dryRun, type Intention, limited } from "./wrappers.ts";

const spec = {
  key: "k",
  diskKey: "d",
  name: "n",
  homeRegion: "here",
  regions: ["here", "there"],
  diskBytes: MiB,
} as unknown as ImageSpec;
const image: CloudImage = { key: "k", region: "here", id: "i", name: "n", state: "candidate" };
const call = quietCall();

test("only so many calls run at one time, and one that is stopped while it waits never runs", async () => {
  let running = 0;
  let most = 0;
  let calls = 0;
  let finish: (() => void)[] = [];
  const driver = {
    async find() {
      calls++;
      most = Math.max(most, ++running);
      await new Promise<void>((done) => finish.push(done));
      running--;
      return {};
    },
  } as unknown as Cloud;
  const cloud = limited(driver, { calls: 2 });
  const stop = new AbortController();
  const waiting = [cloud.find(spec, "a", call), cloud.find(spec, "b", call), cloud.find(spec, "c", call)];
  const stopped = cloud.find(spec, "d", quietCall(stop.signal));
  stop.abort();
  await expect(stopped).rejects.toMatchObject({ code: "cancelled" });
  while (finish.length > 0) {
    for (const done of finish.splice(0)) done();
    await new Promise((done) => setImmediate(done));
  }
  finish = [];
  await Promise.all(waiting);
  expect([most, calls]).toEqual([2, 3]);
});

test("a dry run tells every change and makes none", async () => {
  const told: Intention[] = [];
  const refuse = () => Promise.reject(new Error("a dry run changed something"));
  const verbs = ["upload", "register", "offer", "withdraw", "setState", "remove", "tidy"];
  const driver = {
    ...Object.fromEntries(verbs.map((verb) => [verb, refuse])),
    replicate: refuse,
    find: async () => ({}),
  } as unknown as Cloud;
  const cloud = dryRun(driver, (intention) => told.push(intention));
  const staged = await cloud.upload(fakeDisk(MiB, [0]), spec, memoryJournal(), call);
  await cloud.register(staged, spec, call);
  await Array.fromAsync(cloud.replicate(image, spec, spec.regions, call));
  await cloud.offer([image], spec, { to: "public" }, call);
  await cloud.withdraw([image], spec, call);
  await cloud.setState(image, "deprecated", call);
  await cloud.remove({ kind: "image", complete: true, tags: {}, ...image }, call);
  await cloud.tidy(staged, spec, call);
  expect(told.map((one) => one.verb)).toEqual([
    "upload",
    "register",
    "replicate",
    "offer",
    "withdraw",
    "setState",
    "remove",
    "tidy",
  ]);
});
