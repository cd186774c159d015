/**
 * What every cloud driver promises, once for all of them: `cloud.ts` in sentences that run.
 *
 * A driver's test file is one line: `describeCloud("gcp", () => gcpHarness(…))`. The driver is wrapped as production
 * wraps it, so the promises are those a step may rely on. Knows no vendor; what a vendor calls things is in the harness.
 */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type BlockSource, blockCount } from "../../images/block-source.ts";
import { memoryJournal, type UploadJournal } from "../../images/journal.ts";
import { quietCall } from "../../lib/call.ts";
import { codeOf, isTransient, SlipwayError } from "../../lib/errors.ts";
import type { CloudImage, ImageSpec, StagedDisk } from "../../model.ts";
import type { Cloud, CloudResource, RegionOutcome } from "../cloud.ts";
import { inProduction } from "../wrappers.ts";
import { corruptAfter, digestsOf, fakeDisk, tapped } from "./disks.ts";
import type { CloudHarness, Lever, MutatingVerb } from "./harness.ts";

export type { CloudHarness, Lever, MutatingVerb } from "./harness.ts";

export interface ContractOptions {
  /** Levers this cloud cannot have, each a decision of the test file. Any other missing lever fails. */
  readonly lacks?: readonly Lever[];
  /** Clauses an emulator cannot keep, with the reason: skipped by name. A title no clause has is an error. */
  readonly gaps?: Readonly<Record<string, string>>;
}

/** Blocks with data in the contract's disk: its first, neighbours, a lone one far out. The rest is zero. */
const NON_ZERO = [0, 1, 2, 5, 9, 14];
/** A step makes this many attempts at a call whose error is transient. */
const ATTEMPTS = 4;

