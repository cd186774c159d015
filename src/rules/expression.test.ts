import { describe, expect, test } from "vitest";
import { compileExpression, type Evaluated, type EventFacts } from "./expression.ts";

const EVENT: EventFacts = {
  id: "1",
  topic: "org.fedoraproject.prod.pungi.compose.status.change",
  severity: 20,
  priority: 0,
  source: "broker",
  headers: { "x-thing": true },
  body: JSON.parse(
    '{"status":"FINISHED","respin":1,"half":1.5,"label":null,"files":["a","b"],"deep":{"er":[{"k":1}]},"__proto__":{"z":1}}',
  ),
};

function say(text: string, event: EventFacts = EVENT): Evaluated {
  const compiled = compileExpression(text);
  if (!("evaluate" in compiled)) throw new Error(`${compiled.line}:${compiled.column} ${compiled.message}`);
  return compiled.evaluate(event);
}

describe("looking at an event", () => {
  test.each([
    ['body.status in ["FINISHED", "FINISHED_INCOMPLETE"]', true],
    ["body.respin == 1", true],
    ["body.respin + 1.0 > body.half", true],
    ["body.label == null", true],
    ['topic.startsWith("org.fedoraproject.") && severity >= 20', true],
    ['body.files.exists(file, file == "b")', true],
    ["body.deep.er[0].k == 1", true],
    ["has(body.location) && body.location != ''", false],
    ['headers["x-thing"]', true],
    ['body["__proto__"].z == 1', true],
    ['topic.matches("compose[.]status")', true],
    ['body.status + "/" + string(body.respin)', "FINISHED/1"],
    ["size(body.files)", 2],
  ])("%s is %s", (text, value) => expect(say(text)).toEqual({ value }));

  test("a field that is not there is told by its name", () => {
    expect(say("body.nothing == 1")).toEqual({ missing: "nothing" });
    expect(say('body.deep["nothing"] == 1')).toEqual({ missing: "nothing" });
  });

  test("nothing of JavaScript's own is there", () => {
    for (const name of ["constructor", "toString", "hasOwnProperty"]) {
      expect(say(`body.${name} == 1`)).toEqual({ missing: name });
      expect(say(`has(body.${name})`)).toEqual({ value: false });
    }
  });

  test.each(["body.status > 1", 'topic.matches("a(")', "body.files", "body", "body.respin / 0 == 1"])(
    "%s cannot be said, and does not throw",
    (text) => expect(say(text)).toHaveProperty("error"),
  );

  test("a pattern that would run away in JavaScript does not", () => {
    const event = { ...EVENT, body: { text: `${"a".repeat(100_000)}!` } };
    expect(say('body.text.matches("^(a+)+$")', event)).toEqual({ value: false });
  });

  test("a list too long for macros is refused, not walked", () => {
    const event = { ...EVENT, body: { list: new Array(20_000).fill(1) } };
    expect(say("body.list.all(x, x == 1)", event)).toEqual({ value: true });
    expect(say("body.list.all(x, body.list.exists(y, x == y))", event)).toHaveProperty("error");
  });
});

describe("what is wrong is told with its place", () => {
  test.each([
    ['body.status = "x"', 1, 13],
    ["body.x == 1\n  && body.y == = 2", 2, 13],
    ["", 1, 1],
    ["body.", 1, 5],
    ["nosuch == 1", 1, 1],
    ["body.x == 1 && nosuch.y", 1, 16],
    ["body.files.exists(f, g == 1)", 1, 22],
    ["shell('rm')", 1, 1],
    ['"abc', 1, 1],
  ])("%j at line %i", (text, line, column) => {
    const said = compileExpression(text);
    expect(said).toMatchObject({ line, column, message: expect.any(String) });
  });

  test("what is nested or long beyond reason is refused", () => {
    expect(compileExpression(`${"(".repeat(1900)}1${")".repeat(1900)}`)).toHaveProperty("message");
    expect(compileExpression(`topic == "${"a".repeat(5000)}"`)).toHaveProperty("message");
    expect(compileExpression("body.a.all(x, x.all(y, y.all(z, z == 1)))")).toMatchObject({
      message: expect.stringContaining("nested"),
    });
  });
});
