import { expect, test } from "vitest";
import { type ComposeId, isDate, parseComposeId } from "./compose-id.ts";

const id = (short: string, version: string, rest: Partial<ComposeId> = {}): ComposeId => ({
  ...{ short, version, releaseType: "ga", date: "20251021", type: "production", respin: 0 },
  ...rest,
});

const good: readonly [string, ComposeId][] = [
  ["Fedora-43-20251021.0", id("Fedora", "43")],
  ["Fedora-Rawhide-20230502.n.0", id("Fedora", "Rawhide", { date: "20230502", type: "nightly" })],
  ["Fedora-Cloud-40-20240501.12", id("Fedora-Cloud", "40", { date: "20240501", respin: 12 })],
  ["Fedora-eln-20240830.n.7", id("Fedora", "eln", { date: "20240830", type: "nightly", respin: 7 })],
  ["Fedora-43-updates-testing-20251021.0", id("Fedora", "43", { releaseType: "updates-testing" })],
  ["Fedora-43-updates-20251021.0", id("Fedora", "43", { releaseType: "updates" })],
  ["Fedora-43-20251021.t.3", id("Fedora", "43", { type: "test", respin: 3 })],
  ["Fedora-43-20251021.ci.0", id("Fedora", "43", { type: "ci" })],
  ["Fedora-43-20251021.d.0", id("Fedora", "43", { type: "development" })],
  ["Fedora-43-20251021", id("Fedora", "43")],
  ["Fedora-28-19700101.0", id("Fedora", "28", { date: "19700101" })],
  ["Container-Linux-4230.2.1-20251021.0", id("Container-Linux", "4230.2.1")],
];

test.each(good)("%s is taken apart from the right", (text, parts) => {
  expect(parseComposeId(text)).toEqual(parts);
});

const bad = [
  ["", "characters"],
  ["Fedora-43", "-YYYYMMDD"],
  ["Fedora-43-20251321.0", "impossible date"],
  ["Fedora-43-20251021.x.0", 'unknown type ".x"'],
  ["Fedora-20251021.0", "no version"],
  ["../Fedora-43-20251021.0", "characters"],
  ["Fedora-43-20251021.0\n", "characters"],
  [`Fedora-${"9".repeat(200)}-20251021.0`, "characters"],
] as const;

test.each(bad)("%j is refused", (text, why) => {
  expect(() => parseComposeId(text)).toThrow(
    expect.objectContaining({ code: "invalid", message: expect.stringContaining(why) }),
  );
});

test("dates are days that exist", () => {
  expect(["20240229", "19700101"].map(isDate)).toEqual([true, true]);
  expect(["20230229", "2024022", "20240100", "99999999"].map(isDate)).toEqual([false, false, false, false]);
});