export function describeCloud(
  name: string,
  makeHarness: () => Promise<CloudHarness>,
  { lacks = [], gaps = {} }: ContractOptions = {},
): void {
  describe(`cloud contract: ${name}`, () => {
    let harness: CloudHarness;
    let cloud: Cloud;
    const call = quietCall();

    beforeEach(async () => {
      harness = await makeHarness();
      cloud = inProduction(harness.cloud);
    });
    afterEach(async () => {
      await harness?.close();
    });

    const unknownGaps = new Set(Object.keys(gaps));

    /** A clause that needs a lever is skipped by name where the test file says there can be none. */
    function clause(title: string, levers: readonly Lever[], body: () => Promise<void>): void {
      unknownGaps.delete(title);
      const missing = levers.filter((lever) => lacks.includes(lever));
      if (gaps[title]) test.skip(`${title} (${gaps[title]})`, () => {});
      else if (missing.length > 0) test.skip(`${title} (no ${missing.join(", ")})`, () => {});
      else test(title, body);
    }
    function promise(title: string, body: () => Promise<void>): void {
      clause(title, [], body);
    }

    describe("upload", () => {
      promise("what is read back is what was sent, zero blocks too", async () => {
        const spec = harness.spec();
        const disk = diskFor(harness, spec);
        const staged = await cloud.upload(disk, spec, memoryJournal(), call);
        expect(staged).toMatchObject({ key: spec.diskKey, region: spec.homeRegion });
        if (cloud.can.readBack) expect(await readAll(cloud, staged, disk)).toEqual(await digestsOf(disk, call));
      });

      promise("a disk of zeros arrives as zeros", async () => {
        const spec = harness.spec();
        const disk = diskFor(harness, spec, []);
        const staged = await cloud.upload(disk, spec, memoryJournal(), call);
        if (cloud.can.readBack) expect(await readAll(cloud, staged, disk)).toEqual(await digestsOf(disk, call));
      });

      promise("every block the source lends is given back", async () => {
        const spec = harness.spec();
        const disk = diskFor(harness, spec);
        const held = countHeld(disk);
        await cloud.upload(held.disk, spec, memoryJournal(), call);
        expect(held.count()).toBe(0);
      });

      promise("a second upload of the same disk sends nothing", async () => {
        const spec = harness.spec();
        const first = await cloud.upload(diskFor(harness, spec), spec, memoryJournal(), call);
        const sent = harness.sends();
        const second = await cloud.upload(diskFor(harness, spec), spec, memoryJournal(), call);
        expect(second).toEqual(first);
        expect(harness.sends()).toBe(sent);
        expect(await stagedDisks(cloud, spec)).toHaveLength(1);
      });

      promise("progress grows and ends at the whole disk", async () => {
        const spec = harness.spec();
        const disk = diskFor(harness, spec);
        const seen: number[] = [];
        await cloud.upload(disk, spec, memoryJournal(), {
          ...call,
          onProgress: ({ doneBytes, totalBytes }) => {
            expect(totalBytes).toBe(disk.bytes);
            seen.push(doneBytes);
          },
        });
        expect(seen).toEqual([...seen].sort((a, b) => a - b));
        expect(seen.at(-1)).toBe(disk.bytes);
      });

      promise("an upload that another process resumes sends no acknowledged block again", async () => {
        const spec = harness.spec();
        const journal = memoryJournal();
        const handed = await interrupted(cloud, harness, spec, journal);
        const acked = new Set(Array.from({ length: 64 }, (_, index) => index).filter((index) => journal.acked(index)));
        expect(acked.size).toBeGreaterThan(0);

        const disk = diskFor(harness, spec);
        const others = inProduction(await harness.reopen());
        const staged = await others.upload(disk, spec, refusing(journal, acked), call);

        // A block that was under way at the interruption may have arrived without having been acknowledged.
        const underWay = handed - acked.size;
        expect(harness.sends()).toBeLessThanOrEqual(blockCount(disk.bytes) + underWay);
        if (cloud.can.readBack) expect(await readAll(cloud, staged, disk)).toEqual(await digestsOf(disk, call));
        expect(await stagedDisks(cloud, spec)).toHaveLength(1);
      });

      promise("an upload whose half-made disk has vanished begins again", async () => {
        const spec = harness.spec();
        const journal = memoryJournal();
        await interrupted(cloud, harness, spec, journal);
        for (const resource of await everything(cloud, spec)) await cloud.remove(resource, call);

        const disk = diskFor(harness, spec);
        const staged = await cloud.upload(disk, spec, journal, call);
        if (cloud.can.readBack) expect(await readAll(cloud, staged, disk)).toEqual(await digestsOf(disk, call));
      });

      for (const [when, blocks] of [["early", 2] as const, ["in its last byte", "all"] as const]) {
        promise(
          `a source that proves wrong ${when} leaves nothing, and the right one is taken afterwards`,
          async () => {
            const spec = harness.spec();
            const journal = memoryJournal();
            const wrong = corruptAfter(diskFor(harness, spec, NON_ZERO, "wrong bytes"), blocks);
            await expectCode("corrupt", cloud.upload(wrong, spec, journal, call));
            expect(await everything(cloud, spec)).toEqual([]);
            expect(await cloud.find(spec, spec.homeRegion, call)).toEqual({});

            const disk = diskFor(harness, spec);
            const staged = await cloud.upload(disk, spec, journal, call);
            if (cloud.can.readBack) expect(await readAll(cloud, staged, disk)).toEqual(await digestsOf(disk, call));
          },
        );
      }

      promise("an aborted upload completes nothing", async () => {
        const spec = harness.spec();
        await interrupted(cloud, harness, spec, memoryJournal());
        expect((await cloud.find(spec, spec.homeRegion, call)).staged).toBeUndefined();
        for (const resource of await everything(cloud, spec)) expect(resource.complete).toBe(false);
      });

      clause("an aborted upload leaves nothing that list hides", ["inventory"], async () => {
        const spec = harness.spec();
        await interrupted(cloud, harness, spec, memoryJournal());
        const listed = await everything(cloud, spec);
        expect(listed.map((resource) => resource.id).sort()).toEqual([...(await harness.inventory!())].sort());
        for (const resource of listed) await cloud.remove(resource, call);
        expect(await harness.inventory!()).toEqual([]);
      });

      for (const { name, bytes } of [
        { name: "one byte too long for a whole number of units", bytes: (disk: number) => disk + 1 },
        { name: "larger than the cloud takes", bytes: (disk: number, most: number) => most + disk },
      ]) {
        promise(`a disk is refused before a byte is sent: ${name}`, async () => {
          const spec = harness.spec();
          const good = diskFor(harness, spec);
          const bad = fakeDisk(bytes(good.bytes, cloud.accepts.maxBytes), NON_ZERO);
          const asSpec = { ...spec, diskBytes: bytes(spec.diskBytes, cloud.accepts.maxBytes) };
          const error = await expectCode("invalid", cloud.upload(bad, asSpec, memoryJournal(), call));
          expect(error.next).toBeTruthy();
          expect(harness.sends()).toBe(0);
          expect(await everything(cloud, spec)).toEqual([]);
        });
      }

      promise("a call that was stopped before it began does nothing", async () => {
        const spec = harness.spec();
        const stopped = quietCall(AbortSignal.abort());
        await expectCode("cancelled", cloud.upload(diskFor(harness, spec), spec, memoryJournal(), stopped));
        expect(harness.sends()).toBe(0);
        expect(await everything(cloud, spec)).toEqual([]);
      });
    });

    describe("register", () => {
      promise("find sees what register returned, as a candidate", async () => {
        const spec = harness.spec();
        const { image } = await released(cloud, harness, spec);
        expect(image).toMatchObject({ key: spec.key, region: spec.homeRegion, state: "candidate" });
        expect((await cloud.find(spec, spec.homeRegion, call)).image).toEqual(image);
        const elsewhere = inProduction(await harness.reopen());
        expect((await elsewhere.find(spec, spec.homeRegion, call)).image).toEqual(image);
      });

      promise("upload and register twice with one key give one image", async () => {
        const spec = harness.spec();
        const first = await released(cloud, harness, spec);
        const second = await released(inProduction(await harness.reopen()), harness, spec);
        expect(second.image).toEqual(first.image);
        expect(await images(cloud, spec)).toHaveLength(1);
      });

      promise("register twice on the bare driver gives one image", async () => {
        const spec = harness.spec();
        const staged = await cloud.upload(diskFor(harness, spec), spec, memoryJournal(), call);
        const first = await harness.cloud.register(staged, spec, call);
        expect(await (await harness.reopen()).register(staged, spec, call)).toEqual(first);
        expect(await images(cloud, spec)).toHaveLength(1);
      });

      promise("two processes that register at once make one image", async () => {
        const spec = harness.spec();
        const staged = await cloud.upload(diskFor(harness, spec), spec, memoryJournal(), call);
        const other = inProduction(await harness.reopen());
        const [a, b] = await Promise.all([
          attempts(() => cloud.register(staged, spec, call)),
          attempts(() => other.register(staged, spec, call)),
        ]);
        expect(a).toEqual(b);
        expect(await images(cloud, spec)).toHaveLength(1);
      });

      promise("every resource carries the whole key and the facts in its tags", async () => {
        const spec = harness.spec();
        await released(cloud, harness, spec);
        const found = await images(cloud, spec);
        expect(found).toHaveLength(1);
        expect(found[0]).toMatchObject({ key: spec.key, name: spec.name, complete: true });
        expect(found[0]!.tags).toMatchObject(spec.tags);
      });

      promise("an image of the name with another key is foreign and stays as it is", async () => {
        const spec = harness.spec();
        const { image } = await released(cloud, harness, spec);
        const other = harness.spec({ key: "otherkeyotherkeyotherkey", diskKey: "otherdiskotherdiskotherdisk" });
        const found = await cloud.find(other, spec.homeRegion, call);
        expect(found.image).toBeUndefined();
        expect(found.foreign?.id).toBe(image.id);

        const sent = harness.sends();
        const disk = diskFor(harness, other, [3], "other");
        await expectCode("already-exists", cloud.upload(disk, other, memoryJournal(), call));
        expect(harness.sends()).toBe(sent);
        const staged = await harness.cloud.upload(disk, other, memoryJournal(), call);
        await expectCode("already-exists", cloud.register(staged, other, call));
        await expectCode("already-exists", harness.cloud.register(staged, other, call));
        expect((await cloud.find(spec, spec.homeRegion, call)).image).toEqual(image);
      });

      clause("somebody else's image of the name is reported and never overwritten", ["plantForeign"], async () => {
        const spec = harness.spec();
        const id = await harness.plantForeign!(spec, spec.homeRegion);
        const found = await cloud.find(spec, spec.homeRegion, call);
        expect(found.image).toBeUndefined();
        expect(found.foreign?.id).toBe(id);
        expect(found.foreign?.reason).toBeTruthy();

        const staged = await harness.cloud.upload(diskFor(harness, spec), spec, memoryJournal(), call);
        await expectCode("already-exists", harness.cloud.register(staged, spec, call));
        expect((await cloud.find(spec, spec.homeRegion, call)).foreign?.id).toBe(id);
      });
    });

    describe("replicate", () => {
      promise("each region is reported, and find sees it there", async () => {
        const spec = harness.spec();
        const { image } = await released(cloud, harness, spec);
        const outcomes = await replicated(cloud, image, spec);
        expect(regionsOf(outcomes)).toEqual([...spec.regions].sort());
        for (const outcome of outcomes) {
          if ("error" in outcome) throw new Error(`${outcome.region}: ${outcome.error.message}`);
          expect(outcome.image).toMatchObject({ key: spec.key, name: spec.name, state: "candidate" });
          expect((await cloud.find(spec, outcome.region, call)).image).toEqual(outcome.image);
        }
      });

      promise("may be repeated, by another process too, and makes no second copy", async () => {
        const spec = harness.spec();
        const { image } = await released(cloud, harness, spec);
        const first = await replicated(cloud, image, spec);
        const other = await harness.reopen();
        const second = await replicated(other, image, spec);
        expect(byRegion(second)).toEqual(byRegion(first));
        await expectOneEach(cloud, spec);
      });

      promise("one region that cannot be is an outcome, not an exception", async () => {
        const spec = harness.spec();
        const { image } = await released(cloud, harness, spec);
        const wanted = [...spec.regions, "nowhere-1"];
        const outcomes: RegionOutcome[] = [];
        for await (const outcome of cloud.replicate(image, { ...spec, regions: wanted }, wanted, call)) {
          outcomes.push(outcome);
        }
        expect(regionsOf(outcomes)).toEqual([...wanted].sort());
        const failed = outcomes.filter((outcome) => "error" in outcome);
        expect(failed.map((outcome) => outcome.region)).toEqual(["nowhere-1"]);
      });

      clause("somebody else's image of the name in a region is that region's failure", ["plantForeign"], async () => {
        const spec = harness.spec();
        const { image } = await released(cloud, harness, spec);
        const region = spec.regions.find((one) => one !== spec.homeRegion);
        if (!cloud.can.regionalCopies || !region) return;
        const id = await harness.plantForeign!(spec, region);
        const outcomes = await replicated(cloud, image, spec);
        const outcome = outcomes.find((one) => one.region === region);
        expect(outcome && "error" in outcome ? outcome.error.code : "no error").toBe("already-exists");
        expect((await cloud.find(spec, region, call)).foreign?.id).toBe(id);
      });
    });

    describe("bytes behind an image", () => {
      promise("of a candidate are read in every region, and are what was sent", async () => {
        const spec = harness.spec();
        const sent = await digestsOf(diskFor(harness, spec), call);
        for (const image of await releasedEverywhere(cloud, harness, spec)) {
          const disk = await cloud.diskBehind(image, spec, call);
          if ("unreadable" in disk) throw new Error(`${image.region}: ${disk.unreadable}`);
          if (cloud.can.readBack) expect(await readAll(cloud, disk, diskFor(harness, spec))).toEqual(sent);
        }
      });

      promise("of an offered image are read, or it is said why nobody can", async () => {
        const spec = harness.spec();
        const { staged } = await released(cloud, harness, spec);
        const { image } = await cloud.find(spec, spec.homeRegion, call);
        await cloud.offer([image!], spec, { to: "public" }, call);
        await cloud.tidy(staged, spec, call);
        const disk = await cloud.diskBehind(image!, spec, call);
        if ("unreadable" in disk) expect(disk.unreadable.length).toBeGreaterThan(20);
        else if (cloud.can.readBack) {
          const sent = await digestsOf(diskFor(harness, spec), call);
          expect(await readAll(cloud, disk, diskFor(harness, spec))).toEqual(sent);
        }
      });
    });

    describe("tags", () => {
      promise("that somebody changed are set right, and others stay", async () => {
        const spec = harness.spec();
        const made = { ...spec, tags: { ...spec.tags, ComposeID: "another" } };
        const { image } = await released(cloud, harness, made);
        if (cloud.retag === undefined) return;
        for (let round = 0; round < 2; round++) await cloud.retag(image, spec, call);
        const all = await everything(cloud, spec);
        const held = all.find((resource) => resource.kind === "image" && resource.region === spec.homeRegion)!.tags;
        const tags = Object.fromEntries(Object.entries(held).map(([name, value]) => [name.toLowerCase(), value]));
        for (const [name, value] of Object.entries(spec.tags)) expect(tags[name.toLowerCase()], name).toBe(value);
        expect((await cloud.find(spec, spec.homeRegion, call)).image).toMatchObject({ id: image.id });
      });
    });

    describe("states", () => {
      promise("offer makes it active in every region, withdraw a candidate again, both repeatable", async () => {
        const spec = harness.spec();
        const all = await releasedEverywhere(cloud, harness, spec);
        for (let time = 0; time < 2; time++) {
          await cloud.offer(all, spec, { to: "public" }, call);
          for (const image of all) expect(await stateOf(cloud, spec, image)).toBe("active");
        }
        for (let time = 0; time < 2; time++) {
          await cloud.withdraw(all, spec, call);
          for (const image of all) expect(await stateOf(cloud, spec, image)).toBe("candidate");
        }
      });

      promise("what can be expressed is reached and undone, the rest is refused as unsupported", async () => {
        const spec = harness.spec();
        const [image] = await releasedEverywhere(cloud, harness, spec);
        await cloud.offer([image!], spec, { to: "public" }, call);
        for (const state of ["deprecated", "obsolete"] as const) {
          if (!cloud.can.states.includes(state)) {
            await expectCode("unsupported", cloud.setState(image!, state, call));
            continue;
          }
          for (let time = 0; time < 2; time++) {
            await cloud.setState(image!, state, call);
            expect(await stateOf(cloud, spec, image!)).toBe(state);
          }
          await cloud.setState(image!, "active", call);
          expect(await stateOf(cloud, spec, image!)).toBe("active");
        }
      });

      promise("removing twice is a success, and nothing is left", async () => {
        const spec = harness.spec();
        await releasedEverywhere(cloud, harness, spec);
        const resources = await everything(cloud, spec);
        for (const resource of resources) await cloud.remove(resource, call);
        const other = await harness.reopen();
        for (const resource of resources) await other.remove(resource, call);
        expect(await everything(cloud, spec)).toEqual([]);
        expect(await cloud.find(spec, spec.homeRegion, call)).toEqual({});
      });

      promise("removing an image takes its staged disk along", async () => {
        const spec = harness.spec();
        const { staged } = await released(cloud, harness, spec);
        await cloud.tidy(staged, spec, call);
        await cloud.tidy(staged, spec, call);
        for (const resource of await images(cloud, spec)) await cloud.remove(resource, call);
        expect(await everything(cloud, spec)).toEqual([]);
      });
    });

    describe("lost answers", () => {
      const verbs: MutatingVerb[] = ["upload", "register", "replicate", "offer", "withdraw", "setState", "remove"];
      for (const verb of verbs) {
        clause(`${verb} whose answer is lost, repeated, gives one image`, ["loseAnswer"], async () => {
          const operations = harness.losable?.[verb] ?? [];
          for (const operation of operations) {
            const fresh = await makeHarness();
            try {
              await loseOne(fresh, verb, operation);
            } catch (error) {
              throw new Error(`with the answer of ${operation} lost: ${(error as Error).message}`, { cause: error });
            } finally {
              await fresh.close();
            }
          }
        });
      }
    });

    describe("credentials", () => {
      clause("wrong ones are named before a byte is sent", ["withWrongCredentials"], async () => {
        const spec = harness.spec();
        const stranger = inProduction(await harness.withWrongCredentials!());
        await expectCode("unauthenticated", stranger.find(spec, spec.homeRegion, call));
        await expectCode("unauthenticated", stranger.upload(diskFor(harness, spec), spec, memoryJournal(), call));
        const findings = await stranger.check([spec], call);
        expect(findings.some((one) => one.severity === "error" && one.code === "unauthenticated")).toBe(true);
        expect(harness.sends()).toBe(0);
      });

      clause("a missing permission is named by check and by the call", ["withoutRegister"], async () => {
        const spec = harness.spec();
        const staged = await cloud.upload(diskFor(harness, spec), spec, memoryJournal(), call);
        const limited = await harness.withoutRegister!();
        const findings = await limited.cloud.check([spec], call);
        const denied = findings.filter((one) => one.code === "forbidden");
        expect(denied.map((one) => one.subject)).toContain(limited.permission);
        const error = await expectCode("forbidden", limited.cloud.register(staged, spec, call));
        expect(`${error.message} ${error.subject} ${error.next}`).toContain(limited.permission);
      });

      promise("with good ones check finds no error and makes nothing", async () => {
        const spec = harness.spec();
        const findings = await cloud.check([spec], call);
        expect(findings.filter((one) => one.severity === "error")).toEqual([]);
        expect(await everything(cloud, spec)).toEqual([]);
      });
    });

    test("every gap named is a clause", () => {
      expect([...unknownGaps]).toEqual([]);
    });
  });
}

