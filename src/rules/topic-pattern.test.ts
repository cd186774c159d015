import fc from "fast-check";
import { expect, test } from "vitest";
import { problemWithPattern, topicMatches } from "./topic-pattern.ts";

test.each([
  ["a.b.c", "a.b.c", true],
  ["a.b.c", "a.b", false],
  ["a.*.c", "a.b.c", true],
  ["a.*.c", "a.c", false],
  ["a.*.c", "a..c", true],
  ["a.#", "a", true],
  ["a.#", "a.b.c.d", true],
  ["#", "", true],
  ["#", "a.b", true],
  ["#.c", "a.b.c", true],
  ["#.c", "c", true],
  ["a.#.d", "a.d", true],
  ["a.#.d", "a.b.c.d", true],
  ["a.#.d", "a.b.c", false],
  ["#.b.#", "a.b.c", true],
  ["*.*", "a", false],
  ["org.fedoraproject.*.pungi.compose.status.change", "org.fedoraproject.prod.pungi.compose.status.change", true],
  ["org.fedoraproject.*.pungi.compose.status.change", "org.fedoraproject.prod.x.pungi.compose.status.change", false],
  ["A.b", "a.b", false],
])("%s takes %s: %s", (pattern, topic, taken) => {
  expect(topicMatches(pattern, topic)).toBe(taken);
});

test("says the same as the pattern written as a regular expression", () => {
  const word = fc.constantFrom("a", "b", "c");
  const patterns = fc.array(fc.oneof(word, fc.constantFrom("*", "#")), { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(patterns, fc.array(word, { minLength: 1, maxLength: 6 }), (pattern, topic) => {
      // Every word with a dot behind it, so that `#` takes the dots of its words with it.
      const expression = pattern.map((one) => (one === "#" ? "(?:[^.]*\\.)*" : one === "*" ? "[^.]*\\." : `${one}\\.`));
      const expected = new RegExp(`^${expression.join("")}$`).test(`${topic.join(".")}.`);
      expect(topicMatches(pattern.join("."), topic.join("."))).toBe(expected);
    }),
  );
});

test("a pattern of many wildcards does not take long over a long topic", () => {
  expect(topicMatches(`${"#.*.".repeat(60)}x`, "a.".repeat(127))).toBe(false);
});

test("what is no pattern is told", () => {
  expect(problemWithPattern("a.*.#.b")).toBeUndefined();
  expect(problemWithPattern("a.b*")).toMatch(/whole words/);
  expect(problemWithPattern("a b")).toMatch(/spaces/);
  expect(problemWithPattern("ä".repeat(128))).toMatch(/255/);
});
