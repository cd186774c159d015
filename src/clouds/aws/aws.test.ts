import { describe, expect, test } from "vitest";
import { AWS_OUTSIDER, AWS_PUBLISHER } from "../../../rehearsal/src/aws/index.ts";
import { BLOCK_BYTES, blockCount } from "../../images/block-source.ts";
import { memoryJournal } from "../../images/journal.ts";
import { quietCall } from "../../lib/call.ts";
import type { StagedDisk } from "../../model.ts";
import type { Cloud } from "../cloud.ts";
import { describeCloud } from "../testing/contract.ts";
import { digestsOf, fakeDisk, tapped } from "../testing/disks.ts";
import { awsHarness } from "./testing/simulated.ts";

describeCloud("aws, simulated", () => awsHarness());

describe("what only AWS has", () => {
  const call = quietCall();

  test("zeros are skipped where they may be, and written over what an earlier attempt left", async () => {
    const harness = await awsHarness({ zeroBlocks: "skip" });
    try {
      const { cloud } = harness;
      const spec = harness.spec();
      const journal = memoryJournal();
      const fresh = await cloud.upload(fakeDisk(spec.diskBytes, [1, 4]), spec, journal, call);
      expect(harness.sends()).toBe(2);
      await cloud.remove({ kind: "staged-disk", complete: true, name: "", tags: {}, ...fresh }, call);

      // Another process put blocks and told no journal of ours: nothing it left may survive.
      const stop = new AbortController();
      const stale = tapped(fakeDisk(spec.diskBytes, [2, 3, 5, 6], "stale"), async (count) => {
        while (count === 4 && harness.sends() < 4) await new Promise((done) => setTimeout(done, 1));
        if (count === 4) stop.abort();
      });
      await expect(cloud.upload(stale, spec, memoryJournal(), quietCall(stop.signal))).rejects.toThrow();
      const right = fakeDisk(spec.diskBytes, [2], "right");
      const staged = await cloud.upload(right, spec, memoryJournal(), call);
      expect(await readAll(cloud, staged, right.bytes)).toEqual(await digestsOf(right, call));
    } finally {
      await harness.close();
    }
  });

  test("the witness sees what everybody sees: nothing before the offer, all of it afterwards", async () => {
    const harness = await awsHarness({ witness: AWS_OUTSIDER });
    try {
      const { cloud } = harness;
      const spec = harness.spec();
      const staged = await cloud.upload(fakeDisk(spec.diskBytes, [1]), spec, memoryJournal(), call);
      const home = await cloud.register(staged, spec, call);
      const images = [home];
      for await (const outcome of cloud.replicate(home, spec, ["eu-west-1"], call)) {
        if ("image" in outcome) images.push(outcome.image);
      }
      expect(await cloud.witness?.(images, call)).toEqual([false, false]);
      await cloud.offer([images[1]!], spec, { to: "public" }, call);
      expect(await cloud.witness?.(images, call)).toEqual([false, true]);
      await cloud.withdraw(images, spec, call);
      expect(await cloud.witness?.(images, call)).toEqual([false, false]);
    } finally {
      await harness.close();
    }
  });

  test("quotas count everybody's images in a region and offer only ours to retire, oldest first", async () => {
    const harness = await awsHarness();
    try {
      const { cloud } = harness;
      const spec = harness.spec();
      const staged = await cloud.upload(fakeDisk(spec.diskBytes, [1]), spec, memoryJournal(), call);
      const home = await cloud.register(staged, spec, call);
      await cloud.offer([home], spec, { to: "public" }, call);
      const found = (await cloud.quotas?.([spec], call)) ?? [];
      expect(found.map(({ region, subject, used }) => `${region} ${subject} ${used}`)).toEqual(
        [1, 0, 0].flatMap((used, position) => {
          const region = spec.regions[position];
          return [`${region} AMIs ${used}`, `${region} concurrent snapshot copies 0`, `${region} public AMIs ${used}`];
        }),
      );
      expect(found[2]).toMatchObject({ limit: 5, limitFrom: "default", retirable: [{ id: home.id, name: spec.name }] });
    } finally {
      await harness.close();
    }
  });

  test.each([[[0, 3]], [[0]]])("a last block that is short is sent whole and read back short (%j)", async (nonZero) => {
    const harness = await awsHarness();
    try {
      const { cloud } = harness;
      const bytes = 3 * BLOCK_BYTES + 512;
      const spec = harness.spec({ diskBytes: bytes });
      const disk = fakeDisk(bytes, nonZero);
      const journal = memoryJournal();
      // Everything is acknowledged, then the process dies before it completes.
      harness.loseAnswer?.("CompleteSnapshot");
      const dying = {
        ...journal,
        get staged() {
          return journal.staged;
        },
        get ackedCount() {
          return journal.ackedCount;
        },
        flush: () => Promise.reject(new Error("killed")),
      };
      await expect(cloud.upload(disk, spec, dying, call)).rejects.toThrow("killed");
      const sent = harness.sends();
      harness.loseAnswer?.("");
      const staged = await (await harness.reopen()).upload(fakeDisk(bytes, nonZero), spec, journal, call);
      expect(harness.sends()).toBe(sent);
      expect(await readAll(cloud, staged, bytes)).toEqual(await digestsOf(disk, call));
    } finally {
      await harness.close();
    }
  });

  test("a snapshot that is still completing is waited for, with a journal and without", async () => {
    for (const journal of ["kept", "lost"]) {
      const harness = await awsHarness();
      try {
        harness.simulator.state.behaviour.completeMs = 100;
        const spec = harness.spec();
        const first = memoryJournal();
        harness.loseAnswer?.("CompleteSnapshot");
        const disk = () => fakeDisk(spec.diskBytes, [1, 2]);
        await expect(harness.cloud.upload(disk(), spec, first, call)).rejects.toMatchObject({ code: "unavailable" });
        const again = journal === "kept" ? first : memoryJournal();
        const staged = await (await harness.reopen()).upload(disk(), spec, again, call);
        expect(await readAll(harness.cloud, staged, spec.diskBytes)).toEqual(await digestsOf(disk(), call));
        expect(harness.simulator.state.snapshots("us-east-1")).toHaveLength(1);
      } finally {
        await harness.close();
      }
    }
  });

  test("a copy that failed is cleared away and made anew", async () => {
    const harness = await awsHarness();
    try {
      const { cloud } = harness;
      const spec = harness.spec({ regions: ["us-east-1", "eu-west-1"] });
      const staged = await cloud.upload(fakeDisk(spec.diskBytes, [1]), spec, memoryJournal(), call);
      const image = await cloud.register(staged, spec, call);
      harness.simulator.state.failNextCopy("eu-west-1", "the source went away");
      // Seen at once it is made anew at once; seen while waiting it is an outcome that another attempt may cure.
      const [first] = await Array.fromAsync(cloud.replicate(image, spec, ["eu-west-1"], call));
      if (first && "error" in first) expect(first.error.code).toBe("unavailable");
      const [copied] = await Array.fromAsync(cloud.replicate(image, spec, ["eu-west-1"], call));
      expect(copied).toMatchObject({ image: { key: spec.key } });
      const left = harness.simulator.state.images("eu-west-1").filter((one) => one.state !== "deregistered");
      expect(left).toHaveLength(1);
      expect(harness.simulator.state.snapshots("eu-west-1")).toHaveLength(1);
    } finally {
      await harness.close();
    }
  });

  test("accounts that were let in are let in again after an image was obsolete", async () => {
    const harness = await awsHarness();
    try {
      const { cloud } = harness;
      const spec = harness.spec({ regions: ["us-east-1"], endOfLife: "2027-06-01" });
      const staged = await cloud.upload(fakeDisk(spec.diskBytes, [1]), spec, memoryJournal(), call);
      const image = await cloud.register(staged, spec, call);
      const accounts = Array.from({ length: 40 }, (_, n) => String(100_000_000_000 + n));
      await cloud.offer([image], spec, { to: "accounts", accounts }, call);
      await cloud.setState(image, "obsolete", call);
      await cloud.setState(image, "active", call);
      const [there] = harness.simulator.state.images("us-east-1");
      expect([...there!.permissions].sort()).toEqual(accounts);
      expect([...there!.tags.keys()].filter((key) => key.startsWith("slipway:offered"))).toEqual([]);
    } finally {
      await harness.close();
    }
  });

  test("all regions are those of the credentials' partition, enabled and not left out, each other one with its reason", async () => {
    const harness = await awsHarness({ allExcept: ["eu-west-1", "mars-1"] });
    const china = { ...AWS_PUBLISHER, accessKeyId: "AKIACHINACHINACHINA1", partition: "aws-cn" } as const;
    const elsewhere = await awsHarness({ credentials: china, homeRegion: "cn-north-1" }, [china]);
    try {
      const regions = await harness.cloud.regions?.(call);
      expect(regions).toContain("us-east-1");
      expect(regions).not.toContain("eu-west-1");
      expect(regions).not.toContain("il-central-1");
      const findings = await harness.cloud.check([harness.spec({ regions: ["us-east-1"] })], call);
      const told = findings.filter(({ subject }) => subject === "region");
      expect(told.map(({ region, severity }) => `${region} ${severity}`).sort()).toEqual([
        ...["eu-south-2 info", "eu-west-1 info", "il-central-1 info", "mars-1 warning", "me-central-1 info"],
      ]);
      expect(await elsewhere.cloud.regions?.(call)).toEqual(["cn-north-1", "cn-northwest-1"]);
    } finally {
      await harness.close();
      await elsewhere.close();
    }
  });

  test("check names a region that is not enabled and a setting that forbids sharing", async () => {
    const harness = await awsHarness();
    try {
      const { state } = harness.simulator;
      state.settings(AWS_PUBLISHER.account, "eu-west-1").imageBlockPublicAccess = "block-new-sharing";
      state.settings(AWS_PUBLISHER.account, "us-east-1").ebsEncryptionByDefault = true;
      const spec = harness.spec({ regions: ["us-east-1", "eu-west-1", "il-central-1", "mars-1"] });
      const errors = (await harness.cloud.check([spec], call)).filter((one) => one.severity === "error");
      expect(errors.map(({ region, subject }) => `${region} ${subject}`).sort()).toEqual([
        "eu-west-1 block public access for AMIs",
        "il-central-1 region",
        "mars-1 region",
        "us-east-1 EBS encryption by default",
      ]);
      for (const error of errors) expect(error.next).toBeTruthy();
    } finally {
      await harness.close();
    }
  });
});

async function readAll(cloud: Cloud, staged: StagedDisk, bytes: number): Promise<string[]> {
  const digests: string[] = [];
  const wanted = Array.from({ length: blockCount(bytes) }, (_, index) => index);
  for await (const block of cloud.readBack(staged, wanted, quietCall())) {
    digests[block.index] = Buffer.from(block.sha256).toString("hex");
  }
  return digests;
}
