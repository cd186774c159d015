import { expect, test } from "vitest";
import { matchesAny } from "./wildcard.ts";

test.each([
  ["Fedora", "Fedora", true],
  ["Fedora", "Fedora-Cloud", false],
  ["Fedora*", "Fedora-Cloud", true],
  ["*.2.*", "4230.2.1", true],
  ["*.2.*", "4230.1.2", false],
  ["a*a", "a", false],
  ["a*a", "aa", true],
  ["a*b*c", "abbbc", true],
  ["a*b*b", "ab", false],
  ["*", "", true],
  [".", "x", false],
])("%s against %s: %s", (pattern, text, expected) => {
  expect(matchesAny([pattern], text)).toBe(expected);
});
