import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { runScript } from "./testing/run.ts";

let root: string;
let to: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "artifacts-"));
  to = join(root, "out");
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const make = (script: string, paths: string[], mostBytes = 1000) =>
  runScript(`const fs = require("node:fs"); ${script}`, { root, artifacts: { paths, to, mostBytes } }).result;

test("files are taken out with their size and digest", async () => {
  const script = 'fs.mkdirSync("a"); fs.writeFileSync("a/b.img", "disk"); fs.writeFileSync("log", "")';
  const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");
  expect(await make(script, ["a/b.img", "log"])).toMatchObject({
    artifacts: [
      { path: "a/b.img", file: join(to, "a/b.img"), bytes: 4, sha256: sha256("disk") },
      { path: "log", file: join(to, "log"), bytes: 0, sha256: sha256("") },
    ],
  });
  expect(readFileSync(join(to, "a/b.img"), "utf8")).toBe("disk");
});

test("a disk is the same with its holes", async () => {
  const script = `const disk = Buffer.alloc(3 * 2 ** 20 + 5); disk[2 ** 21] = 1; fs.writeFileSync("disk", disk)`;
  const { artifacts } = await make(script, ["disk"], 2 ** 22);
  const disk = readFileSync(join(to, "disk"));
  expect(disk.length).toBe(3 * 2 ** 20 + 5);
  expect(artifacts[0]).toMatchObject({ bytes: disk.length, sha256: createHash("sha256").update(disk).digest("hex") });
  expect(disk.indexOf(1)).toBe(2 ** 21);
});

const refused = [
  { name: "a missing file", script: "", path: "a", code: "not-found" },
  { name: "a link", script: 'fs.symlinkSync("/etc/passwd", "a")', path: "a", code: "forbidden" },
  { name: "a file behind a link", script: 'fs.symlinkSync("/etc", "a")', path: "a/passwd", code: "forbidden" },
  { name: "a path up", script: "", path: "../state.json", code: "forbidden" },
  { name: "a path up in the middle", script: 'fs.mkdirSync("a")', path: "a/../../state.json", code: "forbidden" },
  { name: "an absolute path", script: "", path: "/etc/passwd", code: "forbidden" },
  { name: "a NUL", script: "", path: "a\0", code: "forbidden" },
  { name: "a directory", script: 'fs.mkdirSync("a")', path: "a", code: "invalid" },
  { name: "a pipe", script: 'require("node:child_process").execSync("mkfifo a")', path: "a", code: "invalid" },
  { name: "too much", script: 'fs.writeFileSync("a", "x".repeat(1001))', path: "a", code: "quota" },
];
test.each(refused)("$name is refused", async ({ script, path, code }) => {
  await expect(make(script, [path])).rejects.toMatchObject({ code });
  expect(existsSync(join(to, "a"))).toBe(false);
});

test("the limit is of all together", async () => {
  const script = 'fs.writeFileSync("a", "x".repeat(600)); fs.writeFileSync("b", "x".repeat(600))';
  await expect(make(script, ["a", "b"])).rejects.toMatchObject({ code: "quota" });
});
