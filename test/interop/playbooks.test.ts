// Playbooks about hostile events, played by the real Ansible.
import { execFileSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { CallContext, LogFields } from "../../src/lib/call.ts";
import type { Json } from "../../src/model.ts";
import { eventVariables } from "../../src/programs/playbooks/event-variables.ts";
import { namedPlaybook, playbookForTopic } from "../../src/programs/playbooks/find-playbook.ts";
import { type PlaySpec, playEvent } from "../../src/programs/playbooks/play.ts";
import { allProcesses } from "../../src/programs/processes.ts";

// A second, newer Ansible may be given by the directory of its programs.
const PATH = [process.env.SLIPWAY_ANSIBLE_BIN, process.env.PATH].filter(Boolean).join(delimiter);
const has = (program: string) => PATH.split(delimiter).some((directory) => existsSync(join(directory, program)));
const hasAnsible = has("ansible-playbook");
if (!hasAnsible && process.env.CI) throw new Error("ansible-playbook is not installed");
if (!has("ansible-runner") && process.env.CI) throw new Error("ansible-runner is not installed");

const PLAYERS = (["ansible-playbook", "ansible-runner"] as const).filter(has);

describe.skipIf(!hasAnsible)("Ansible", () => {
  let directory: string;
  let root: string;
  beforeEach(() => {
    directory = realpathSync(mkdtempSync(join(tmpdir(), "playbooks-")));
    root = realpathSync(mkdtempSync(join(tmpdir(), "p-")));
    put("inventory", "here ansible_connection=local ansible_python_interpreter=/usr/bin/python3\n");
  });
  afterEach(() => {
    expect(readdirSync(root)).toEqual([]);
    rmSync(root, { recursive: true });
    rmSync(directory, { recursive: true });
  });

  function put(name: string, text: string, mode = 0o644): string {
    const path = join(directory, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text, { mode });
    return path;
  }
  const playbook = (tasks: string, more = "") =>
    put(
      "org.example.thing.yml",
      `- hosts: all\n  gather_facts: false\n${more}  tasks:\n${tasks.replace(/^ {0,}\n/, "").replace(/^/gm, "    ")}\n`,
    );

  type Told = { level: string; message: string; fields: LogFields | undefined };
  async function play(
    by: "ansible-playbook" | "ansible-runner",
    body: Record<string, Json>,
    {
      headers = {},
      signal = new AbortController().signal,
      onTold,
      ...more
    }: Partial<PlaySpec> & {
      headers?: Record<string, Json>;
      signal?: AbortSignal;
      onTold?: (told: Told) => void;
    } = {},
  ) {
    const told: Told[] = [];
    const say = (level: string) => (message: string, fields?: LogFields) => {
      told.push({ level, message, fields });
      onTold?.(told.at(-1)!);
    };
    const log: CallContext["log"] = { debug: say("debug"), info: say("info"), warn: say("warn"), error: say("error") };
    const result = playEvent(
      {
        playbook: await playbookForTopic(directory, "org.example.thing"),
        event: { topic: "org.example.thing", id: "id-1", severity: 20, headers, body },
        ...{ by, root, owner: "run-1", runId: "run-1", timeoutMs: 100_000, inventory: join(directory, "inventory") },
        environment: { PATH },
        ...more,
      },
      { signal, log },
    );
    const tasks = () => told.filter(({ message }) => /^a (task|turn)/.test(message)).map(({ fields }) => fields!);
    return { result, told, tasks };
  }

  const inject = (file: string) => `{{ lookup('pipe', 'touch ${join(directory, file)}') }}`;
  const injected = () => readdirSync(directory).filter((name) => name.startsWith("HIT"));

  // Everything a playbook might do with what it was given, old habits included.
  const HARD = `
- debug: {var: msg}
- debug: {var: slipway_event}
- set_fact:
    first: "{{ msg.keys() | list | first }}"
    second: "x {{ msg.keys() | list | first }}"
    joined: "{{ msg.keys() | join('') }}"
    whole: "{{ msg }}"
    text: "{{ msg | to_json }}"
    event: "{{ slipway_event }}"
- debug: {msg: "{{ first }} {{ second }} {{ joined }} {{ whole }} {{ text }} {{ event }} {{ hostvars[inventory_hostname].text }}"}
- debug: {msg: "{{ derived }} {{ other }} {{ deep.keys() | list | first | default('') }}"}
- debug: {msg: "{{ item.key }} {{ item.value }}"}
  loop: "{{ msg | dict2items }}"
- debug: {msg: "{{ item.key }}"}
  with_dict: "{{ msg }}"
- debug: {msg: "{{ item }}"}
  loop: "{{ msg.list | default([]) | flatten }}"
- shell: "cat > /dev/null"
  args: {stdin: "{{ first }} {{ text }} {{ whole }}"}
- copy: {content: "{{ {'msg': msg, 'event': slipway_event} | to_json }}", dest: "${"{{ playbook_dir }}"}/seen.json"}
- template: {src: page.j2, dest: "${"{{ playbook_dir }}"}/page.txt"}`;
  const VARS = `  vars:
    derived: "{{ msg.keys() | list | first }}"
    other: "y {{ msg.keys() | list | first }}"
    deep: "{{ msg.deep | default({}) }}"
`;

  const BODIES: Record<string, () => Record<string, Json>> = {
    "in a text": () => ({ text: inject("HIT") }),
    "in lists of lists": () => ({ list: [[inject("HIT-a"), [{ x: inject("HIT-b") }]], 1] }),
    "in a key": () => ({ [inject("HIT")]: "text" }),
    "in a key of an object without texts": () => ({ [inject("HIT")]: 1 }),
    "in a key below": () => ({ text: "a text", deep: { [inject("HIT")]: 1 } }),
    "in two keys that are joined": () => ({ "{": 1, [inject("HIT").slice(1)]: 2 }),
    "in a smuggled unsafe object": () => ({ a: { __ansible_unsafe: inject("HIT") } }),
    "in a smuggled vault": () => ({ a: { __ansible_vault: "$ANSIBLE_VAULT;1.1;AES256\n6162" }, b: inject("HIT") }),
    "behind what ends a YAML text": () => ({
      a: `" }\n? x\n: ${inject("HIT-a")}\n{% raw %}'${inject("HIT-b")}`,
      "<<": 1,
    }),
    "as a statement": () => ({ a: inject("HIT").replace("{{", "{% if ").replace("}}", " %}{% endif %}") }),
    "in a host's variables": () => ({ ansible_python_interpreter: inject("HIT"), a: "ansible_host: x" }),
  };

  test("takes a message's text for its own if it is given as it is: this is what has to be prevented", () => {
    playbook('- debug: {msg: "{{ msg.text }}"}');
    put("plain.json", JSON.stringify({ msg: BODIES["in a text"]!() }));
    const args = ["-i", join(directory, "inventory"), "-e", `@${join(directory, "plain.json")}`];
    execFileSync("ansible-playbook", [...args, join(directory, "org.example.thing.yml")], {
      env: { PATH, HOME: root, LANG: "C.UTF-8" },
    });
    expect(injected()).toEqual(["HIT"]);
    rmSync(join(root, ".ansible"), { recursive: true, force: true });
  });

  test("takes an object in JSON variables for a vault of its own, which is why they are YAML", () => {
    playbook("- copy: {content: '{{ msg | to_json }}', dest: '{{ playbook_dir }}/seen.json'}");
    put("plain.json", JSON.stringify({ msg: { a: { __ansible_unsafe: "not an object" } } }));
    const args = ["-i", join(directory, "inventory"), "-e", `@${join(directory, "plain.json")}`];
    execFileSync("ansible-playbook", [...args, join(directory, "org.example.thing.yml")], {
      env: { PATH, HOME: root, LANG: "C.UTF-8" },
    });
    expect(JSON.parse(readFileSync(join(directory, "seen.json"), "utf8"))).toEqual({ a: "not an object" });
    rmSync(join(root, ".ansible"), { recursive: true, force: true });
  });

  describe.each(Object.entries(BODIES))("a template %s of a message", (name, body) => {
    // Headers go the same way; a text, a key and two keys show it.
    const places = /^in (a text|a key|two keys)/.test(name) ? ["body", "headers"] : ["body"];
    test.each(places)("is text in the %s", async (where) => {
      const about = (text: string) =>
        where === "body" ? text : text.replace(/(?<!')\bmsg\b(?!['":])/g, "slipway_event.headers");
      playbook(about(HARD), about(VARS));
      const page = "{{ msg }} {{ first }} {% for key in msg %}{{ key }} {{ msg[key] }}{% endfor %} {{ slipway_event }}";
      put("page.j2", about(page));
      const given = body();
      const event = { body: {}, headers: {}, [where]: given };
      await (await play(PLAYERS[0]!, event.body, { headers: event.headers })).result;
      expect(injected()).toEqual([]);
      const seen = JSON.parse(readFileSync(join(directory, "seen.json"), "utf8"));
      const untamed = JSON.parse(
        JSON.stringify(seen)
          .replaceAll(/\{ (?=[{%#])/g, "{")
          .replaceAll('"{ "', '"{"'),
      );
      expect(untamed.msg).toEqual(given);
      expect(untamed.event).toEqual({ topic: "org.example.thing", id: "id-1", severity: 20, ...event });
    });
  });

  test("reads every value as what it was", async () => {
    playbook("- copy: {content: '{{ msg | to_json }}', dest: '{{ playbook_dir }}/seen.json'}");
    const body: Record<string, Json> = {
      ...{
        numbers: [0, -5, 1.5, 1e21, 1e-7, 2 ** 53, 123456789012],
        words: ["5", "007", "1_000", "1:30", "0x1F", "1e5", ".inf"],
      },
      ...{
        more: [
          "yes",
          "No",
          "null",
          "~",
          "",
          "<<",
          "=",
          "&",
          "2020-01-01",
          "2020-01-01T10:00:00Z",
          " x ",
          "a\nb\t\u0000\u0085\ufeff🚢",
        ],
      },
      ...{
        "": { "5": [null, true, false, [], {}] },
        null: 1,
        true: 2,
        "1.5": 3,
        "<<": { a: 1 },
        ["k".repeat(3000)]: "long",
      },
    };
    await (await play(PLAYERS[0]!, body)).result;
    expect(JSON.parse(readFileSync(join(directory, "seen.json"), "utf8"))).toEqual(body);
  });

  describe.each(PLAYERS)("by %s", (by) => {
    test("tells tasks as they come, with their hosts and what became of them", async () => {
      put(
        "inventory",
        "[all:vars]\nansible_connection=local\nansible_python_interpreter=/usr/bin/python3\n[all]\none\ntwo\n",
      );
      put("roles/greet/tasks/main.yml", '- name: greet\n  debug: {msg: "hello {{ who }}, {{ msg.name }}"}\n');
      put("group_vars/all.yml", "who: everybody\n");
      playbook(`
- include_role: {name: greet}
- name: change
  command: echo changed
- name: never
  command: "false"
  when: false
- name: tolerate
  command: "false"
  ignore_errors: true
- name: turn
  debug: {msg: "{{ item }}"}
  loop: [a, b]
- name: hidden
  command: echo topsecret
  no_log: true
- name: rescue
  block:
    - name: fails
      command: sh -c 'echo broken >&2; exit 3'
  rescue:
    - name: rescued
      debug: {msg: fine}`);
      const { result, tasks } = await play(by, { name: "{{ world }}" });
      const one = { changed: 3, unreachable: 0, failed: 0, skipped: 1, rescued: 1, ignored: 1 };
      expect((await result).hosts).toEqual({
        one: expect.objectContaining(one),
        two: expect.anything(),
      });
      expect(await result).toMatchObject({
        changed: true,
        tolerated: expect.arrayContaining([
          expect.objectContaining({ host: "one", task: "tolerate" }),
          { host: "two", task: "fails", message: "broken" },
        ]),
      });
      const of = (host: string) => tasks().filter((fields) => fields.host === host && !("item" in fields));
      const seen = (task: RegExp) => of("one").filter((fields) => task.test(String(fields.task)));
      expect(seen(/greet$/)).toContainEqual(
        expect.objectContaining({ state: "ok", message: "hello everybody, {{ world }}" }),
      );
      expect(seen(/^change$/)).toMatchObject([{ state: "changed" }]);
      expect(seen(/^never$/)).toMatchObject([{ state: "skipped" }]);
      expect(seen(/^tolerate$/)).toMatchObject([{ state: "failed", ignored: true }]);
      expect(seen(/^fails$/)).toMatchObject([{ state: "failed", message: "broken" }]);
      expect(seen(/^rescued$/)).toMatchObject([{ state: "ok", message: "fine" }]);
      // Newer runners do not even tell whether it changed anything.
      expect(seen(/^hidden$/)).toMatchObject([{ state: expect.stringMatching(/^(ok|changed)$/) }]);
      expect(JSON.stringify(tasks())).not.toContain("topsecret");
      expect(of("two").length).toBe(of("one").length);
    });

    test("tells a task while the next one is waited for", async () => {
      playbook(
        "- name: early\n  debug: {msg: now}\n- name: wait\n  wait_for: {path: '{{ playbook_dir }}/go', timeout: 60}",
      );
      const { result } = await play(by, {}, { onTold: ({ fields }) => fields?.task === "early" && put("go", "") });
      expect(await result).toMatchObject({ hosts: { here: { ok: 2, failed: 0 } } });
    });

    test("an error names the task, the host and where to read on", async () => {
      playbook("- name: break it\n  command: sh -c 'echo no disk >&2; exit 4'");
      await expect((await play(by, {})).result).rejects.toMatchObject({
        ...{ code: "invalid", next: "slipway runs logs run-1", subject: "org.example.thing.yml" },
        message: 'the playbook org.example.thing.yml failed at the task "break it" on here: no disk',
      });
    });

    test("a failing task with no_log says nothing", async () => {
      playbook("- name: break it\n  command: sh -c 'echo topsecret >&2; exit 4'\n  no_log: true");
      const { result, told } = await play(by, {});
      const error = await result.catch((error: Error) => error);
      expect(String(error)).toContain("hidden by no_log");
      expect(JSON.stringify([told, error]) + String(error)).not.toContain("topsecret");
    });

    test("a playbook that is none says why", async () => {
      put("org.example.thing.yml", "- hosts: all\n  tasks:\n    - no_such_module: {}\n");
      await expect((await play(by, {})).result).rejects.toMatchObject({
        ...{ code: "invalid", message: expect.stringMatching(/could not be run.*no_such_module/s) },
      });
    });

    test("a host nobody answers on is worth another attempt", async () => {
      put("inventory", "far ansible_host=127.0.0.1 ansible_port=1 ansible_connection=ssh\n");
      playbook("- ping:");
      await expect((await play(by, {})).result).rejects.toMatchObject({ code: "unavailable", message: /far/ });
    });

    test("a playbook without hosts is told", async () => {
      playbook("- ping:");
      const { result, told } = await play(by, {}, { inventory: put("nobody", "") });
      expect(await result).toEqual({ hosts: {}, changed: false, tolerated: [] });
      expect(told).toContainEqual(expect.objectContaining({ level: "warn", message: "the playbook met no host" }));
    });

    test("secrets are in no line and no error", async () => {
      playbook(`
- debug: {msg: "{{ lookup('env', 'API_KEY') }}"}
- debug: {msg: {deep: "{{ lookup('env', 'API_KEY') | b64encode }}"}}
- name: "with {{ lookup('env', 'API_KEY') }}"
  fail: {msg: "rejected {{ lookup('env', 'API_KEY') | urlencode }} and {{ lookup('env', 'API_KEY') }}"}`);
      const secret = 'hunter"2/\\x!';
      const { result, told } = await play(by, {}, { secrets: [secret], environment: { PATH, API_KEY: secret } });
      const error = (await result.catch((error: unknown) => error)) as Error;
      expect(error).toMatchObject({ code: "invalid", message: expect.stringContaining("rejected *** and ***") });
      expect(JSON.stringify(told) + error.message).not.toMatch(/hunter|aHVudGVy/);
    });

    test("has an inventory, a vault and a configuration beside it", async () => {
      const password = put("vault-password", "open sesame\n", 0o600);
      put("group_vars/all/vault.yml", "treasure: gold coins\n");
      execFileSync(
        "ansible-vault",
        ["encrypt", "--vault-password-file", password, join(directory, "group_vars/all/vault.yml")],
        {
          env: { PATH, HOME: directory, LANG: "C.UTF-8" },
          stdio: "ignore",
        },
      );
      put("ansible.cfg", "[defaults]\nroles_path = elsewhere\nstdout_callback = minimal\n");
      put(
        "elsewhere/greet/tasks/main.yml",
        '- name: show\n  debug: {msg: "{{ treasure | upper }} {{ inventory_hostname }} open sesame"}\n',
      );
      put("hosts/a", "first ansible_connection=local\n");
      put("hosts/b", "second ansible_connection=local\n");
      playbook("- include_role: {name: greet}\n- name: tagged\n  debug: {msg: tagged}\n  tags: never");
      const more = { inventory: join(directory, "hosts"), vaultPasswordFile: password, limit: "second" };
      const { result, tasks } = await play(by, {}, more);
      expect(Object.keys((await result).hosts)).toEqual(["second"]);
      expect(tasks()).toContainEqual(expect.objectContaining({ host: "second", message: "GOLD COINS second ***" }));

      const tagged = await play(by, {}, { ...more, tags: ["never"] });
      await tagged.result;
      expect(tagged.tasks().map(({ message }) => message)).toContain("tagged");

      const closed = await play(by, {}, { inventory: join(directory, "hosts") });
      await expect(closed.result).rejects.toMatchObject({ code: "invalid", message: expect.stringMatching(/vault/i) });
    });

    test("changes nothing in check mode", async () => {
      playbook("- copy: {content: x, dest: '{{ playbook_dir }}/made'}");
      const { result } = await play(by, {}, { check: true });
      expect(await result).toMatchObject({ changed: true });
      expect(existsSync(join(directory, "made"))).toBe(false);
    });

    test.each(["cancel", "timeout"] as const)("is stopped by %s, with all it started", async (how) => {
      const stop = new AbortController();
      playbook(`
- name: leave one behind
  shell: "setsid sleep 98765 > /dev/null 2>&1 &"
- name: sleep
  command: sleep 98765`);
      const sleepers = () =>
        allProcesses().filter(({ pid }) => {
          try {
            return readFileSync(`/proc/${pid}/cmdline`, "latin1").startsWith("sleep\u000098765");
          } catch {
            return false;
          }
        });
      const { result } = await play(
        by,
        {},
        { signal: stop.signal, graceMs: 5_000, ...(how === "timeout" ? { timeoutMs: 8_000 } : {}) },
      );
      const ended = expect(result).rejects.toMatchObject({ code: how === "cancel" ? "cancelled" : "unavailable" });
      await expect.poll(() => sleepers().length, { timeout: 60_000 }).toBe(2);
      if (how === "cancel") stop.abort();
      await ended;
      expect(sleepers()).toEqual([]);
    });
  });

  test("names the package of what is missing", async () => {
    playbook("- ping:");
    const missing = play("ansible-playbook", {}, { environment: { PATH: "/nowhere" } });
    await expect((await missing).result).rejects.toMatchObject({ code: "not-found", next: /ansible-core/ });
    expect(await namedPlaybook(directory, "org.example.thing.yml")).toBeDefined();
  });

  test("reads a body of a mebibyte", async () => {
    playbook("- copy: {content: '{{ msg.list | length }}', dest: '{{ playbook_dir }}/seen.json'}");
    const body = {
      list: Array.from({ length: 20_000 }, (_, n) => ({ n, text: `a text of an event, the ${n}th of them` })),
    };
    expect(eventVariables({ topic: "a", id: "b", severity: 20, headers: {}, body }).length).toBeGreaterThan(2 ** 20);
    await (await play(PLAYERS[0]!, body)).result;
    expect(readFileSync(join(directory, "seen.json"), "utf8")).toBe("20000");
  });
});
