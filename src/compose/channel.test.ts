import { expect, test } from "vitest";
import { channelOf, kindOf, prereleaseOf } from "./channel.ts";
import { endOfLifeOf, releaseNumberOf } from "./releases.ts";
import { type MadeCompose, madeCompose } from "./testing/composes.ts";
import type { ReleaseState } from "./types.ts";

const releases: ReleaseState = {
  ...{ stable: [42, 43], branched: [44], end_of_life: { "43": "2026-12-02" }, unknown_end_of_life_months: 13 },
};
const nightly = (version: string, short = "Fedora"): MadeCompose => ({
  ...{ id: `${short}-${version}-20260221.n.0`, type: "nightly", short, version },
});
const dated = (short: string, version: string): MadeCompose => ({
  ...{ id: `${short}-${version}-20260221.0`, short, version, label: "RC-20260221.0" },
});

const cases: readonly { name: string; compose: MadeCompose; kind: string; channel: string; prerelease: boolean }[] = [
  { name: "Rawhide", compose: nightly("Rawhide"), kind: "rawhide", channel: "rawhide", prerelease: false },
  { name: "ELN, in lower case", compose: nightly("eln"), kind: "eln", channel: "eln", prerelease: false },
  { name: "a branched nightly", compose: nightly("44"), kind: "branched", channel: "branched", prerelease: true },
  { name: "a number nobody knows", compose: nightly("46"), kind: "branched", channel: "branched", prerelease: true },
  {
    name: "a nightly of a stable release",
    compose: nightly("43"),
    kind: "nightly",
    channel: "nightly",
    prerelease: false,
  },
  {
    name: "a beta candidate",
    compose: { id: "Fedora-44-20260301.0", version: "44", label: "Beta-1.2" },
    ...{ kind: "rc", channel: "rc", prerelease: true },
  },
  {
    name: "a release candidate has the release's own name",
    compose: { id: "Fedora-44-20260410.0", version: "44", label: "RC-1.7" },
    ...{ kind: "rc", channel: "rc", prerelease: false },
  },
  {
    name: "a nightly after a release is a production compose with a dated label",
    compose: dated("Fedora-Cloud", "43"),
    ...{ kind: "nightly", channel: "cloud", prerelease: false },
  },
  {
    name: "the same of a branched release",
    compose: dated("Fedora-Cloud", "44"),
    ...{ kind: "branched", channel: "cloud", prerelease: true },
  },
  { name: "IoT", compose: dated("Fedora-IoT", "43"), kind: "nightly", channel: "iot", prerelease: false },
  {
    name: "updates",
    compose: { id: "Fedora-43-updates-testing-20260630.0", version: "43", releaseType: "updates-testing" },
    ...{ kind: "nightly", channel: "updates", prerelease: false },
  },
];

test.each(cases)("$name is $kind in channel $channel", ({ compose, kind, channel, prerelease }) => {
  const made = madeCompose(compose);
  expect(kindOf(made, releases)).toBe(kind);
  expect(channelOf(made, [], releases)).toBe(channel);
  expect(prereleaseOf(made, releases)).toBe(prerelease);
});

test("a system names its own channels, the first match wins", () => {
  const rules = [
    { channel: "stable", when: { version: ["*.2.*"] } },
    { channel: "other", when: {} },
  ];
  const compose = (version: string) => madeCompose({ id: `CL-${version}-20260221.0`, short: "CL", version });
  expect(channelOf(compose("4230.2.1"), rules, releases)).toBe("stable");
  expect(channelOf(compose("4230.0.0"), rules, releases)).toBe("other");
});

test("the release's number", () => {
  expect(releaseNumberOf("43", releases)).toBe(43);
  expect(releaseNumberOf("4230.2.1", releases)).toBe(4230);
  expect(releaseNumberOf("Rawhide", releases)).toBe(45);
  expect(releaseNumberOf("eln", releases)).toBe(45);
  expect(releaseNumberOf("Rawhide", { ...releases, rawhide: 50 })).toBe(50);
  const nothing = { ...releases, stable: [], branched: [] };
  expect(() => releaseNumberOf("Rawhide", nothing)).toThrow(expect.objectContaining({ subject: "releases.rawhide" }));
});

test("end of life is the release's, else thirteen months after the compose", () => {
  const of = (version: string, date: string) =>
    endOfLifeOf({ date, release: { name: "Fedora", short: "Fedora", version, type: "ga" } }, releases);
  expect(of("43", "20251021")).toBe("2026-12-02");
  expect(of("44", "20260410")).toBe("2027-05-10");
  expect(of("Rawhide", "20260131")).toBe("2027-02-28");
  expect(of("constructor", "20260131")).toBe("2027-02-28");
});
