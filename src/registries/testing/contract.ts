/**
 * What every registry promises, whoever runs it. Run against the simulator in every test run, and against real
 * registries in `test/interop/`.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { BlobRef, ContainerImage } from "../../images/container.ts";
import { quietCall } from "../../lib/call.ts";
import { codeOf } from "../../lib/errors.ts";
import { MiB } from "../../lib/units.ts";
import type { IndexEntry, PushedManifest, Registry } from "../registry.ts";
import { containerImage } from "./image.ts";

export interface RegistryHarness {
  /** A new connection to one and the same registry; the contract closes it. */
  open(): Registry;
  /** A registry under the same host with another prefix, for copies that should mount. */
  neighbour(): Registry;
  close(): Promise<void>;
}

export function describeRegistry(name: string, start: () => Promise<RegistryHarness>): void {
  describe(`registry: ${name}`, () => {
    const call = quietCall();
    let harness: RegistryHarness;
    let registry: Registry;
    let count = 0;
    const fresh = () => `contract/repo-${process.pid}-${count++}`;

    beforeAll(async () => {
      harness = await start();
      registry = harness.open();
    });
    afterAll(async () => {
      await registry?.close();
      await harness?.close();
    });

    test("check finds nothing wrong, and leaves nothing behind", async () => {
      const repository = fresh();
      expect(await registry.check([repository], call)).toEqual([]);
      expect(await registry.tags(repository, call)).toEqual([]);
    });

    test("what is not there is undefined, not an error", async () => {
      const repository = fresh();
      expect(await registry.find(repository, "latest", call)).toBeUndefined();
      expect(await registry.manifest(repository, "latest", call)).toBeUndefined();
      await registry.remove(repository, `sha256:${"0".repeat(64)}`, call);
    });

    test("a pushed image is found by its digest, untagged, with the same bytes", async () => {
      const repository = fresh();
      const image = containerImage({ layers: [100, 2000] });
      const pushed = await registry.push(repository, image, call);
      expect(pushed.digest).toBe(image.manifestDigest);
      expect(pushed.sentBytes).toBe(totalOf(image));
      expect(await registry.tags(repository, call)).toEqual([]);
      const found = await registry.manifest(repository, image.manifestDigest, call);
      expect(Buffer.from(found!.bytes).equals(Buffer.from(image.manifest))).toBe(true);
      for (const blob of image.blobs) {
        expect(await bytesOf(registry.blob(repository, blob, call))).toEqual(await bytesOf(image.open(blob, call)));
      }
    });

    test("a second push sends nothing and reads no blob", async () => {
      const repository = fresh();
      const image = containerImage({ layers: [5000] });
      await registry.push(repository, image, call);
      const unread: ContainerImage = { ...image, open: () => expect.fail("a blob was read") };
      expect((await registry.push(repository, unread, call)).sentBytes).toBe(0);
    });

    test("layers the registry has are not sent again", async () => {
      const repository = fresh();
      const base = containerImage({ layers: [5000], seed: 7 });
      await registry.push(repository, base, call);
      const next = containerImage({ layers: [5000, 300], seed: 7 });
      const pushed = await registry.push(repository, next, call);
      expect(pushed.sentBytes).toBe(totalOf(next) - base.blobs[1]!.bytes);
    });

    test("a layer of many chunks arrives whole", async () => {
      const repository = fresh();
      const image = containerImage({ layers: [17 * MiB + 3] });
      await registry.push(repository, image, call);
      expect((await bytesOf(registry.blob(repository, image.blobs[1]!, call))).length).toBe(17 * MiB + 3);
    });

    test("bytes that are not the blob's are refused, and nothing is there afterwards", async () => {
      const repository = fresh();
      const image = containerImage({ layers: [4000] });
      const wrong: ContainerImage = {
        ...image,
        open: async function* ({ bytes }) {
          yield new Uint8Array(bytes).fill(1);
        },
      };
      await expect(registry.push(repository, wrong, call)).rejects.toSatisfy((error) => codeOf(error) === "corrupt");
      expect(await registry.find(repository, image.manifestDigest, call)).toBeUndefined();
    });

    test("an index lists its architectures under every tag, and is written once", async () => {
      const repository = fresh();
      const entries = await pushBoth(registry, repository);
      const joined = await registry.joinIndex(
        repository,
        entries,
        ["43.1", "43", "latest"],
        { keepOthers: true },
        call,
      );
      expect(joined.changed).toBe(true);
      expect(await registry.tags(repository, call)).toEqual(["43", "43.1", "latest"]);
      for (const tag of joined.tags) {
        const found = await registry.find(repository, tag, call);
        expect(found?.digest).toBe(joined.digest);
        expect(found?.entries?.map((entry) => entry.platform.architecture)).toEqual(["amd64", "arm64"]);
      }
      const reversed = [...entries].reverse();
      const again = await registry.joinIndex(
        repository,
        reversed,
        ["43.1", "43", "latest"],
        { keepOthers: true },
        call,
      );
      expect(again).toEqual({ ...joined, changed: false });
    });

    test("an incomplete set takes no architecture away; without keepOthers it does", async () => {
      const repository = fresh();
      await registry.joinIndex(repository, await pushBoth(registry, repository), ["43"], { keepOthers: true }, call);
      const newer = entryOf(await registry.push(repository, containerImage({ layers: [10], seed: 99 }), call));
      await registry.joinIndex(repository, [newer], ["43"], { keepOthers: true }, call);
      const kept = (await registry.find(repository, "43", call))!.entries!;
      expect(kept.map((entry) => entry.platform.architecture)).toEqual(["amd64", "arm64"]);
      expect(kept[0]!.digest).toBe(newer.digest);
      await registry.joinIndex(repository, [newer], ["43"], { keepOthers: false }, call);
      expect((await registry.find(repository, "43", call))!.entries).toHaveLength(1);
    });

    test("a tag that held a single image keeps that architecture", async () => {
      const repository = fresh();
      const [amd64, arm64] = await pushBoth(registry, repository);
      await registry.tag(repository, amd64!.digest, "43", call);
      await registry.joinIndex(repository, [arm64!], ["43"], { keepOthers: true }, call);
      const found = await registry.find(repository, "43", call);
      expect(found?.entries?.map((entry) => entry.digest)).toEqual([amd64!.digest, arm64!.digest]);
    });

    test("two writers of one tag lose nothing", async () => {
      const repository = fresh();
      const other = harness.open();
      const [amd64, arm64] = await pushBoth(registry, repository);
      await Promise.all([
        registry.joinIndex(repository, [amd64!], ["43", "latest"], { keepOthers: true }, call),
        other.joinIndex(repository, [arm64!], ["43", "latest"], { keepOthers: true }, call),
      ]);
      await other.close();
      for (const tag of ["43", "latest"]) {
        expect((await registry.find(repository, tag, call))?.entries).toHaveLength(2);
      }
    });

    test("an index whose image is not there is refused", async () => {
      const repository = fresh();
      const { manifestDigest: digest, mediaType, manifest, platform } = containerImage({ layers: [10] });
      const entry = { digest, mediaType, bytes: manifest.length, platform };
      await expect(registry.joinIndex(repository, [entry], ["43"], { keepOthers: true }, call)).rejects.toThrow();
      expect(await registry.find(repository, "43", call)).toBeUndefined();
    });

    test("a whole index is copied with its digest, mounted within one host", async () => {
      const repository = fresh();
      const joined = await registry.joinIndex(
        repository,
        await pushBoth(registry, repository),
        ["43"],
        { keepOthers: true },
        call,
      );
      const neighbour = harness.neighbour();
      let sent = 0;
      const watched = {
        ...call,
        onProgress(progress: { sentBytes: number }) {
          sent = progress.sentBytes;
        },
      };
      const target = fresh();
      const source = { repository, reference: "43" };
      expect(await neighbour.copy(registry, source, target, ["43", "latest"], watched)).toBe(joined.digest);
      expect(sent).toBe(0);
      expect(await neighbour.tags(target, call)).toEqual(["43", "latest"]);
      expect((await neighbour.find(target, "latest", call))?.entries).toHaveLength(2);
      expect(await neighbour.copy(registry, source, target, ["43", "latest"], watched)).toBe(joined.digest);
      await neighbour.close();
    });

    test("a tag moves to what is there, and to nothing else", async () => {
      const repository = fresh();
      const [amd64, arm64] = await pushBoth(registry, repository);
      await registry.tag(repository, amd64!.digest, "candidate", call);
      await registry.tag(repository, arm64!.digest, "candidate", call);
      expect((await registry.find(repository, "candidate", call))?.digest).toBe(arm64!.digest);
      await expect(registry.tag(repository, `sha256:${"1".repeat(64)}`, "candidate", call)).rejects.toSatisfy(
        (error) => codeOf(error) === "not-found",
      );
    });

    test("removing takes the tags along, and may be repeated", async () => {
      const repository = fresh();
      const [amd64] = await pushBoth(registry, repository);
      await registry.tag(repository, amd64!.digest, "old", call);
      await registry.remove(repository, amd64!.digest, call);
      await registry.remove(repository, amd64!.digest, call);
      expect(await registry.find(repository, "old", call)).toBeUndefined();
    });

    test("a tag is taken away alone, or the refusal says that it is still there", async () => {
      const repository = fresh();
      const [amd64] = await pushBoth(registry, repository);
      await registry.tag(repository, amd64!.digest, "43", call);
      await registry.tag(repository, amd64!.digest, "latest", call);
      const refused = await registry.untag(repository, "latest", call).then(() => false, codeOf);
      expect([false, "unsupported"]).toContain(refused);
      expect((await registry.find(repository, "latest", call))?.digest).toBe(refused ? amd64!.digest : undefined);
      expect((await registry.find(repository, "43", call))?.digest).toBe(amd64!.digest);
      await registry.untag(repository, "never-was", call);
    });

    test("names and tags that cannot be are refused before anything is asked", async () => {
      const bad = { name: "../../etc", tag: "-x" };
      await expect(registry.find(bad.name, "latest", call)).rejects.toSatisfy((error) => codeOf(error) === "invalid");
      await expect(registry.find("fedora", bad.tag, call)).rejects.toSatisfy((error) => codeOf(error) === "invalid");
    });

    test("a cancelled call ends as cancelled", async () => {
      const stopped = quietCall(AbortSignal.abort());
      await expect(registry.find("fedora", "latest", stopped)).rejects.toSatisfy((e) => codeOf(e) === "cancelled");
    });

    async function pushBoth(to: Registry, repository: string): Promise<IndexEntry[]> {
      const images = ["amd64", "arm64"].map((architecture) => containerImage({ layers: [500], architecture }));
      const pushed = [];
      for (const image of images) pushed.push(entryOf(await to.push(repository, image, call)));
      return pushed;
    }
  });
}

export function entryOf({ digest, mediaType, bytes, platform }: PushedManifest): IndexEntry {
  return { digest, mediaType, bytes, platform };
}

function totalOf(image: ContainerImage): number {
  return image.blobs.reduce((sum: number, blob: BlobRef) => sum + blob.bytes, image.manifest.length);
}

async function bytesOf(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
}
