import { expect, test } from "vitest";
import { checkTemplate, fillTemplate, nearest, PER_FILE, PLACEHOLDERS } from "./template.ts";

test("a separator in the braces goes with an empty value", () => {
  const template = "F-{version}{-prerelease}-{build}";
  expect(fillTemplate(template, { version: "44", prerelease: "Prerelease", build: "1.2" })).toBe("F-44-Prerelease-1.2");
  expect(fillTemplate(template, { version: "44", prerelease: "", build: "1.2" })).toBe("F-44-1.2");
});

test("a value is put in as it is, whatever it holds", () => {
  expect(fillTemplate("{version}-{build}", { version: "{build}$&", build: "1" })).toBe("{build}$&-1");
});

test.each([
  ["{arhc}-{version}", "did you mean {arch}?"],
  ["{Version}", "did you mean {version}?"],
  ["{somethingelse}", "there are {arch}"],
  ["{}", "there is no placeholder {}"],
  ["{arch", "brace is left open"],
  ["arch}", "brace is left open"],
])("%s is refused", (template, why) => {
  expect(checkTemplate(template)).toContain(why);
});

test("a placeholder of one file cannot name a group", () => {
  const shared = Object.keys(PLACEHOLDERS).filter((name) => !PER_FILE.some((own) => own === name));
  expect(checkTemplate("{arch}", shared)).toContain("one name serves several files");
  expect(checkTemplate("{number}", shared)).toBeUndefined();
});

test("the nearest name is near", () => {
  expect(nearest("regons", ["region", "regions", "replicate"])).toBe("regions");
  expect(nearest("acount", ["account", "enabled"])).toBe("account");
  expect(nearest("zebra", ["account", "enabled"])).toBeUndefined();
});