/** Makes everything up to `verb`, loses one answer in it, repeats it as a step would, and looks at what there is. */
async function loseOne(harness: CloudHarness, verb: MutatingVerb, operation: string): Promise<void> {
  const call = quietCall();
  const cloud = inProduction(harness.cloud);
  const spec = harness.spec();
  const disk = diskFor(harness, spec);
  const journal = memoryJournal();
  // After a lost answer the step may run in another process.
  const other = inProduction(await harness.reopen());
  const drivers = [cloud, other, cloud, other];
  const repeated = async <T>(which: MutatingVerb, body: (driver: Cloud) => Promise<T>): Promise<T> => {
    if (which === verb) harness.loseAnswer!(operation);
    let next = 0;
    return attempts(() => body(drivers[next++]!));
  };

  const staged = await repeated("upload", (driver) => driver.upload(disk, spec, journal, call));
  expect(await stagedDisks(cloud, spec)).toHaveLength(1);
  if (cloud.can.readBack) expect(await readAll(cloud, staged, disk)).toEqual(await digestsOf(disk, call));
  const image = await repeated("register", (driver) => driver.register(staged, spec, call));
  expect(await images(cloud, spec)).toHaveLength(1);
  const all = await repeated("replicate", async (driver) => {
    const outcomes = await replicated(driver, image, spec);
    return outcomes.map((outcome) => {
      if ("image" in outcome) return outcome.image;
      throw new SlipwayError(codeOf(asError(outcome)), outcome.error.message);
    });
  });
  await expectOneEach(cloud, spec);
  await repeated("offer", (driver) => driver.offer(all, spec, { to: "public" }, call));
  for (const one of all) expect(await stateOf(cloud, spec, one)).toBe("active");
  if (cloud.can.states.includes("deprecated")) {
    await repeated("setState", (driver) => driver.setState(image, "deprecated", call));
    expect(await stateOf(cloud, spec, image)).toBe("deprecated");
    await cloud.setState(image, "active", call);
  }
  await repeated("withdraw", (driver) => driver.withdraw(all, spec, call));
  for (const one of all) expect(await stateOf(cloud, spec, one)).toBe("candidate");
  await repeated("remove", async (driver) => {
    for (const resource of await everything(driver, spec)) await driver.remove(resource, call);
  });
  expect(await everything(cloud, spec)).toEqual([]);
}

