// What surrounds Ansible, with programs in its place that print what they were told and were given. The real one is
// played in test/interop/playbooks.test.ts.
import { mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Log, LogFields } from "../../lib/call.ts";
import { namedPlaybook } from "./find-playbook.ts";
import { type PlaySpec, playEvent } from "./play.ts";

let directory: string;
let bin: string;
let root: string;
beforeEach(() => {
  directory = realpathSync(mkdtempSync(join(tmpdir(), "play-")));
  bin = join(directory, "bin");
  root = join(directory, "root");
  mkdirSync(bin);
  writeFileSync(join(directory, "site.yml"), "[]");
});
afterEach(() => {
  expect(readdirSync(root, { encoding: "utf8" })).toEqual([]);
  rmSync(directory, { recursive: true });
});

function install(name: string, script: string): void {
  writeFileSync(join(bin, name), `#!${process.execPath}\n${script}`, { mode: 0o755 });
}
const print = (...lines: string[]) => `process.stdout.write(${JSON.stringify(`${lines.join("\n")}\n`)});`;
const RECAP = ["PLAY RECAP ***", "here : ok=1 changed=1 unreachable=0 failed=0 skipped=0 rescued=0 ignored=0"];

type Told = { level: string; message: string; fields: LogFields | undefined };
async function play(more: Partial<PlaySpec> = {}) {
  const told: Told[] = [];
  const say = (level: string) => (message: string, fields?: LogFields) => void told.push({ level, message, fields });
  const log: Log = { debug: say("debug"), info: say("info"), warn: say("warn"), error: say("error") };
  const result = playEvent(
    {
      playbook: await namedPlaybook(directory, "site.yml"),
      event: { topic: "t", id: "i", severity: 20, headers: {}, body: { text: "{{ x }}" } },
      ...{ root, owner: "o", runId: "r-1", timeoutMs: 60_000, environment: { PATH: bin } },
      ...more,
    },
    { signal: new AbortController().signal, log },
  );
  return { result, told };
}

const TELL = `
  const { readFileSync } = require("node:fs");
  console.log("argv " + JSON.stringify(process.argv.slice(2)));
  console.log("cwd " + process.cwd());
  console.log("config " + process.env.ANSIBLE_CONFIG);
`;
const saidBy = (told: readonly Told[], word: string) =>
  told.flatMap(({ fields }) =>
    String(fields?.text).startsWith(`${word} `) ? [String(fields!.text).slice(word.length + 1)] : [],
  )[0];

test("ansible-playbook gets its arguments, the variables in a file, and the configuration beside the playbook", async () => {
  writeFileSync(join(directory, "ansible.cfg"), "");
  for (const name of ["vault", "key"]) writeFileSync(join(directory, name), "file of secrets\n");
  const file = `readFileSync(process.argv[2].split("@")[1], "utf8")`;
  install("ansible-playbook", `${TELL} console.log("vars " + JSON.stringify(${file})); ${print(...RECAP)}`);
  const { result, told } = await play({
    ...{ inventory: "a,", remoteUser: "-x", become: true, check: true, limit: "a b", tags: ["x", "y"] },
    ...{ vaultPasswordFile: join(directory, "vault"), privateKeyFile: join(directory, "key") },
  });
  expect(await result).toMatchObject({ changed: true, hosts: { here: { ok: 1 } }, tolerated: [] });
  expect(JSON.parse(saidBy(told, "argv")!)).toEqual([
    expect.stringMatching(/^--extra-vars=@\/.*\/work\/event\.yml$/),
    ...["--inventory=a,", `--vault-password-file=${directory}/vault`, "--user=-x", `--private-key=${directory}/key`],
    ...["--limit=a b", "--tags=x,y", "--become", "--check", "--", "site.yml"],
  ]);
  expect(saidBy(told, "cwd")).toBe(directory);
  expect(saidBy(told, "config")).toBe(join(directory, "ansible.cfg"));
  expect(JSON.parse(saidBy(told, "vars")!)).toContain('!unsafe "{{ x }}"');
});

