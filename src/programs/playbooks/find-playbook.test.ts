import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { namedPlaybook, playbookForTopic } from "./find-playbook.ts";

let root: string;
let directory: string;
beforeAll(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), "playbooks-")));
  directory = join(root, "books");
  for (const name of ["org.example.thing.yml", "org/example/thing.yml", "sub/site.yaml", "big.yml", "a b.ü.yml"]) {
    mkdirSync(dirname(join(directory, name)), { recursive: true });
    writeFileSync(join(directory, name), "[]");
  }
  truncateSync(join(directory, "big.yml"), 5 * 2 ** 20);
  mkdirSync(join(directory, "folder.yml"));
  writeFileSync(join(root, "outside.yml"), "[]");
  mkdirSync(join(root, "books-beside"));
  writeFileSync(join(root, "books-beside/x.yml"), "[]");
  symlinkSync("../outside.yml", join(directory, "out.yml"));
  symlinkSync("../books-beside/x.yml", join(directory, "beside.yml"));
  symlinkSync("..", join(directory, "up"));
  symlinkSync("org.example.thing.yml", join(directory, "in.yml"));
  symlinkSync("nowhere.yml", join(directory, "dangling.yml"));
  symlinkSync(directory, join(root, "link"));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

describe("by topic", () => {
  const found = [
    { name: "the whole name", topic: "org.example.thing", layout: "name", file: "org.example.thing.yml" },
    { name: "a folder a word", topic: "org.example.thing", layout: "directories", file: "org/example/thing.yml" },
    { name: "any other text", topic: "a b.ü", layout: "name", file: "a b.ü.yml" },
    { name: "a link inside", topic: "in", layout: "name", file: "org.example.thing.yml" },
  ] as const;
  test.each(found)("$name", async ({ topic, layout, file }) => {
    expect(await playbookForTopic(directory, topic, layout)).toMatchObject({ file: join(directory, file), directory });
  });

  const refused = [
    { name: "nothing", topic: "", code: "invalid" },
    { name: "a slash", topic: "org/example/thing", code: "invalid" },
    { name: "an absolute path", topic: "/etc/passwd", code: "invalid" },
    { name: "two dots", topic: "..", code: "invalid" },
    { name: "two dots in the middle", topic: "org..thing", code: "invalid" },
    { name: "a way out", topic: "../outside", code: "invalid" },
    { name: "a dot at the beginning", topic: ".org", code: "invalid" },
    { name: "a dot at the end", topic: "org.", code: "invalid" },
    { name: "a NUL", topic: "org.example.thing\0", code: "invalid" },
    { name: "a line break", topic: "org\nexample", code: "invalid" },
    { name: "half a character", topic: "org.\ud800", code: "invalid" },
    { name: "256 bytes", topic: "x".repeat(256), code: "invalid" },
    { name: "255 bytes, which with .yml are no name", topic: "x".repeat(255), code: "invalid" },
    { name: "251 bytes, which would be one", topic: "x".repeat(251), code: "not-found" },
    { name: "none there", topic: "org.example.other", code: "not-found" },
    { name: "a link to nowhere", topic: "dangling", code: "not-found" },
    { name: "a link out", topic: "out", code: "forbidden" },
    { name: "a link into a directory whose name begins the same", topic: "beside", code: "forbidden" },
    { name: "through a linked folder", topic: "up.outside", layout: "directories", code: "forbidden" },
    { name: "a folder", topic: "folder", code: "invalid" },
    { name: "too large", topic: "big", code: "invalid" },
  ] as const;
  test.each(refused)("$name is refused", async (row) => {
    const layout = "layout" in row ? row.layout : "name";
    await expect(playbookForTopic(directory, row.topic, layout)).rejects.toMatchObject({ code: row.code });
  });
});

test("what is missing says where it was looked for and what to do", async () => {
  await expect(playbookForTopic(directory, "org.example.other")).rejects.toMatchObject({
    subject: join(directory, "org.example.other.yml"),
    next: expect.stringContaining("Put the playbook"),
  });
  await expect(playbookForTopic(join(root, "none"), "x")).rejects.toMatchObject({ code: "not-found" });
});

test("the directory itself may be a link", async () => {
  expect(await playbookForTopic(join(root, "link"), "org.example.thing")).toMatchObject({ directory });
});

describe("by name", () => {
  test("in a folder", async () => {
    expect(await namedPlaybook(directory, "sub/site.yaml")).toMatchObject({ file: join(directory, "sub/site.yaml") });
  });
  const refused = [
    { path: "../outside.yml", code: "forbidden" },
    { path: "sub/../../outside.yml", code: "forbidden" },
    { path: "/etc/passwd", code: "forbidden" },
    { path: "out.yml", code: "forbidden" },
    { path: "sub//site.yaml", code: "invalid" },
    { path: "./in.yml", code: "invalid" },
    { path: "in.yml\0", code: "invalid" },
    { path: "in", code: "invalid" },
    { path: "", code: "invalid" },
    { path: "none.yml", code: "not-found" },
  ];
  test.each(refused)("$path: $code", async ({ path, code }) => {
    await expect(namedPlaybook(directory, path)).rejects.toMatchObject({ code });
  });
});
