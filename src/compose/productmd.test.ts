import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SlipwayError } from "../lib/errors.ts";
import { readCompose } from "./productmd.ts";
import { composeFiles, fixture, madeCompose, madeFiles } from "./testing/composes.ts";

const RAW = { type: "raw-xz", format: "raw.xz" };

describe("real metadata", () => {
  test("1.0: no header type, no subvariant, no release type", () => {
    const compose = fixture("Fedora-24-20151130.n.2");
    expect(compose).toMatchObject({ type: "nightly", date: "20151130", respin: 2 });
    expect(compose.release).toEqual({ name: "Fedora", short: "Fedora", version: "24", type: "ga" });
    expect(compose.artifacts).toHaveLength(11);
    expect(new Set(compose.artifacts.map((artifact) => artifact.subvariant))).toEqual(new Set([""]));
  });

  test("1.2: a candidate with its label", () => {
    const compose = fixture("Fedora-28-20180425.0");
    expect(compose).toMatchObject({ type: "production", final: true, label: { text: "RC-1.1", version: "1.1" } });
    expect(compose.artifacts).toHaveLength(98);
    expect(compose.artifacts.find((artifact) => artifact.path.endsWith("28-1.1.x86_64.raw.xz"))).toEqual({
      path: "AtomicHost/x86_64/images/Fedora-AtomicHost-28-1.1.x86_64.raw.xz",
      url: "https://kojipkgs.fedoraproject.org/compose/Fedora-28-20180425.0/compose/AtomicHost/x86_64/images/Fedora-AtomicHost-28-1.1.x86_64.raw.xz",
      bytes: 464506420,
      sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
      arch: "x86_64",
      type: "raw-xz",
      format: "raw.xz",
      subvariant: "AtomicHost",
      variant: "AtomicHost",
    });
  });

  test("artifacts come in the order of their paths", () => {
    const paths = fixture("Fedora-Rawhide-20230502.n.0").artifacts.map((artifact) => artifact.path);
    expect(paths).toEqual([...paths].sort());
  });
});

test("0.3 of composeinfo calls the release a product", () => {
  const files = composeFiles("Fedora-24-20151130.n.2");
  const info = JSON.parse(files.composeinfo);
  const { release: product, ...payload } = info.payload;
  const composeinfo = JSON.stringify({ header: { version: "0.3" }, payload: { ...payload, product } });
  expect(readCompose({ ...files, composeinfo }).release.version).toBe("24");
});

describe("2.0", () => {
  const location = {
    url: "Cloud/x86_64/images/disk.raw.xz",
    size: 3_000_000_000,
    checksum: `sha256:${"a".repeat(64)}`,
    local_path: "Cloud/x86_64/images/disk.raw.xz",
  };
  const read = (given: object) => {
    const files = madeFiles({ images: [{ ...RAW }] });
    const images = JSON.parse(files.images);
    images.header.version = "2.0";
    const { path: _, size: __, checksums: ___, ...entry } = images.payload.images.Cloud.any[0];
    images.payload.images.Cloud.any = [{ ...entry, location: { ...location, ...given } }];
    return readCompose({ ...files, images: JSON.stringify(images) });
  };

  test("path, size and checksum stand in a location", () => {
    expect(read({}).artifacts[0]).toMatchObject({
      path: "Cloud/x86_64/images/disk.raw.xz",
      url: "https://example.org/compose/Cloud/x86_64/images/disk.raw.xz",
      bytes: 3_000_000_000,
      sha256: "a".repeat(64),
    });
  });

  test("a file may lie on another server", () => {
    expect(read({ url: "https://cdn.example.org/x/disk.raw.xz" }).artifacts[0]?.url).toBe(
      "https://cdn.example.org/x/disk.raw.xz",
    );
  });

  test.each(["oci://quay.io/fedora/cloud:43", "http://example.org/x", "file:///etc/shadow"])(
    "%s is not read",
    (url) => {
      expect(read({ url })).toMatchObject({
        artifacts: [],
        unusable: [{ reason: expect.stringContaining("outside the compose") }],
      });
    },
  );

  test("another digest than SHA-256 cannot be checked", () => {
    expect(read({ checksum: `md5:${"a".repeat(32)}` })).toMatchObject({
      artifacts: [],
      unusable: [{ artifact: location.local_path, reason: expect.stringContaining("no SHA-256") }],
    });
  });

  test.each(["../x.raw.xz", "/x"])("a url %s is refused", (url) => {
    expect(() => read({ url })).toThrow(/location\.url/);
  });
});

