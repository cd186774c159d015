import { expect, test } from "vitest";
import type { EventFacts } from "./expression.ts";
import { compileRule, type Rule, type RuleSettings } from "./rule.ts";

const EVENT: EventFacts = {
  ...{ id: "1", topic: "org.fedoraproject.prod.pungi.compose.status.change", severity: 20, priority: 0 },
  ...{ source: "broker", headers: {}, body: { status: "FINISHED", compose_id: "Fedora-43-20260101.0" } },
};

function rule(settings: Partial<RuleSettings<string>> = {}): Rule<string> {
  const compiled = compileRule({
    ...{ name: "one", topic: "org.fedoraproject.*.pungi.compose.status.change", enabled: true },
    ...{ during_freeze: "hold", action: "none", ...settings },
  } as RuleSettings<string>);
  if ("problems" in compiled) throw new Error(JSON.stringify(compiled.problems));
  return compiled;
}

test("topic and condition decide, and why not is told", () => {
  expect(rule().judge(EVENT)).toEqual({ matches: true, side: "this", keys: {} });
  expect(rule({ topic: "a.b" }).judge(EVENT)).toEqual({ matches: false, why: "the topic is not a.b" });
  expect(rule({ when: 'body.status == "STARTED"' }).judge(EVENT)).toEqual({
    ...{ matches: false, why: 'when is false: body.status == "STARTED"' },
  });
  expect(rule({ when: "body.label == null" }).judge(EVENT)).toEqual({
    ...{ matches: false, why: "when: the event has no label" },
  });
});

test("what cannot be said of an event is an error of the rule, not of the event", () => {
  expect(rule({ when: "body.status > 1" }).judge(EVENT)).toMatchObject({ matches: "error" });
  expect(rule({ when: "body.status" }).judge(EVENT)).toMatchObject({ matches: "error" });
  expect(rule({ lock: "body.nothing" }).judge(EVENT)).toEqual({
    ...{ matches: "error", why: "lock: the event has no nothing" },
  });
  const long = { ...EVENT, body: { key: "k".repeat(501) } };
  expect(rule({ once: { per: "body.key", within: 1 } }).judge(long)).toMatchObject({ matches: "error" });
});

test("keys are text, whatever they are made of", () => {
  const counted = rule({
    once: { per: "body.compose_id", within: 1 },
    throttle: { most: 1, per: 1, by: "severity" },
    debounce: { quiet: 1, at_most: 1, by: "topic.startsWith('org')" },
    lock: "'release/' + body.compose_id",
  });
  expect(counted.judge(EVENT)).toMatchObject({
    keys: { once: "Fedora-43-20260101.0", throttle: "20", debounce: "true", lock: "release/Fedora-43-20260101.0" },
  });
  const odd = { ...EVENT, body: { compose_id: "a\u0000\ud800" } };
  expect(rule({ lock: "body.compose_id" }).judge(odd)).toMatchObject({ keys: { lock: "a\\0\ufffd" } });
});

test("of a pair each event knows its side and the common key", () => {
  const both = rule({
    join: { topic: "org.fedoraproject.*.signed", by: "body.compose_id", other_by: "body.compose", within: 1000 },
  });
  expect(both.judge(EVENT)).toMatchObject({ side: "this", keys: { join: "Fedora-43-20260101.0" } });
  const signed = { ...EVENT, topic: "org.fedoraproject.prod.signed", body: { compose: "Fedora-43-20260101.0" } };
  expect(both.judge(signed)).toEqual({ matches: true, side: "other", keys: { join: "Fedora-43-20260101.0" } });
  expect(both.judge({ ...signed, body: {} })).toMatchObject({ matches: "error" });
});

test("every expression that does not compile is told with its place", () => {
  const compiled = compileRule({
    ...{ name: "bad", topic: "#", enabled: true, during_freeze: "hold", action: 1, when: "body.x ==" },
    ...{ once: { per: "nosuch", within: 1 }, lock: "body.lock" },
  });
  expect(compiled).toMatchObject({
    problems: [
      { path: ["when"], line: 1 },
      { path: ["once", "per"], line: 1, column: 1, message: expect.stringContaining("nosuch") },
    ],
  });
});
