// The commands about events and rules as a person calls them, each a process of its own.
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Database } from "../../src/database/index.ts";
import { testDatabase } from "../../src/database/testing/postgres.ts";

const MAIN = resolve(import.meta.dirname, "../../src/main.ts");
let database: Database;
let directory: string;

beforeAll(async () => {
  database = await testDatabase();
  directory = await mkdtemp(join(tmpdir(), "events-"));
  await writeFile(
    join(directory, "slipway.yaml"),
    `database: { url: { env: EVENTS_DATABASE } }
rules:
  - { topic: "org.example.*.status.change", system: none }
  - { name: push, topic: org.example.push, when: body.ref == "main", do: { heal: {} }, throttle: { per: 1h } }
systems: { none: {} }
`,
  );
});
afterAll(async () => {
  await database?.close();
  await rm(directory, { recursive: true, force: true });
});

async function slipway(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  return new Promise((done) => {
    const env = { PATH: process.env.PATH, EVENTS_DATABASE: database.url };
    execFile(process.execPath, [MAIN, ...args], { cwd: directory, env }, (error, out, err) => {
      done({ code: error === null ? 0 : Number(error.code), out, err });
    });
  });
}
const json = async (...args: string[]) => JSON.parse((await slipway("--output", "json", ...args)).out);
async function file(name: string, content: object | string): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, typeof content === "string" ? content : JSON.stringify(content));
  return path;
}

test("a rule is tried on an event without a database, and says why the others would not act", async () => {
  const event = await file("push.json", { topic: "org.example.push", id: "p1", body: { ref: "main" } });
  const { code, out } = await slipway("rules", "test", event);
  expect(code).toBe(0);
  expect(out).toBe(
    "org.example.push p1\n" +
      "  not   release-none: the topic is not org.example.*.status.change\n" +
      "  acts  push: heal\n",
  );
  const other = await file("other.json", { topic: "org.example.push", body: { ref: "dev" } });
  expect((await slipway("rules", "test", other)).out).toContain('not   push: when is false: body.ref == "main"');
});

test("an event is published, acted on once, shown and done again", async () => {
  const event = await file("push.json", { topic: "org.example.push", id: "p1", body: { ref: "main" } });
  const published = await json("events", "publish", "--file", event, "--wait");
  expect(published).toMatchObject({ id: "p1", repeated: false, rules: [{ rule: "push", state: "started" }] });
  expect(await json("events", "publish", "--file", event)).toEqual({ id: "p1", repeated: true });
  const [listed] = await json("events", "list");
  expect(listed).toMatchObject({ id: "p1", source: "command", deliveries: 2, rules: [{ rule: "push", run: "done" }] });
  expect((await slipway("events", "replay", "p1", "--dry-run")).out).toContain("acts  push: heal");
  expect(await json("events", "replay", "p1")).toMatchObject({ started: 1 });
  const shown = await json("events", "show", "p1");
  expect(
    shown.rules.map(({ generation, state }: { generation: number; state: string }) => [generation, state]),
  ).toEqual([
    [1, "started"],
    [2, "started"],
  ]);
  // Whoever follows it works on it.
  await slipway("runs", "watch", shown.rules[1].runId);
  expect(await json("runs", "show", shown.rules[1].runId)).toMatchObject({
    run: { state: "done", labels: { event: "p1", rule: "push" } },
    outcome: { result: "nothing", why: "no region is missing" },
  });
});

test("what is paused waits, and goes on", async () => {
  expect((await slipway("pause", "push", "--reason", "mass rebuild")).code).toBe(0);
  expect((await slipway("rules", "list")).out).toMatch(/push .*paused \(hold\): mass rebuild/);
  const event = await file("held.json", { topic: "org.example.push", id: "p2", body: { ref: "main" } });
  await json("events", "publish", "--file", event);
  expect((await json("resume", "push")).was).toBe(true);
  expect((await json("resume", "push")).was).toBe(false);
});

test.each([
  ["no JSON", "{", /no event/],
  ["no topic", { body: {} }, /it has no topic/],
  ["a body that is none", { topic: "a", body: [1] }, /its body is no object/],
  ["headers that cannot be", { topic: "a", body: {}, headers: { fedora_messaging_severity: 21 } }, /severity/],
  ["a topic too long", { topic: "a".repeat(256), body: {} }, /255/],
  ["a topic with NUL", { topic: "a\u0000b", body: {} }, /control characters/],
])("%s is refused", async (_, content, message) => {
  const { code, err } = await slipway("events", "publish", "--file", await file("bad.json", content));
  expect(code).toBe(1);
  expect(err).toMatch(message);
});

test("what is asked for wrongly is told with the way out", async () => {
  expect((await slipway("events", "replay")).err).toContain("--since");
  expect((await slipway("events", "replay", "nobody")).err).toContain("slipway events list");
  expect((await slipway("events", "replay", "--since", "soon")).err).toContain("2h");
  expect((await slipway("pause", "nobody", "--reason", "x")).err).toContain("There are release-none, push.");
  expect((await slipway("worker", "--queues", "playbook")).err).toContain("playbooks");
});

test("the form that asks for an automation user is a file to be reviewed", async () => {
  const out = join(directory, "request.md");
  const { code } = await slipway(
    ...["automation", "request", "koji", "--purpose", "Tag builds\nwhen tests pass", "--hosts", "composer01"],
    ...["--playbooks", "koji/*.yml", "--commands", "/usr/bin/koji tag-build", "--out", out],
  );
  expect(code).toBe(0);
  await expect(await readFile(out, "utf8")).toMatchFileSnapshot("testdata/automation-request.md");
  const refused = await slipway(
    ...["automation", "request", "koji", "--purpose", "x", "--hosts", "h", "--playbooks", "../../etc/x.yml"],
  );
  expect(refused.err).toContain("not the name of a playbook");
});
