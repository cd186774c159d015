import fc from "fast-check";
import { expect, test } from "vitest";
import { diskKey, imageKey } from "./image-key.ts";

const sha256 = "ab".repeat(32);

test("a key never changes: resources in the clouds carry it", () => {
  const key = imageKey({ target: "aws", kind: "image", name: "Fedora-43", arch: "x86_64", sha256 });
  expect(key).toMatchInlineSnapshot(`"6li4pmj23ebvfchbq3xo5gw4hhttzgkcncaxg3fscdvlvnq5jr6q"`);
});

test("a key is a GCP label: 52 lower-case letters and digits", () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), (name, arch) => {
      expect(imageKey({ target: "aws", kind: "image", name, arch, sha256 })).toMatch(/^[a-z2-7]{52}$/);
    }),
  );
});

test("every part counts, and parts do not run into each other", () => {
  const base = { target: "aws", kind: "image", name: "n", arch: "x86_64", sha256 };
  const keys = [
    imageKey(base),
    imageKey({ ...base, target: "aws2" }),
    imageKey({ ...base, kind: "disk" }),
    imageKey({ ...base, name: "nx", arch: "86_64" }),
    imageKey({ ...base, arch: "aarch64" }),
    imageKey({ ...base, sha256: "cd".repeat(32) }),
  ];
  expect(new Set(keys).size).toBe(keys.length);
  expect(diskKey(base)).toBe(imageKey({ ...base, kind: "disk" }));
});

test.each(["", "AB".repeat(32), "ab".repeat(31), `${sha256}\n`])("digest %j is refused", (wrong) => {
  expect(() => imageKey({ target: "aws", kind: "image", sha256: wrong })).toThrow(
    expect.objectContaining({ code: "invalid" }),
  );
});