function asError(outcome: Extract<RegionOutcome, { error: unknown }>): SlipwayError {
  return new SlipwayError(outcome.error.code as SlipwayError["code"], outcome.error.message);
}

/** Repeats a call while its error is transient, as the engine does with a step; without its pauses. */
async function attempts<T>(body: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await body();
    } catch (error) {
      if (attempt === ATTEMPTS || !isTransient(error)) throw error;
    }
  }
}

function diskFor(harness: CloudHarness, spec: ImageSpec, nonZero = NON_ZERO, seed = "disk"): BlockSource {
  return harness.disk?.(spec, nonZero, seed) ?? fakeDisk(spec.diskBytes, nonZero, seed);
}

/** An upload that is aborted when something has been acknowledged and something has not. How many blocks it was given. */
async function interrupted(cloud: Cloud, harness: CloudHarness, spec: ImageSpec, journal: UploadJournal) {
  const stop = new AbortController();
  let handed = 0;
  const disk = tapped(diskFor(harness, spec), async (count) => {
    handed = count;
    if (count <= 4) return;
    const deadline = Date.now() + 10_000;
    while (journal.ackedCount === 0 && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 1));
    stop.abort();
  });
  await expectCode("cancelled", cloud.upload(disk, spec, journal, quietCall(stop.signal)));
  return handed;
}

