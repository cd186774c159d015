/** What every registry promises of signatures and attestations, with the referrers API and without. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Digest } from "../../images/container.ts";
import { quietCall } from "../../lib/call.ts";
import { codeOf } from "../../lib/errors.ts";
import { parseManifest } from "../manifests.ts";
import type { NewReferrer, Registry } from "../registry.ts";
import { entryOf, type RegistryHarness } from "./contract.ts";
import { containerImage } from "./image.ts";

const call = quietCall();
const artifact = (name: string, artifactType = "application/vnd.in-toto+json"): NewReferrer => ({
  ...{ artifactType, annotations: { "org.opencontainers.image.title": name } },
  blobs: [{ bytes: Buffer.from(JSON.stringify({ name })), mediaType: "application/vnd.dsse.envelope.v1+json" }],
});

export function describeReferrers(name: string, start: () => Promise<RegistryHarness>): void {
  describe(`referrers: ${name}`, () => {
    let harness: RegistryHarness;
    let registry: Registry;
    let count = 0;
    const fresh = () => `referrers/repo-${process.pid}-${count++}`;
    const push = async (repository: string, architecture = "amd64", seed = 1) =>
      entryOf(await registry.push(repository, containerImage({ layers: [100], architecture, seed }), call));
    const list = async (repository: string, subject: Digest, from: Registry = registry) =>
      (await from.referrers(repository, subject, undefined, call)).map(({ digest }) => digest).sort();

    beforeAll(async () => {
      harness = await start();
      registry = harness.open();
    });
    afterAll(async () => {
      await registry?.close();
      await harness?.close();
    });

    test("nothing refers to what is new, or is not there", async () => {
      const repository = fresh();
      expect(await list(repository, `sha256:${"0".repeat(64)}`)).toEqual([]);
      expect(await list(repository, (await push(repository)).digest)).toEqual([]);
    });

    test("what is attached is listed once, however often, with its bytes", async () => {
      const repository = fresh();
      const { digest: subject } = await push(repository);
      const attached = await registry.attach(repository, subject, artifact("provenance"), call);
      expect(attached).toMatchObject({
        artifactType: "application/vnd.in-toto+json",
        annotations: { "org.opencontainers.image.title": "provenance" },
      });
      expect(await registry.attach(repository, subject, artifact("provenance"), call)).toEqual(attached);
      expect(await registry.referrers(repository, subject, undefined, call)).toEqual([attached]);

      const manifest = (await registry.manifest(repository, attached.digest, call))!;
      expect(JSON.parse(Buffer.from(manifest.bytes).toString()).subject.digest).toBe(subject);
      const parsed = parseManifest(manifest.bytes, manifest.mediaType, "x");
      if (parsed.kind !== "image") expect.fail("it is no manifest");
      const parts: Uint8Array[] = [];
      for await (const part of registry.blob(repository, parsed.blobs[1]!, call)) parts.push(part);
      expect(Buffer.concat(parts).toString()).toBe('{"name":"provenance"}');
    });

    test("those of one type are found by it", async () => {
      const repository = fresh();
      const { digest: subject } = await push(repository);
      await registry.attach(repository, subject, artifact("a"), call);
      const sbom = await registry.attach(repository, subject, artifact("b", "application/spdx+json"), call);
      expect(await list(repository, subject)).toHaveLength(2);
      expect(await registry.referrers(repository, subject, "application/spdx+json", call)).toEqual([sbom]);
      expect(await registry.referrers(repository, subject, "application/other", call)).toEqual([]);
    });

    test("an artifact without content, and one that refers to an index", async () => {
      const repository = fresh();
      const keep = { keepOthers: true };
      const { digest } = await registry.joinIndex(repository, [await push(repository)], ["43"], keep, call);
      const bare = { artifactType: "application/vnd.example.mark", blobs: [] };
      const attached = await registry.attach(repository, digest, bare, call);
      expect(await list(repository, digest)).toEqual([attached.digest]);
      expect((await registry.find(repository, "43", call))?.digest).toBe(digest);
    });

    test("several writers at once lose nothing", async () => {
      const repository = fresh();
      const { digest: subject } = await push(repository);
      const other = harness.open();
      const attached = await Promise.all(
        ["a", "b", "c", "d"].map((each, index) =>
          (index % 2 ? other : registry).attach(repository, subject, artifact(each), call),
        ),
      );
      await other.close();
      expect(await list(repository, subject)).toEqual(attached.map(({ digest }) => digest).sort());
    });

    test("to what is not there nothing can be attached", async () => {
      const repository = fresh();
      await push(repository);
      const attaching = registry.attach(repository, `sha256:${"1".repeat(64)}`, artifact("a"), call);
      await expect(attaching).rejects.toSatisfy((error) => codeOf(error) === "not-found");
      const bad = registry.attach(repository, `sha256:${"1".repeat(64)}`, artifact("a", "no type"), call);
      await expect(bad).rejects.toSatisfy((error) => codeOf(error) === "invalid");
    });

    test("a copy brings them along: of the index, of its images, of each other, and cosign's tags", async () => {
      const repository = fresh();
      const images = [await push(repository), await push(repository, "arm64")];
      const { digest } = await registry.joinIndex(repository, images, ["43"], { keepOthers: true }, call);
      const ofIndex = await registry.attach(repository, digest, artifact("index"), call);
      const ofImage = await registry.attach(repository, images[1]!.digest, artifact("arm64"), call);
      const ofReferrer = await registry.attach(repository, ofImage.digest, artifact("signature of it"), call);
      const signature = await push(repository, "amd64", 77);
      const tag = `${images[0]!.digest.replace(":", "-")}.sig`;
      await registry.tag(repository, signature.digest, tag, call);

      const neighbour = harness.neighbour();
      const target = fresh();
      for (let times = 0; times < 2; times++) {
        await neighbour.copy(registry, { repository, reference: "43" }, target, ["43"], call);
        expect(await list(target, digest, neighbour)).toEqual([ofIndex.digest]);
        expect(await list(target, images[1]!.digest, neighbour)).toEqual([ofImage.digest]);
        expect(await list(target, ofImage.digest, neighbour)).toEqual([ofReferrer.digest]);
        expect(await list(target, images[0]!.digest, neighbour)).toEqual([]);
        expect((await neighbour.find(target, tag, call))?.digest).toBe(signature.digest);
      }

      // There another key has signed it meanwhile: neither signature may be lost, so a person has to look.
      const other = await neighbour.push(target, containerImage({ layers: [100], seed: 78 }), call);
      await neighbour.tag(target, other.digest, tag, call);
      const again = neighbour.copy(registry, { repository, reference: "43" }, target, ["44"], call);
      await expect(again).rejects.toSatisfy((error) => codeOf(error) === "conflict");
      expect((await neighbour.find(target, tag, call))?.digest).toBe(other.digest);
      expect(await neighbour.find(target, "44", call)).toBeUndefined();
      await neighbour.close();
    });
  });
}