test("unknown types and formats are kept for selection to ignore", () => {
  const compose = madeCompose({ images: [{ type: "hologram", format: "holo.zst" }] });
  expect(compose.artifacts[0]).toMatchObject({ type: "hologram", format: "holo.zst" });
});

test("unknown fields are let through", () => {
  expect(madeCompose({ images: [{ ...RAW, shape: { round: true } }] }).artifacts).toHaveLength(1);
});

test("a file listed under two variants is one file; with other bytes it is a contradiction", () => {
  const image = { ...RAW, path: "Cloud/a.raw.xz", size: 5, checksums: { sha256: "a".repeat(64) } };
  expect(madeCompose({ images: [image, image] }).artifacts).toHaveLength(1);
  expect(() => madeCompose({ images: [image, { ...image, size: 6 }] })).toThrow(/listed twice/);
});

test("an image without SHA-256 is told, not fatal", () => {
  const compose = madeCompose({ images: [{ ...RAW, path: "a", checksums: { md5: "0".repeat(32) } }, RAW] });
  expect(compose.artifacts).toHaveLength(1);
  expect(compose.unusable).toEqual([{ artifact: "a", reason: expect.stringContaining("no SHA-256") }]);
});

test("an ordinary name stands in its URL as it is; what a URL would misread is escaped", () => {
  const image = (path: string) => madeCompose({ images: [{ ...RAW, path }] }).artifacts[0]?.url;
  expect(image("Cloud/Fedora_1~2-3.raw.xz")).toBe("https://example.org/compose/Cloud/Fedora_1~2-3.raw.xz");
  expect(image("a/%2e%2e/b?c#d")).toBe("https://example.org/compose/a/%252e%252e/b%3Fc%23d");
});

describe("status", () => {
  test("is one word, with or without a line break", () => {
    expect(madeCompose({ status: "FINISHED_INCOMPLETE\n" }).status).toBe("FINISHED_INCOMPLETE");
    expect(madeCompose({}).status).toBeUndefined();
  });
  test("a page of HTML is not a status", () => {
    expect(() => madeCompose({ status: "<html>not found</html>" })).toThrow(
      expect.objectContaining({ subject: "STATUS" }),
    );
  });
});