/** A journal that fails the test when a block is acknowledged a second time. */
function refusing(journal: UploadJournal, acked: ReadonlySet<number>): UploadJournal {
  return {
    get staged() {
      return journal.staged;
    },
    get ackedCount() {
      return journal.ackedCount;
    },
    knownUnits: journal.knownUnits,
    acked: (index) => journal.acked(index),
    digestOf: (index) => journal.digestOf(index),
    unit: (index, sha256) => journal.unit(index, sha256),
    flush: () => journal.flush(),
    async begin() {
      throw new Error("the upload began again although its half-made disk is there");
    },
    ack(index, sha256) {
      if (acked.has(index)) throw new Error(`block ${index} was sent again`);
      journal.ack(index, sha256);
    },
  };
}

function countHeld(disk: BlockSource): { disk: BlockSource; count(): number } {
  let held = 0;
  return {
    count: () => held,
    disk: {
      bytes: disk.bytes,
      access: disk.access,
      close: () => disk.close(),
      async *read(options) {
        for await (const block of disk.read(options)) {
          held++;
          yield {
            ...block,
            release() {
              held--;
              block.release();
            },
          };
        }
      },
    },
  };
}

async function released(cloud: Cloud, harness: CloudHarness, spec: ImageSpec) {
  const call = quietCall();
  const staged = await cloud.upload(diskFor(harness, spec), spec, memoryJournal(), call);
  return { staged, image: await cloud.register(staged, spec, call) };
}

