import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { gunzipSync, gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { xzSync } from "node-liblzma";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { quietCall } from "../../lib/call.ts";
import { codeOf } from "../../lib/errors.ts";
import { MiB } from "../../lib/units.ts";
import type { ContainerImage } from "../container.ts";
import { type OpenContainerOptions, openContainer } from "./open-container.ts";
import { dockerArchive, type Member, ociLayout, pax, sha256, tar } from "./testing/make-archive.ts";

const call = quietCall();
const root = mkdtempSync(join(tmpdir(), "slipway-archives-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));
const opened: ContainerImage[] = [];
afterEach(async () => {
  for (const image of opened.splice(0)) await image.close();
});
let files = 0;

async function open(
  bytes: Buffer,
  format = "ociarchive",
  change: { sha256?: string; bytes?: number; arch?: string; options?: OpenContainerOptions } = {},
): Promise<ContainerImage> {
  const path = join(root, `image-${files++}`);
  writeFileSync(path, bytes);
  const { options = {}, ...facts } = change;
  const artifact = {
    url: pathToFileURL(path).href,
    bytes: bytes.length,
    sha256: sha256(bytes),
    format,
    arch: "x86_64",
  };
  const image = await openContainer({ ...artifact, ...facts }, options, call);
  opened.push(image);
  return image;
}

async function refused(opening: Promise<ContainerImage>): Promise<{ code: string; message: string }> {
  return opening.then(
    () => expect.fail("it was opened"),
    (error) => ({ code: codeOf(error), message: String(error) }),
  );
}

async function blobsOf(image: ContainerImage): Promise<Buffer[]> {
  const all = [];
  for (const blob of image.blobs) {
    const parts = [];
    for await (const part of image.open(blob, call)) parts.push(part);
    const bytes = Buffer.concat(parts);
    expect(`sha256:${sha256(bytes)}`).toBe(blob.digest);
    expect(bytes.length).toBe(blob.bytes);
    all.push(bytes);
  }
  return all;
}

/** Layers that do not fit into one chunk, and compress. */
const layers = [1, 2, 3].map((seed) => tar([{ name: "data", data: Buffer.alloc(300_000 * seed, `layer ${seed} `) }]));

describe("what is read", () => {
  const oci = tar(ociLayout({ layers }));
  const docker = tar(dockerArchive({ layers }));
  const cases: [string, Buffer, string, "random" | "sequential"][] = [
    ["an ociarchive", oci, "ociarchive", "random"],
    ["an OCI layout in xz", xzSync(oci), "tar.xz", "sequential"],
    ["an OCI layout in gzip", gzipSync(oci), "tar.gz", "sequential"],
    ["an OCI layout in zstd, called ociarchive", zstdCompressSync(oci), "ociarchive", "sequential"],
    ["a docker-archive", docker, "tar", "random"],
    ["a docker-archive in xz", xzSync(docker), "tar.xz", "sequential"],
    [
      "a docker-archive in two xz streams",
      Buffer.concat([xzSync(docker.subarray(0, 9999)), xzSync(docker.subarray(9999))]),
      "tar.xz",
      "sequential",
    ],
  ];
  for (const [name, bytes, format, access] of cases) {
    test(name, async () => {
      const image = await open(bytes, format);
      expect(image.access).toBe(access);
      expect(image.platform).toEqual({ architecture: "amd64", os: "linux" });
      expect(`sha256:${sha256(image.manifest)}`).toBe(image.manifestDigest);
      const [config, ...rest] = await blobsOf(image);
      expect(JSON.parse(config!.toString())).toMatchObject({ architecture: "amd64" });
      expect(rest.map((layer) => sha256(layer[0] === 0x1f ? gunzipSync(layer) : layer))).toEqual(layers.map(sha256));
      // Again, and backwards.
      await blobsOf({ ...image, blobs: [...image.blobs].reverse() });
      await image.close();
      await image.close();
    });
  }

  test("a docker-archive becomes the same manifest every time, as skopeo would write it", async () => {
    const [one, two] = [await open(docker, "tar"), await open(xzSync(docker), "tar.xz")];
    expect(one.manifestDigest).toBe(two.manifestDigest);
    expect(JSON.parse(Buffer.from(one.manifest).toString())).toMatchObject({
      schemaVersion: 2,
      mediaType: "application/vnd.docker.distribution.manifest.v2+json",
      config: { mediaType: "application/vnd.docker.container.image.v1+json" },
      layers: layers.map(() => ({ mediaType: "application/vnd.docker.image.rootfs.diff.tar.gzip" })),
    });
    expect(one.blobs[1]!.bytes).toBeLessThan(layers[0]!.length / 10);
  });

  test("a layer that is gzip already stays as it is", async () => {
    const packed = gzipSync(layers[0]!, { level: 1 });
    const members = dockerArchive({ layers: [layers[0]!] }).map((member) =>
      member.name.endsWith(".tar") && member.type !== "2" ? { ...member, data: packed } : member,
    );
    const image = await open(tar(members), "tar");
    expect(image.blobs[1]!.digest).toBe(`sha256:${sha256(packed)}`);
  });

  test("the right image of several, by its platform", async () => {
    const arm = ociLayout({ architecture: "arm64", platform: true });
    const amd = ociLayout({ architecture: "amd64", platform: true });
    const manifests = [arm, amd].flatMap(
      (members) => JSON.parse(String(members.find(({ name }) => name === "./index.json")!.data)).manifests,
    );
    const blobs = new Map(
      [...arm, ...amd].filter(({ name }) => name.startsWith("blobs")).map((each) => [each.name, each]),
    );
    const both: Member[] = [
      ...blobs.values(),
      { name: "oci-layout", data: '{"imageLayoutVersion":"1.0.0"}' },
      { name: "index.json", data: JSON.stringify({ schemaVersion: 2, manifests }) },
    ];
    expect((await open(tar(both), "oci", { arch: "aarch64" })).platform.architecture).toBe("arm64");
    expect((await open(tar(both), "oci")).platform.architecture).toBe("amd64");
    expect((await refused(open(tar(both), "oci", { arch: "s390x" }))).code).toBe("invalid");
  });

  test("long names, by pax and by GNU", async () => {
    const [first, ...rest] = dockerArchive();
    const long = `${"d/".repeat(60)}layer.tar`;
    const manifest = rest.find(({ name }) => name === "manifest.json")!;
    const others = rest.filter((member) => member !== manifest);
    const renamed = { ...manifest, data: String(manifest.data).replace(first!.name, long) };
    for (const extension of [pax({ path: long }), { name: "././@LongLink", type: "L", data: `${long}\0` }]) {
      const image = await open(tar([extension, { ...first!, name: "short" }, ...others, renamed]), "tar");
      await blobsOf(image);
    }
  });

  test("a directory with an OCI layout", async () => {
    const directory = join(root, "layout");
    for (const { name, data, type } of ociLayout({ layers })) {
      if (type === "5") continue;
      mkdirSync(dirname(join(directory, name)), { recursive: true });
      writeFileSync(join(directory, name), data!);
    }
    const artifact = { url: pathToFileURL(directory).href, bytes: 0, sha256: "", format: "oci", arch: "x86_64" };
    const image = await openContainer(artifact, {}, call);
    await blobsOf(image);

    const blob = join(directory, "blobs/sha256", image.blobs[2]!.digest.slice(7));
    rmSync(blob);
    symlinkSync("/etc/hostname", blob);
    expect(await refused(openContainer(artifact, {}, call))).toMatchObject({ code: "invalid" });
  });
});

describe("what is refused", () => {
  const good = ociLayout();
  const replaced = (name: RegExp, change: Partial<Member>) =>
    good.map((member) => (name.test(member.name) ? { ...member, ...change } : member));
  const layer = good.find(({ name, data }) => name.startsWith("blobs") && typeof data !== "string")!;
  const index = /index\.json$/;

  const cases: [string, Buffer, string, RegExp?][] = [
    ["a name that leaves the archive", tar([...good, { name: "../escape", data: "x" }]), "invalid", /leaves/],
    ["an absolute name", tar([...good, { name: "/etc/passwd", data: "x" }]), "invalid"],
    ["a name that leaves it by pax", tar([pax({ path: "a/../../b" }), { name: "b", data: "x" }, ...good]), "invalid"],
    ["a control character in a name", tar([...good, { name: "a\nb", data: "x" }]), "invalid"],
    ["two members of one name", tar([...good, { name: "./oci-layout", data: "{}" }]), "invalid", /two members/],
    [
      "a link where a blob is needed",
      tar(good.map((m) => (m === layer ? { name: m.name, type: "2", link: "x" } : m))),
      "invalid",
      /link/,
    ],
    ["a link that carries data", tar([{ name: "l", type: "2", link: "x", data: "data" }, ...good]), "invalid"],
    ["a sparse member", tar([{ name: "s", type: "S", data: "x" }, ...good]), "invalid", /sparse/],
    ["a sparse member by pax", tar([pax({ "GNU.sparse.major": "1" }), ...good]), "invalid", /sparse/],
    ["sizes set for all members", tar([pax({ size: "1" }, "g"), ...good]), "invalid"],
    ["a header of a gigabyte", tar([{ name: "x", type: "x", size: 2 ** 30 }, ...good]), "invalid", /header of/],
    ["a pax header that is none", tar([{ name: "x", type: "x", data: "99999 path=x\n" }, ...good]), "invalid"],
    ["a missing blob", tar(good.filter((member) => member !== layer)), "corrupt", /missing/],
    [
      "a blob with other bytes",
      tar(good.map((m) => (m === layer ? { ...m, data: Buffer.alloc(2048, 1) } : m))),
      "corrupt",
      /digest/,
    ],
    ["a blob of another size", tar(good.map((m) => (m === layer ? { ...m, data: "short" } : m))), "corrupt", /bytes/],
    ["a tar that ends early", tar(good).subarray(0, 700), "corrupt", /ends/],
    ["a header with a wrong checksum", Buffer.from(tar(good)).fill(0x41, 2, 3), "corrupt", /checksum/],
    ["an index that is no JSON", tar(replaced(index, { data: "{nope" })), "invalid", /JSON/],
    [
      "an index nested too deeply",
      tar(replaced(index, { data: "[".repeat(1000) + "]".repeat(1000) })),
      "invalid",
      /deep/,
    ],
    ["an index of 5 MiB", tar(replaced(index, { data: `{"x":"${"x".repeat(5 * MiB)}"}` })), "invalid", /4 MiB/],
    ["an index without an image", tar(replaced(index, { data: '{"manifests":[]}' })), "invalid"],
    [
      "an index with a digest that is a path",
      tar(replaced(index, { data: '{"manifests":[{"digest":"sha256:../../x","size":1,"mediaType":"x/y"}]}' })),
      "invalid",
      /digest/,
    ],
    ["a layout of version 9", tar(replaced(/oci-layout/, { data: '{"imageLayoutVersion":"9.0.0"}' })), "invalid"],
    ["another architecture", tar(ociLayout({ architecture: "arm64" })), "invalid", /arm64/],
    ["neither layout nor archive", tar([{ name: "hello", data: "x" }]), "invalid", /neither/],
    ["no tar at all", Buffer.from("hello, this is no tar\n".repeat(100)), "corrupt"],
    [
      "a docker-archive with a changed layer",
      tar(dockerArchive({ config: { rootfs: { diff_ids: [`sha256:${"0".repeat(64)}`] } } })),
      "corrupt",
    ],
    ["a docker-archive with too few layers", tar(dockerArchive({ config: { rootfs: { diff_ids: [] } } })), "invalid"],
    [
      "a docker-archive without its configuration",
      tar(dockerArchive().filter(({ name }) => !/^[0-9a-f]+\.json/.test(name))),
      "corrupt",
    ],
    ["a docker-archive of two images", tar([{ name: "manifest.json", data: "[{},{}]" }]), "unsupported"],
  ];
  for (const [name, bytes, code, message] of cases) {
    test(name, async () => {
      const error = await refused(open(bytes));
      expect(error.code).toBe(code);
      if (message) expect(error.message).toMatch(message);
    });
  }

  test("too many members", async () => {
    const many = Array.from({ length: 10_001 }, (_, at) => ({ name: `f${at}`, type: "5" }));
    expect((await refused(open(tar(many)))).message).toMatch(/10000 members/);
  });

  test("an archive that unpacks beyond the limit", async () => {
    const bomb = xzSync(tar([...good, { name: "zeros", data: Buffer.alloc(3 * MiB) }]));
    const options = { maxUnpackedBytes: MiB };
    expect((await refused(open(bomb, "tar.xz", { options }))).message).toMatch(/unpacks/);
  });

  test("a gzipped layer that unpacks beyond the limit", async () => {
    const data = gzipSync(Buffer.alloc(3 * MiB));
    const bytes = tar([{ name: "layer.tar", data }]);
    const options = { maxUnpackedBytes: MiB };
    expect((await refused(open(bytes, "tar", { options }))).message).toMatch(/unpacks/);
  });

  test("wrong size, wrong SHA-256, also when the bytes do not even decode", async () => {
    const bytes = tar(good);
    expect((await refused(open(bytes, "ociarchive", { bytes: 1 }))).message).toMatch(/metadata says 1$/);
    expect((await refused(open(bytes, "ociarchive", { sha256: "0".repeat(64) }))).code).toBe("corrupt");
    const damaged = Buffer.from(xzSync(bytes));
    damaged[100]! ^= 0xff;
    expect((await refused(open(damaged, "tar.xz", { sha256: sha256(bytes) }))).message).toMatch(/SHA-256/);
    expect((await refused(open(damaged, "tar.xz"))).message).toMatch(/xz data is damaged/);
    const short = xzSync(bytes).subarray(0, -20);
    expect((await refused(open(short, "tar.xz"))).code).toBe("corrupt");
  });

  test("xz that wants more memory than any preset does", async () => {
    const bytes = Buffer.from(xzSync(tar(good)));
    // Stream header 12, block header: size, flags, filter LZMA2 (0x21), 1 byte of properties.
    const properties = bytes.indexOf(Buffer.from([0x21, 0x01]), 12) + 2;
    bytes[properties] = 40;
    expect(await refused(open(bytes, "tar.xz"))).toMatchObject({
      code: "unsupported",
      message: expect.stringContaining("dictionary"),
    });
  });

  test("whatever a few changed bytes make of an archive ends in one of our errors", async () => {
    const archives = [tar(ociLayout()), tar(dockerArchive()), Buffer.from(xzSync(tar(good)))];
    const change = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...archives), change, async (archive, changes) => {
        const bytes = Buffer.from(archive);
        for (const [at, value] of changes) bytes[at % bytes.length] = value;
        const image = await open(bytes, "tar").catch((error: unknown) => {
          expect(["corrupt", "invalid", "unsupported"]).toContain(codeOf(error));
          return undefined;
        });
        if (image) await blobsOf(image);
      }),
      { numRuns: 150, seed: 42 },
    );
  });

  test("an unknown format", async () => {
    expect((await refused(open(Buffer.from("x"), "qcow2"))).code).toBe("unsupported");
  });

  test("a file that changes after it was proved", async () => {
    const bytes = tar(ociLayout({ layers }));
    const image = await open(bytes);
    const path = join(root, `image-${files - 1}`);
    const changed = Buffer.from(bytes);
    changed.fill(0x42, changed.indexOf("layer 1"), changed.indexOf("layer 1") + 3);
    writeFileSync(path, changed);
    await expect(blobsOf(image)).rejects.toSatisfy((error) => codeOf(error) === "corrupt");
  });
});
