import { expect, test } from "vitest";
import { imageSpec } from "./specs.ts";
import { plannedImage } from "./testing/planned.ts";

test("a driver is told names, regions, end of life and facts, and nothing that is not there", () => {
  expect(imageSpec(plannedImage())).toEqual({
    key: expect.stringMatching(/^[a-z2-7]{52}$/),
    diskKey: expect.stringMatching(/^[a-z2-7]{52}$/),
    name: "Fedora-Cloud-43",
    description: "A disk",
    arch: "x86_64",
    diskBytes: 0,
    homeRegion: "us-east-1",
    regions: ["us-east-1", "eu-west-1"],
    endOfLife: "2026-12-02",
    tags: { ComposeID: "Fedora-43-20251021.0" },
  });
  const azure = imageSpec(plannedImage({ definition: "Fedora", version: "43.1.0", family: "fedora" }));
  expect(azure).toMatchObject({ definition: "Fedora", version: "43.1.0", family: "fedora" });
});

test("the same image has the same keys, wherever else it goes and whatever its description says", () => {
  const { key, diskKey } = imageSpec(plannedImage());
  const other = imageSpec(plannedImage({ description: "Another text", regions: ["us-east-1"] }));
  expect([other.key, other.diskKey]).toEqual([key, diskKey]);
});

test.each([
  ["name", plannedImage({ name: "Other" })],
  ["target", plannedImage({ target: "aws-china" })],
  ["architecture", plannedImage({ arch: "aarch64" })],
  ["bytes", plannedImage({ artifact: { ...plannedImage().artifact, sha256: "cd".repeat(32) } })],
])("another %s is another image", (_, planned) => {
  expect(imageSpec(planned).key).not.toBe(imageSpec(plannedImage()).key);
});