async function releasedEverywhere(cloud: Cloud, harness: CloudHarness, spec: ImageSpec): Promise<CloudImage[]> {
  const { image } = await released(cloud, harness, spec);
  return (await replicated(cloud, image, spec)).map((outcome) => {
    if ("error" in outcome) throw new Error(`${outcome.region}: ${outcome.error.message}`);
    return outcome.image;
  });
}

async function replicated(cloud: Cloud, image: CloudImage, spec: ImageSpec): Promise<RegionOutcome[]> {
  return Array.fromAsync(cloud.replicate(image, spec, spec.regions, quietCall()));
}

async function everything(cloud: Cloud, spec: ImageSpec): Promise<CloudResource[]> {
  return Array.fromAsync(cloud.list(spec.regions, quietCall()));
}

async function images(cloud: Cloud, spec: ImageSpec): Promise<CloudResource[]> {
  return (await everything(cloud, spec)).filter((one) => one.kind === "image" && one.key === spec.key);
}

async function stagedDisks(cloud: Cloud, spec: ImageSpec): Promise<CloudResource[]> {
  return (await everything(cloud, spec)).filter((one) => one.kind === "staged-disk");
}

/** One image per region and never two staged disks of a kind in one, whatever happened before. */
async function expectOneEach(cloud: Cloud, spec: ImageSpec): Promise<void> {
  const made = await images(cloud, spec);
  const places = cloud.can.regionalCopies ? [...spec.regions].sort() : [made[0]?.region];
  expect(made.map((one) => one.region).sort()).toEqual(places);
  const disks = (await stagedDisks(cloud, spec)).map((one) => one.region);
  expect(disks).toHaveLength(new Set(disks).size);
}