test("ansible-runner is preferred if both are there, and its arguments survive quoting", async () => {
  install("ansible-playbook", "process.exit(1)");
  const stats = { event: "playbook_on_stats", event_data: { ok: { here: 1 } } };
  const quoted = `readFileSync(process.argv[3] + "/env/cmdline", "utf8")`;
  install("ansible-runner", `${TELL} console.log("quoted " + ${quoted}); ${print(JSON.stringify(stats))}`);
  const { result, told } = await play({ limit: "it's; $(id)" });
  expect(await result).toMatchObject({ hosts: { here: { ok: 1 } } });
  const [run, place, ...rest] = JSON.parse(saidBy(told, "argv")!);
  expect([run, ...rest]).toEqual([
    "run",
    "--json",
    "--project-dir",
    directory,
    "--playbook",
    "site.yml",
    "--ident",
    "play",
  ]);
  expect(saidBy(told, "quoted")).toBe(`'--extra-vars=@${place}/event.yml' '--limit=it'"'"'s; $(id)'`);
  expect(saidBy(told, "config")).toBe("undefined");
});

test("the runner alone is not enough", async () => {
  install("ansible-runner", "");
  const { result } = await play();
  await expect(result).rejects.toMatchObject({ code: "not-found", next: expect.stringContaining("ansible-core") });
});

test("what stands in the files of secrets is masked", async () => {
  writeFileSync(join(directory, "vault"), "open sesame\n");
  writeFileSync(join(directory, "key"), "-----BEGIN KEY-----\nMIIEvQIBADAN\n-----END KEY-----\n");
  const fatal = 'fatal: [here]: FAILED! => {"msg": "open sesame, MIIEvQIBADAN, hunter2"}';
  install(
    "ansible-playbook",
    `${print("TASK [open sesame] ***", fatal)} console.error("hunter2"); process.exitCode = 2`,
  );
  const files = { vaultPasswordFile: join(directory, "vault"), privateKeyFile: join(directory, "key") };
  const { result, told } = await play({ ...files, secrets: ["hunter2"] });
  await expect(result).rejects.toMatchObject({
    ...{ code: "invalid", next: "slipway runs logs r-1" },
    message: 'the playbook site.yml failed at the task "***" on here: ***, ***, ***',
  });
  expect(JSON.stringify(told)).not.toMatch(/sesame|MIIE|hunter/);
});

test("of several failures the last one that counts is named", async () => {
  const fail = (host: string, message: string) => `fatal: [${host}]: FAILED! => {"msg": "${message}"}`;
  const lines = ["TASK [a] ***", fail("one", "x"), fail("two", "y"), "TASK [b] ***", fail("two", "z"), "...ignoring"];
  install("ansible-playbook", `${print(...lines)} process.exitCode = 2`);
  const { result } = await play();
  await expect(result).rejects.toMatchObject({ message: expect.stringMatching(/task "a" on two \(and 1 more\): y$/) });
});

test("a failure outside of any task quotes what was said", async () => {
  install("ansible-playbook", 'console.error("ERROR! syntax"); process.exitCode = 4');
  const { result } = await play();
  await expect(result).rejects.toMatchObject({
    ...{ code: "invalid", message: "the playbook site.yml could not be run (exit code 4): ERROR! syntax" },
  });
});

test("thousands of turns are told up to a limit, failures always", async () => {
  const lines = [...Array.from({ length: 10_100 }, () => "ok: [here]"), 'fatal: [here]: FAILED! => {"msg": "no"}'];
  install("ansible-playbook", `${print("TASK [a] ***", ...lines)} process.exitCode = 2`);
  const { result, told } = await play();
  await expect(result).rejects.toMatchObject({ code: "invalid" });
  expect(told.filter(({ message }) => message === "a task")).toHaveLength(9_999);
  expect(told.filter(({ level }) => level === "warn").map(({ message }) => message)).toEqual([
    ...["the playbook says too much, only failures are told from here", "a task failed"],
  ]);
});

const refused = [
  { name: "a limit that reads a file", more: { limit: "@/etc/passwd" }, code: "invalid" },
  { name: "a vault password file that is not there", more: { vaultPasswordFile: "/none" }, code: "unauthenticated" },
];
test.each(refused)("$name is refused", async ({ more, code }) => {
  mkdirSync(root);
  install("ansible-playbook", "");
  const { result } = await play(more);
  await expect(result).rejects.toMatchObject({ code });
});
