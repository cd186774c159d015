import { readdirSync } from "node:fs";
import { expect, test } from "vitest";
import { CLOUD_NAMES, type CloudOptions, openCloud } from "./index.ts";

test("every folder that is a cloud is in the registry, and nothing else", () => {
  const folders = readdirSync(import.meta.dirname, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && entry.name !== "testing")
    .map((entry) => entry.name);
  expect([...CLOUD_NAMES].sort()).toEqual(folders.sort());
});

test("a cloud nobody knows is refused with the names of those we do", async () => {
  const options = { cloud: "nimbus" } as unknown as CloudOptions;
  await expect(openCloud(options)).rejects.toMatchObject({
    code: "unsupported",
    next: expect.stringContaining("local"),
  });
});
