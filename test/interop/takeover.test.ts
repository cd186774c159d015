// A worker that dies in the middle of a playbook: its processes are gone, the run goes on elsewhere, and the log has both
// attempts. Real processes of ours, the real Ansible.
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Database } from "../../src/database/index.ts";
import { testDatabase } from "../../src/database/testing/postgres.ts";

const MAIN = resolve(import.meta.dirname, "../../src/main.ts");
const hasAnsible = existsSync("/usr/bin/ansible-playbook");
if (!hasAnsible && process.env.CI) throw new Error("ansible-core is not installed");

describe.skipIf(!hasAnsible)("a worker that dies", () => {
  let directory: string;
  let database: Database;
  const workers: ChildProcess[] = [];
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "take-"));
    database = await testDatabase();
    mkdirSync(join(directory, "playbooks"));
    // The first time it waits for ever, with a child of its own in a session of its own; then it is quick.
    const play = (name: string) => [
      ...[`- name: ${name}`, "  hosts: localhost", "  connection: local", "  gather_facts: false", "  tasks:"],
      ...["    - name: begin", `      ansible.builtin.command: mkdir ${directory}/${name}-begun`],
      ...["      register: begun", "      failed_when: false"],
      ...[
        "    - name: linger",
        `      ansible.builtin.command: setsid --wait sleep 98765`,
        "      when: begun.rc == 0",
      ],
      ...["    - name: say it", "      ansible.builtin.debug:", '        msg: "{{ msg.text }}"'],
    ];
    for (const name of ["again", "hold"]) {
      writeFileSync(join(directory, `playbooks/${name}.yml`), `---\n${play(name).join("\n")}\n`);
    }
    writeFileSync(
      join(directory, "slipway.yaml"),
      `automation: { playbooks: playbooks }
database: { url: { env: TAKEOVER_DATABASE } }
console: { listen: off }
rules:
  - { name: again, topic: org.example.again, do: { playbook: { name: again.yml } } }
  - { name: hold, topic: org.example.hold, do: { playbook: { name: hold.yml, on_takeover: hold } } }
`,
    );
    for (const name of ["again", "hold"]) {
      const event = { topic: `org.example.${name}`, id: name, body: { text: "{{ lookup('pipe', 'id') }}" } };
      writeFileSync(join(directory, `${name}.json`), JSON.stringify(event));
    }
  });
  afterAll(async () => {
    for (const worker of workers) worker.kill("SIGKILL");
    await database?.close();
    rmSync(directory, { recursive: true, force: true });
  });

  const environment = (home: string) => ({
    ...{ PATH: process.env.PATH, TAKEOVER_DATABASE: database.url, SLIPWAY_DATA_DIR: join(directory, home) },
  });
  function start(home: string, ...args: string[]): ChildProcess {
    const words = [MAIN, "--config", join(directory, "slipway.yaml"), ...args];
    const worker = spawn(process.execPath, words, { env: environment(home), stdio: "ignore" });
    workers.push(worker);
    return worker;
  }
  async function slipway(...args: string[]) {
    const words = [MAIN, "--config", join(directory, "slipway.yaml"), "--output", "json", ...args];
    const { stdout } = await promisify(execFile)(process.execPath, words, { env: environment("command") });
    // A log is a line of JSON each.
    return args[1] === "logs"
      ? stdout
          .trim()
          .split("\n")
          .filter((line) => line !== "")
          .map((line) => JSON.parse(line))
      : JSON.parse(stdout);
  }
  /** Processes that the playbook has started, by their argument. */
  const lingering = () =>
    readdirSync("/proc").filter((pid) => {
      try {
        return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("sleep\x0098765");
      } catch {
        return false;
      }
    });
  async function dispatchOf(id: string) {
    const { rules } = await slipway("events", "show", id);
    return rules[0] as { runId: string; state: string };
  }

  test("its playbook's processes are gone, and another plays it to the end, or holds it for a person", {
    timeout: 180_000,
  }, async () => {
    // The one that dies takes both playbooks.
    const first = start("one", "serve");
    for (const name of ["again", "hold"]) await slipway("events", "publish", "--file", join(directory, `${name}.json`));
    await expect.poll(() => lingering().length, { timeout: 60_000, interval: 200 }).toBeGreaterThanOrEqual(2);
    for (const name of ["again", "hold"]) {
      const { runId } = await dispatchOf(name);
      const said = async () => JSON.stringify(await slipway("runs", "logs", runId));
      // It reaches the database within a second or two; what is said after that dies with the worker.
      await expect.poll(said, { timeout: 30_000, interval: 200 }).toContain('"begin"');
    }
    start("two", "worker", "--queues", "playbooks,events");
    first.kill("SIGKILL");
    await expect.poll(lingering, { timeout: 30_000, interval: 100 }).toEqual([]);

    const again = await dispatchOf("again");
    const ended = async (run: string) => (await slipway("runs", "show", run)).run.state as string;
    await expect.poll(() => ended(again.runId), { timeout: 60_000, interval: 500 }).toBe("done");
    const shown = await slipway("runs", "show", again.runId);
    const step = shown.steps.find((one: { key: string }) => one.key === "playbook");
    expect(step.attempts.map((one: { state: string }) => one.state)).toEqual(["abandoned", "done"]);
    const executors = new Set(step.attempts.map((one: { executor: string }) => one.executor));
    expect(executors.size).toBe(2);
    const lines = (await slipway("runs", "logs", again.runId)) as {
      attempt?: number;
      fields?: { task?: string; message?: string };
    }[];
    const tasksOf = (attempt: number) =>
      lines.filter((line) => line.attempt === attempt).flatMap((line) => line.fields?.task ?? []);
    expect(tasksOf(1)).toContain("begin");
    expect(tasksOf(2)).toEqual(expect.arrayContaining(["begin", "say it"]));
    // What the message says is data.
    expect(JSON.stringify(lines)).toContain("lookup('pipe', 'id')");
    expect(JSON.stringify(lines)).not.toContain("uid=");

    const hold = await dispatchOf("hold");
    await expect.poll(() => ended(hold.runId), { timeout: 60_000, interval: 500 }).toBe("failed");
    expect((await slipway("runs", "show", hold.runId)).run.error).toMatchObject({
      ...{ code: "conflict", next: expect.stringContaining("slipway events replay hold --rule hold") },
    });
  });
});
