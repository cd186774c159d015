import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { memoryJournal } from "../../images/journal.ts";
import { quietCall } from "../../lib/call.ts";
import { SlipwayError } from "../../lib/errors.ts";
import { MiB } from "../../lib/units.ts";
import type { ImageSpec } from "../../model.ts";
import type { Cloud } from "../cloud.ts";
import { describeCloud } from "../testing/contract.ts";
import { fakeDisk } from "../testing/disks.ts";
import type { CloudHarness, MutatingVerb } from "../testing/harness.ts";
import { openLocal } from "./local.ts";
import { encodeName, openRecords } from "./store.ts";

const SPEC: ImageSpec = {
  key: "k7vq2localimagekey",
  diskKey: "d3localdiskkey",
  name: "Fedora-Cloud-Base-AmazonEC2.x86_64-44-20251013.0",
  description: "a test image",
  arch: "x86_64",
  diskBytes: 8 * MiB,
  homeRegion: "here",
  regions: ["here", "there"],
  tags: { Channel: "cloud", ComposeID: "Fedora-Cloud-44-20251013.0" },
};

describeCloud("local", localHarness, { lacks: ["withWrongCredentials", "withoutRegister"] });

test("names from a spec never leave the directory", () => {
  for (const name of ["../../etc/passwd", ".hidden", "a/b", "*"]) expect(encodeName(name)).toMatch(/^[\w%-]+$/);
});

test("a record that is there is not replaced by create", async () => {
  const directory = await mkdtemp(join(tmpdir(), "slipway-records-"));
  try {
    const records = openRecords<{ n: number }>(directory);
    const made = await Promise.all([1, 2, 3, 4].map((n) => records.create("x", { n })));
    expect(made.filter(Boolean)).toHaveLength(1);
    expect(await readdir(directory)).toEqual(["x.json"]);
  } finally {
    await rm(directory, { recursive: true });
  }
});

test("bytes an earlier attempt left without acknowledgement do not survive as data", async () => {
  const harness = await localHarness();
  try {
    const call = quietCall();
    const journal = memoryJournal();
    const stop = new AbortController();
    const stale = fakeDisk(SPEC.diskBytes, [3, 4, 5], "stale");
    // A journal that forgets: everything was written, nothing acknowledged.
    const forgetful = {
      ...journal,
      get staged() {
        return journal.staged;
      },
      ack() {},
    };
    const stopping = { ...stale, read: (options: Parameters<typeof stale.read>[0]) => stopAtEnd(stale.read(options)) };
    async function* stopAtEnd<T>(blocks: AsyncIterable<T>) {
      yield* blocks;
      stop.abort();
      throw new SlipwayError("cancelled", "stopped");
    }
    await expect(harness.cloud.upload(stopping, SPEC, forgetful, quietCall(stop.signal))).rejects.toThrow();
    const right = fakeDisk(SPEC.diskBytes, [4], "right");
    const staged = await harness.cloud.upload(right, SPEC, journal, call);
    const zero = await firstDigest(harness.cloud, staged, 0);
    expect(await firstDigest(harness.cloud, staged, 3)).toBe(zero);
    expect(await firstDigest(harness.cloud, staged, 4)).not.toBe(zero);
  } finally {
    await harness.close();
  }
});

async function firstDigest(cloud: Cloud, staged: Parameters<Cloud["readBack"]>[0], index: number) {
  for await (const block of cloud.readBack(staged, [index], quietCall()))
    return Buffer.from(block.sha256).toString("hex");
}

async function localHarness(): Promise<CloudHarness> {
  const directory = await mkdtemp(join(tmpdir(), "slipway-local-"));
  const options = { directory, regions: ["here", "there"] };
  let sends = 0;
  let lose: string | undefined;

  function levered(cloud: Cloud): Cloud {
    const after =
      <A extends unknown[], T>(verb: MutatingVerb, body: (...all: A) => Promise<T>) =>
      async (...all: A): Promise<T> => {
        const result = await body(...all);
        if (lose !== verb) return result;
        lose = undefined;
        throw new SlipwayError("unavailable", "The answer was lost.");
      };
    return {
      ...cloud,
      upload: after("upload", (disk, spec, journal, call) => {
        const counting = { ...disk, read: (o: Parameters<typeof disk.read>[0]) => counted(disk.read(o)) };
        return cloud.upload(counting, spec, journal, call);
      }),
      register: after("register", cloud.register),
      offer: after("offer", cloud.offer),
      withdraw: after("withdraw", cloud.withdraw),
      setState: after("setState", cloud.setState),
      remove: after("remove", cloud.remove),
    };
  }
  async function* counted<T>(blocks: AsyncIterable<T>): AsyncIterable<T> {
    for await (const block of blocks) {
      yield block;
      sends++;
    }
  }

  return {
    cloud: levered(openLocal(options)),
    spec: (overrides) => ({ ...SPEC, ...overrides }),
    reopen: async () => levered(openLocal(options)),
    sends: () => sends,
    async inventory() {
      const files = await readdir(directory, { recursive: true, withFileTypes: true });
      const ids = files
        .filter((file) => file.isFile())
        .map(({ name, parentPath }) => {
          const stem = name.replace(/\.(json|part|raw)$/, "");
          return parentPath.endsWith("disks") ? `disk-${stem}` : `image-${stem}`;
        });
      return [...new Set(ids)];
    },
    async plantForeign(spec, region) {
      const images = openRecords(join(directory, region, "images"));
      await images.put(spec.name, {
        id: "image-of-somebody",
        name: spec.name,
        state: "active",
        diskKey: "theirs",
        tags: {},
      });
      return "image-of-somebody";
    },
    losable: {
      upload: ["upload"],
      register: ["register"],
      offer: ["offer"],
      withdraw: ["withdraw"],
      setState: ["setState"],
      remove: ["remove"],
    },
    loseAnswer(operation) {
      lose = operation;
    },
    close: () => rm(directory, { recursive: true, force: true }),
  };
}

test("a directory that cannot be written is a clear error", async () => {
  const harness = await localHarness();
  try {
    const file = join(tmpdir(), `slipway-not-a-directory-${process.pid}`);
    await writeFile(file, "");
    const cloud = openLocal({ directory: file });
    const disk = fakeDisk(SPEC.diskBytes, [1]);
    await expect(cloud.upload(disk, SPEC, memoryJournal(), quietCall())).rejects.toMatchObject({
      name: "CloudError",
      operation: "upload",
    });
    await rm(file);
  } finally {
    await harness.close();
  }
});
