import { describe, expect, test } from "vitest";
import { type EventReader, outputReader, runnerReader, type TaskEvent } from "./read-events.ts";

const read = (reader: EventReader, text: string) => [
  ...text.split("\n").flatMap((line) => reader.line(line)),
  ...reader.end(),
];
const task = (task: string, host: string, state: TaskEvent["state"], message = "", more: Partial<TaskEvent> = {}) => ({
  ...{ kind: "task", task, host, state, message },
  ...more,
});

describe("what ansible-playbook prints", () => {
  const cases = [
    {
      name: "results of tasks",
      text: `
PLAY [all] ****

TASK [first : do it] ****************
ok: [one]
changed: [two -> proxy]

TASK [second] ****
skipping: [one]
fatal: [two]: UNREACHABLE! => {"changed": false, "msg": "no route", "unreachable": true}`,
      events: [
        ...[task("first : do it", "one", "ok"), task("first : do it", "two", "changed")],
        ...[task("second", "one", "skipped"), task("second", "two", "unreachable", "no route")],
      ],
    },
    {
      name: "a result over several lines, and one after it",
      text: `TASK [say] ***\nok: [one] => {\n    "msg": "a \\n[x]: {\\"b\\"}"\n}\nok: [two] => {\n    "msg": [\n        1\n    ]\n}`,
      events: [task("say", "one", "ok", 'a \n[x]: {"b"}'), task("say", "two", "ok", "[1]")],
    },
    {
      name: "failures, one of them ignored",
      text: `TASK [a] ***
fatal: [one]: FAILED! => {"changed": true, "msg": "non-zero return code", "rc": 1, "stderr": "broken\\n", "stdout": ""}
...ignoring
fatal: [two]: FAILED! => {"censored": "the output has been hidden", "changed": true}
RUNNING HANDLER [restart] ***
fatal: [one]: FAILED! => {"msg": "gone"}`,
      events: [
        task("a", "one", "failed", "broken", { ignored: true }),
        task("a", "two", "failed", "hidden by no_log"),
        task("restart", "one", "failed", "gone"),
      ],
    },
    {
      name: "turns of a loop",
      text: 'TASK [a] ***\nok: [one] => (item=x)\nfailed: [one] (item=y) => {"msg": "no"}\nok: [one] => (item=z) => {\n    "msg": "z"\n}',
      events: [
        task("a", "one", "ok", "", { item: true }),
        task("a", "one", "failed", "no", { item: true }),
        task("a", "one", "ok", "z", { item: true }),
      ],
    },
    {
      name: "how often, at the end",
      text: "PLAY RECAP ***\none : ok=1    changed=2    unreachable=3    failed=4    skipped=5    rescued=6    ignored=7   \nold-2.7 : ok=1 changed=0 unreachable=0 failed=0",
      events: [
        {
          kind: "stats",
          hosts: {
            one: { ok: 1, changed: 2, unreachable: 3, failed: 4, skipped: 5, rescued: 6, ignored: 7 },
            "old-2.7": { ok: 1, changed: 0, unreachable: 0, failed: 0, skipped: 0, rescued: 0, ignored: 0 },
          },
        },
      ],
    },
    {
      name: "anything else",
      text: "[WARNING]: provided hosts list is empty\n\nERROR! no such file",
      events: ["[WARNING]: provided hosts list is empty", "ERROR! no such file"].map((text) => ({
        kind: "text",
        text,
      })),
    },
    {
      name: "a message that looks like a result",
      text: 'TASK [a] ***\nok: [one] => {\n    "msg": "x\\nfatal: [two]: FAILED! => {}"\n}',
      events: [task("a", "one", "ok", "x\nfatal: [two]: FAILED! => {}")],
    },
  ];
  test.each(cases)("$name", ({ text, events }) => {
    expect(read(outputReader(), text)).toEqual(events);
  });
});

describe("events of ansible-runner", () => {
  const event = (event: string, data: object = {}, more: object = {}) =>
    JSON.stringify({ event, event_data: data, ...more });
  const cases = [
    {
      name: "results of tasks",
      lines: [
        event("playbook_on_task_start", { task: "a" }),
        event("runner_on_start", { task: "a", host: "one" }),
        event("runner_on_ok", { task: "a", host: "one", res: { changed: false, msg: "fine" } }),
        event("runner_on_ok", { task: "a", host: "two", res: { changed: true, stdout: "\u001b[31mout\u001b[0m" } }),
        event("runner_on_skipped", { task: "b", host: "one", res: { skip_reason: "Conditional result was False" } }),
        event("runner_on_unreachable", { task: "b", host: "two", res: { msg: "no route" } }),
        event("runner_item_on_ok", { task: "c", host: "one", res: { msg: 5 } }),
      ],
      events: [
        ...[task("a", "one", "ok", "fine"), task("a", "two", "changed", "out")],
        task("b", "one", "skipped", "Conditional result was False"),
        ...[task("b", "two", "unreachable", "no route"), task("c", "one", "ok", "5", { item: true })],
      ],
    },
    {
      name: "failures",
      lines: [
        event("runner_on_failed", { task: "a", host: "one", res: { msg: "no", stderr: "said" }, ignore_errors: true }),
        event("runner_on_failed", { task: "a", host: "two", res: { censored: "the output …", msg: "never" } }),
        event("runner_on_failed", { task: "a", host: "two" }),
      ],
      events: [
        task("a", "one", "failed", "no", { ignored: true }),
        ...[task("a", "two", "failed", "hidden by no_log"), task("a", "two", "failed")],
      ],
    },
    {
      name: "how often, at the end",
      lines: [event("playbook_on_stats", { ok: { one: 2 }, dark: { two: 1 }, failures: {}, changed: { one: 1 } })],
      events: [
        {
          kind: "stats",
          hosts: {
            one: { ok: 2, changed: 1, unreachable: 0, failed: 0, skipped: 0, rescued: 0, ignored: 0 },
            two: { ok: 0, changed: 0, unreachable: 1, failed: 0, skipped: 0, rescued: 0, ignored: 0 },
          },
        },
      ],
    },
    {
      name: "what it says besides, also what is no event",
      lines: [
        event("verbose", {}, { stdout: "ERROR! no" }),
        event("verbose", {}, { stdout: "" }),
        "Traceback:",
        "[1]",
        "{",
        "",
      ],
      events: ["ERROR! no", "Traceback:", "[1]", "{"].map((text) => ({ kind: "text", text })),
    },
  ];
  test.each(cases)("$name", ({ lines, events }) => {
    expect(read(runnerReader(), lines.join("\n"))).toEqual(events);
  });
});
