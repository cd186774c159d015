import fc from "fast-check";
import { expect, test } from "vitest";
import { SlipwayError } from "../lib/errors.ts";
import { maskedError, maskOf } from "./mask.ts";

const SECRET = 'p"ä\\ß/ +w!';
const cases = [
  { name: "as it is", text: SECRET },
  { name: "in JSON", text: JSON.stringify({ password: SECRET }) },
  { name: "in JSON in JSON", text: JSON.stringify(JSON.stringify([SECRET])) },
  { name: "in ASCII JSON", text: '"p\\"\\u00e4\\\\\\u00df/ +w!"' },
  { name: "in a URL", text: `https://x/?p=${encodeURIComponent(SECRET)}` },
  { name: "in a form", text: new URLSearchParams({ p: SECRET }).toString() },
  { name: "in a URL as Python writes it", text: "p%22%C3%A4%5C%C3%9F/%20%2Bw%21" },
  { name: "in a URL in lower case", text: "p%22%c3%a4%5c%c3%9f%2f%20%2bw%21" },
  { name: "in base64", text: Buffer.from(SECRET).toString("base64") },
  { name: "in base64 after a user name", text: Buffer.from(`user:${SECRET}`).toString("base64") },
  { name: "in base64 between others", text: Buffer.from(`abcd${SECRET}tail`).toString("base64url") },
];
test.each(cases)("a secret $name is masked", ({ text }) => {
  const masked = maskOf([SECRET])(text);
  expect(masked).toContain("***");
  expect(masked.length).toBeLessThan(text.length);
});

test("each line of a secret is one, and what is too short is none", () => {
  const mask = maskOf(["-----BEGIN-----\nMIIabc\nx\n", "abc", ""]);
  expect(mask("1: MIIabc, 2: abc x")).toBe("1: ***, 2: abc x");
});

test("a secret that holds another is masked whole", () => {
  expect(maskOf(["hunter", "hunter2hunter"])("hunter2hunter hunter")).toBe("*** ***");
});

test("whatever is cut, no half of a secret is left", () => {
  const secret = "Zq7!Zq7!xk";
  const mask = maskOf([secret]);
  fc.assert(
    fc.property(fc.array(fc.constantFrom("a", "bc", secret), { maxLength: 12 }), fc.nat(60), (parts, limit) => {
      const text = parts.join("");
      const cut = mask.cut(text, limit);
      expect(cut).not.toMatch(/[Zq7!xk]/);
      expect(mask(text).startsWith(cut)).toBe(true);
    }),
  );
});

test("an error keeps its code and loses its secrets, also in what caused it", () => {
  const error = new SlipwayError("invalid", "no hunter2", {
    ...{ subject: "s hunter2", next: "n hunter2", tried: "t hunter2" },
    cause: new Error("c hunter2", { cause: new Error("hunter2") }),
  });
  const masked = maskedError(error, maskOf(["hunter2"])) as SlipwayError;
  expect(masked).toMatchObject({ code: "invalid", message: "no ***", subject: "s ***", next: "n ***", tried: "t ***" });
  expect((masked.cause as Error).message).toBe("c ***");
  expect((masked.cause as Error).cause).toBeUndefined();
});
