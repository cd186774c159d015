import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseDocument } from "yaml";
import type { Json } from "../../model.ts";
import { eventVariables, tameKey } from "./event-variables.ts";

const EVENT = { topic: "org.example.thing", id: "1", severity: 20, headers: {}, body: {} };

/** YAML 1.1 as Ansible reads it; every text must be quoted, and what is marked is said. */
function read(text: string): { value: { msg: Json; slipway_event: Json }; unmarked: string[] } {
  const marked = { tag: "!unsafe", resolve: (value: string) => value };
  const document = parseDocument(text, { version: "1.1", customTags: (tags) => [...tags, marked], merge: true });
  expect([...document.errors, ...document.warnings]).toEqual([]);
  const unmarked = [...text.matchAll(/(!unsafe )?("(?:[^"\\]|\\.)*")/g)].flatMap(([, mark, quoted]) =>
    mark === undefined ? [JSON.parse(quoted!) as string] : [],
  );
  return { value: document.toJS({ maxAliasCount: -1 }) as { msg: Json; slipway_event: Json }, unmarked };
}

test("a body with everything in it", async () => {
  const body = {
    text: "{{ lookup('pipe', 'id') }}",
    list: ["a sentence", 1, 1.5, 1e21, -1e-7, true, null, [], {}],
    __ansible_unsafe: "mine",
    vault: { __ansible_vault: "$ANSIBLE_VAULT;1.1;AES256" },
    "{{ key }}": { "<<": { "": "ü\u0000\u0085🚢\u2028" } },
    ambiguous: ["5", "true", "null", "2020-01-01", "", "<<", "1:30", "0x1F", ".inf", "no", "~"],
  };
  const text = eventVariables({ ...EVENT, headers: { "sent-at": "2024-05-05T00:00:00+00:00" }, body });
  await expect(text).toMatchFileSnapshot(join(import.meta.dirname, "testdata/event-variables.golden.yml"));
});

// What `{` does to keys is another test.
const key = fc.string({ unit: "binary", maxLength: 12 }).map((text) => text.replaceAll("{", "").toWellFormed());
const word = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.constantFrom(
    "5",
    "007",
    "1_000",
    "yes",
    "Null",
    "off",
    "1e5",
    "12:30:45",
    "2001-12-14",
    "<<",
    "{{ x }}",
    "{%",
    "-",
  ),
);
const { json } = fc.letrec<{ json: Json }>((tie) => ({
  json: fc.oneof(
    { maxDepth: 4 },
    ...[word.map((text) => text.toWellFormed()), fc.integer(), fc.boolean(), fc.constant(null)],
    fc.double({ noNaN: true, noDefaultInfinity: true }).map((n) => (Object.is(n, -0) ? 0 : n)),
    fc.array(tie("json"), { maxLength: 5 }),
    fc.dictionary(key, tie("json"), { maxKeys: 5, noNullPrototype: true }),
  ),
}));

describe("whatever a body holds", () => {
  const bodies = fc.dictionary(key, json, { noNullPrototype: true });
  test("comes out as it went in, in msg and in slipway_event", () => {
    fc.assert(
      fc.property(bodies, bodies, (body, headers) => {
        const { value } = read(eventVariables({ ...EVENT, body, headers }));
        expect(value).toEqual({ msg: body, slipway_event: { ...EVENT, body, headers } });
      }),
    );
  });

  test("is marked, if there could be a template in it", () => {
    fc.assert(
      fc.property(bodies, (body) => {
        for (const text of read(eventVariables({ ...EVENT, body })).unmarked) expect(text).not.toMatch(/[{}%#]/);
      }),
    );
  });

  test("is ASCII, so that no locale changes it", () => {
    fc.assert(
      fc.property(bodies, (body) => {
        expect(eventVariables({ ...EVENT, body })).toMatch(/^[\n -~]*$/);
      }),
    );
  });
});

test("a key called __proto__ is one", () => {
  const body = JSON.parse('{"__proto__": {"a": "b"}}') as Record<string, Json>;
  expect(eventVariables({ ...EVENT, body })).toContain('{? !unsafe "__proto__"\n : {? "a"\n : "b"}}');
});

test("half a character is replaced", () => {
  expect(eventVariables({ ...EVENT, body: { a: "half \ud800!" } })).toContain('"half \\uFFFD!"');
});

test("what is too large is refused", () => {
  const body = { a: "x".repeat(17 * 2 ** 20) };
  expect(() => eventVariables({ ...EVENT, body })).toThrow(expect.objectContaining({ code: "invalid" }));
});

describe("keys", () => {
  const cases = [
    { key: "plain { key }", tame: "plain { key }" },
    { key: "{{ x }}", tame: "{ { x }}" },
    { key: "{{{", tame: "{ { { " },
    { key: "{% x %}", tame: "{ % x %}" },
    { key: "{# x #}", tame: "{ # x #}" },
    { key: "{ {", tame: "{  { " },
    { key: "ends with {", tame: "ends with { " },
  ];
  test.each(cases)("$key", ({ key, tame }) => {
    expect(tameKey(key)).toBe(tame);
  });

  const braces = fc.string({ unit: fc.constantFrom("{", " ", "%", "#", "x"), maxLength: 8 });
  test("no two of them become one, and none is a template, alone or before another", () => {
    fc.assert(
      fc.property(braces, braces, (one, other) => {
        expect(tameKey(one) === tameKey(other)).toBe(one === other);
        expect(tameKey(one) + tameKey(other)).not.toMatch(/\{[{%#]/);
      }),
    );
  });
});