async function stateOf(cloud: Cloud, spec: ImageSpec, image: CloudImage) {
  return (await cloud.find(spec, image.region, quietCall())).image?.state;
}

async function readAll(cloud: Cloud, staged: StagedDisk, disk: BlockSource): Promise<string[]> {
  const digests: string[] = [];
  const wanted = Array.from({ length: blockCount(disk.bytes) }, (_, index) => index);
  for await (const block of cloud.readBack(staged, wanted, quietCall())) {
    digests[block.index] = Buffer.from(block.sha256).toString("hex");
  }
  return digests;
}

function regionsOf(outcomes: readonly RegionOutcome[]): string[] {
  return outcomes.map((outcome) => outcome.region).sort();
}

function byRegion(outcomes: readonly RegionOutcome[]): Record<string, unknown> {
  return Object.fromEntries(outcomes.map((one) => [one.region, "image" in one ? one.image : one.error]));
}

async function expectCode(code: string, promise: Promise<unknown>): Promise<SlipwayError> {
  try {
    await promise;
  } catch (error) {
    if (codeOf(error) !== code) throw new Error(`expected ${code}, got ${codeOf(error)}: ${error}`, { cause: error });
    return error instanceof SlipwayError ? error : new SlipwayError("cancelled", String(error));
  }
  throw new Error(`expected ${code}, got no error`);
}
