import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { actsAs, matchesPath } from "./automation-user.ts";

const koji = {
  ...{ purpose: "tags builds", account: "slipway_koji", key_file: "/etc/slipway/koji.key", become: true },
  ...{ hosts: ["composer", "koji"], playbooks: ["tag.yml", "koji/*.yml"], commands: ["/usr/bin/koji"] },
};
const playbooks = { users: { koji }, requireUser: false };

describe("who a playbook acts as", () => {
  test("the declared account, its key, and no host but its own", () => {
    expect(actsAs({ user: "koji" }, "tag.yml", playbooks)).toEqual({
      ...{ user: "koji", remoteUser: "slipway_koji", privateKeyFile: "/etc/slipway/koji.key", become: true },
      limit: "composer,koji",
    });
    expect(actsAs({ user: "koji", limit: ["koji"] }, "koji/x.yml", playbooks)).toMatchObject({ limit: "koji" });
  });

  test("a service account goes along to whoever has a cluster", () => {
    const users = { koji: { ...koji, service_account: "slipway-koji" } };
    expect(actsAs({ user: "koji" }, "tag.yml", { users, requireUser: true })).toMatchObject({
      serviceAccount: "slipway-koji",
    });
  });

  test.each([
    ["another playbook", { user: "koji" }, "other.yml", /may not run other\.yml/],
    ["one deeper than allowed", { user: "koji" }, "koji/a/b.yml", /may not run/],
    ["another host", { user: "koji", limit: ["koji", "db"] }, "tag.yml", /may not act on db/],
    ["nobody that is declared", { user: "root" }, "tag.yml", /no automation user root/],
    ["what JavaScript has", { user: "constructor" }, "tag.yml", /no automation user constructor/],
  ])("%s is refused before it starts", (_, action, playbook, message) => {
    expect(() => actsAs(action, playbook, playbooks)).toThrow(
      expect.objectContaining({ code: "forbidden", message: expect.stringMatching(message) }),
    );
  });

  test("nobody in particular has no account and becomes nobody, and can be refused", () => {
    expect(actsAs({ limit: ["a", "b"] }, "x.yml", playbooks)).toEqual({ become: false, limit: "a,b" });
    expect(actsAs({}, "x.yml", playbooks)).toEqual({ become: false });
    expect(() => actsAs({}, "x.yml", { ...playbooks, requireUser: true })).toThrow(/names no automation user/);
  });
});

test.each([
  ["a.yml", "a.yml", true],
  ["*.yml", "a.yml", true],
  ["*.yml", "b/a.yml", false],
  ["a*b*c.yml", "a1b2c.yml", true],
  ["a*b*c.yml", "ac.yml", false],
  ["ab*ba", "aba", false],
  ["*", "", true],
])("%s takes %s: %s", (pattern, path, taken) => expect(matchesPath(pattern, path)).toBe(taken));

test("a pattern says the same as a regular expression", () => {
  const text = fc.array(fc.constantFrom("a", "b", "*", "/"), { maxLength: 8 });
  fc.assert(
    fc.property(text, fc.array(fc.constantFrom("a", "b", "/"), { maxLength: 8 }), (pattern, path) => {
      const expected = new RegExp(`^${pattern.map((one) => (one === "*" ? "[^/]*" : one)).join("")}$`);
      expect(matchesPath(pattern.join(""), path.join(""))).toBe(expected.test(path.join("")));
    }),
  );
});