describe("bad metadata is refused, naming the file, the field and the way out", () => {
  const files = madeFiles({ images: [RAW], label: "RC-1.6" });
  const breakImages = (change: (images: ReturnType<typeof JSON.parse>) => void) => {
    const images = JSON.parse(files.images);
    change(images);
    return { ...files, images: JSON.stringify(images) };
  };
  const breakInfo = (change: (info: ReturnType<typeof JSON.parse>) => void) => {
    const info = JSON.parse(files.composeinfo);
    change(info);
    return { ...files, composeinfo: JSON.stringify(info) };
  };
  const firstImage = (fields: object) =>
    breakImages((images) => Object.assign(images.payload.images.Cloud.any[0], fields));
  const image = "payload.images.Cloud.any[0]";

  const cases: readonly { name: string; given: typeof files; subject: string; why?: string }[] = [
    { name: "not JSON", given: { ...files, images: "<html>" }, subject: "metadata/images.json", why: "is not JSON" },
    { name: "empty", given: { ...files, composeinfo: " " }, subject: "metadata/composeinfo.json", why: "is empty" },
    { name: "JSON, but a list", given: { ...files, images: "[]" }, subject: "metadata/images.json: " },
    {
      name: "too long",
      given: { ...files, images: " ".repeat(17 * 1024 * 1024) },
      ...{ subject: "metadata/images.json", why: "over the limit" },
    },
    {
      name: "too deep",
      given: { ...files, images: "[".repeat(100_000) },
      ...{ subject: "metadata/images.json", why: "nested deeper" },
    },
    {
      name: "a field named __proto__",
      given: { ...files, images: files.images.replace('"payload"', '"__proto__":{"x":1},"payload"') },
      ...{ subject: "metadata/images.json", why: "__proto__" },
    },
    {
      name: "an unknown version",
      given: breakImages((images) => Object.assign(images.header, { version: "3.0" })),
      ...{ subject: "metadata/images.json: header.version", why: '"3.0"; known are 1.0, 1.1, 1.2, 2.0' },
    },
    {
      name: "the other file",
      given: { ...files, images: files.composeinfo },
      ...{ subject: "metadata/images.json: header.type", why: "productmd.composeinfo" },
    },
    {
      name: "two composes",
      given: breakImages((images) => Object.assign(images.payload.compose, { id: "Fedora-42-20251021.0" })),
      ...{ subject: "metadata/images.json: payload.compose.id", why: "two composes" },
    },
    {
      name: "an id that is none",
      given: { ...madeFiles({ id: "../../etc" }) },
      ...{ subject: "metadata/composeinfo.json: payload.compose.id" },
    },
    {
      name: "a label that is none",
      given: { ...madeFiles({ label: "Gold" }) },
      ...{ subject: "metadata/composeinfo.json: payload.compose.label", why: '"Gold"' },
    },
    {
      name: "no release",
      given: breakInfo((info) => delete info.payload.release),
      ...{ subject: "metadata/composeinfo.json: payload.release", why: "is missing" },
    },
    {
      name: "an impossible date",
      given: breakInfo((info) => Object.assign(info.payload.compose, { date: "20251341" })),
      ...{ subject: "metadata/composeinfo.json: payload.compose.date" },
    },
    { name: "no size", given: firstImage({ size: undefined }), subject: `metadata/images.json: ${image}.size` },
    ...[0, -1, 1.5, "12", 2 ** 53, 2 ** 41].map((size) => ({
      name: `the size ${size}`,
      given: firstImage({ size }),
      subject: `metadata/images.json: ${image}.size`,
    })),
    {
      name: "a digest that is none",
      given: firstImage({ checksums: { sha256: "g".repeat(64) } }),
      subject: `metadata/images.json: ${image}.checksums.sha256`,
    },
    ...(
      [
        ["../../etc/shadow", "leaves the compose directory"],
        ["Cloud/../../x", "leaves the compose directory"],
        ["/etc/shadow", "is absolute"],
        ["Cloud\\..\\x", "has a backslash"],
        ["Cloud/\0x", "NUL"],
        ["Cloud/\nx", "control character"],
        ["Cloud//x", "empty"],
        ["./x", '"." part'],
        ["", "is empty"],
        ["C:/x", "drive"],
        ["file:///etc/shadow", "URL"],
        ["x".repeat(2000), "longer"],
      ] as const
    ).map(([path, why]) => ({
      name: `the path ${JSON.stringify(path.slice(0, 30))}`,
      given: firstImage({ path }),
      subject: `metadata/images.json: ${image}.path`,
      why,
    })),
    {
      name: "too many images",
      given: breakImages((images) => {
        const [entry] = images.payload.images.Cloud.any;
        images.payload.images.Cloud.any = Array.from({ length: 20_001 }, (_, at) => ({ ...entry, path: `p${at}` }));
      }),
      ...{ subject: "metadata/images.json: payload.images", why: "more than 20000" },
    },
  ];

  test.each(cases)("$name", ({ given, subject, why }) => {
    const error = thrownBy(() => readCompose(given));
    expect(error).toMatchObject({ code: "invalid", next: expect.stringMatching(/\w/) });
    expect(error.subject).toContain(subject);
    expect(error.message).toContain(why ?? subject);
  });

  test.each([
    "ftp://example.org/compose",
    "example.org/compose",
    "https://user:pass@example.org/compose",
    "https://example.org/compose?x=1",
    "https://example.org/com pose",
    "https://example.org/com\npose",
    "https://example.org\\compose",
    "",
  ])("the location %j", (location) => {
    const error = thrownBy(() => readCompose({ ...files, location }));
    expect(error).toMatchObject({ code: "invalid", subject: "location" });
    expect(error.message).not.toContain("pass@");
  });

  test("a location keeps its double slash and loses the one at its end", () => {
    const compose = readCompose({ ...files, location: "https://example.org/compose//rawhide/" });
    expect(compose.location).toBe("https://example.org/compose//rawhide");
  });
});

test("whatever is in the files, it is a compose or an error of ours", () => {
  const files = madeFiles({ images: [RAW] });
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 4 }), fc.constantFrom("composeinfo", "images"), (payload, which) => {
      const text = JSON.stringify({ header: { version: "1.2", type: `productmd.${which}` }, payload });
      const outcome = thrownBy(() => readCompose({ ...files, [which]: text }), true);
      expect(outcome === undefined || outcome instanceof SlipwayError).toBe(true);
    }),
  );
});

function thrownBy(act: () => unknown, mayPass = false): SlipwayError {
  try {
    act();
  } catch (error) {
    return error as SlipwayError;
  }
  if (mayPass) return undefined as unknown as SlipwayError;
  throw new Error("nothing was thrown");
}
