import { expect, test } from "vitest";
import type { Quota } from "../clouds/cloud.ts";
import type { PlanItem, RegionVerb } from "../compose/index.ts";
import { GiB } from "../lib/units.ts";
import { estimateOf, judgeQuotas, preflightOf, type Weighed } from "./preflight.ts";

function weighed(
  regions: Record<string, RegionVerb>,
  changes: Partial<Weighed> = {},
  cloud: PlanItem["cloud"] = "aws",
): Weighed {
  const item = { artifact: "x.raw.xz", cloud, target: cloud, arch: "x86_64", name: "x", sha256: "ab", regions };
  return { item, artifactBytes: GiB / 8, diskBytes: GiB, offered: true, ...changes };
}

const publicImages: Quota = {
  region: "eu-west-1",
  subject: "public AMIs",
  used: 5,
  limit: 5,
  limitFrom: "default",
  counts: "public-images",
  retirable: [
    { id: "ami-1", name: "Fedora-41", createdAt: "2024-10-29T10:00:00Z" },
    { id: "ami-2", name: "Fedora-42", createdAt: "2025-04-15T10:00:00Z" },
  ],
  increase: "Ask for more of L-0E3CBAB9.",
};
const home: Record<string, RegionVerb> = { "us-east-1": "create", "eu-west-1": "copy" };

test("a gigabyte to AWS and one copy: 2048 blocks put and read back, one transfer, two snapshots kept", () => {
  const { sendBytes, seconds, dollars } = estimateOf(weighed(home));
  expect(sendBytes).toBe(GiB);
  expect(dollars.once).toBeCloseTo((2048 * 0.009) / 1000 + 1.0737 * 0.02, 4);
  expect(dollars.perMonth).toBeCloseTo(2 * 1.0737 * 0.05, 4);
  expect(seconds).toBeCloseTo(10.24 + 300 + 10.24, 1);
});

test.each([
  { name: "Azure takes 60 MiB/s", given: weighed({ eastus: "create" }, {}, "azure"), bytes: GiB, seconds: 17.07 },
  { name: "what exists costs nothing", given: weighed({ here: "exists" }), bytes: 0, seconds: 0 },
  { name: "what is only offered costs nothing", given: weighed({ here: "share" }), bytes: 0, seconds: 0 },
  {
    name: "a registry gets the file as it is",
    given: weighed({ "quay.io": "create" }, {}, "registry"),
    bytes: GiB / 8,
    seconds: 1.28,
  },
])("$name", ({ given, bytes, seconds }) => {
  expect(estimateOf(given)).toMatchObject({ sendBytes: bytes, seconds: expect.closeTo(seconds, 1) });
});

test("a size that only decoding tells is guessed, and that is said", () => {
  const { diskBytes: _, ...unknown } = weighed(home);
  expect(estimateOf(unknown).sendBytes).toBe((GiB / 8) * 6);
  expect(preflightOf([unknown], [], []).estimate.assumes.join()).toContain("only decoding");
  expect(preflightOf([weighed(home)], [], []).estimate.assumes.join()).not.toContain("only decoding");
});

test("a limit that would be hit names the images to retire, by age, and what to ask for", () => {
  const [verdict] = judgeQuotas("aws", [publicImages], [weighed(home)]);
  expect(verdict).toMatchObject({ adds: 1, exceeded: true, retire: [{ id: "ami-1" }] });
  expect(verdict?.next).toBe(
    "Unless this account was granted more: retire Fedora-41 of 2024-10-29; or ask for more of L-0E3CBAB9.",
  );
  const three = [weighed(home), weighed(home), weighed(home)];
  expect(judgeQuotas("aws", [publicImages], three)[0]?.next).toContain("Fedora-42 of 2025-04-15 and 1 more; or");
});

test.each<{ name: string; quota: Partial<Quota>; given: Weighed; adds: number; exceeded: boolean }>([
  {
    name: "another target's images do not count",
    quota: {},
    given: weighed(home, {}, "azure"),
    adds: 0,
    exceeded: false,
  },
  { name: "another region's do not", quota: { region: "ap-south-1" }, given: weighed(home), adds: 0, exceeded: false },
  {
    name: "what nobody is offered is not public",
    quota: {},
    given: weighed(home, { offered: false }),
    adds: 0,
    exceeded: false,
  },
  {
    name: "a candidate that is offered is",
    quota: {},
    given: weighed({ "eu-west-1": "share" }),
    adds: 1,
    exceeded: true,
  },
  {
    name: "it is no new image",
    quota: { counts: "images" },
    given: weighed({ "eu-west-1": "share" }),
    adds: 0,
    exceeded: false,
  },
  { name: "there is room", quota: { used: 4 }, given: weighed(home), adds: 1, exceeded: false },
  {
    name: "copies are counted where they go",
    quota: { counts: "copies" },
    given: weighed(home),
    adds: 1,
    exceeded: true,
  },
])("$name", ({ quota, given, adds, exceeded }) => {
  expect(judgeQuotas("aws", [{ ...publicImages, ...quota }], [given])).toMatchObject([{ adds, exceeded }]);
});

test("a gallery's version counts once, whatever the number of its regions", () => {
  const { region: _, ...gallery } = publicImages;
  const given = weighed({ eastus: "create", westeurope: "copy" }, {}, "azure");
  expect(judgeQuotas("azure", [{ ...gallery, counts: "images" }], [given])).toMatchObject([{ adds: 1 }]);
});

test("what only waits, and what may have been raised, stops nothing; a known limit and an error do", () => {
  const verdicts = (changes: Partial<Quota>) => judgeQuotas("aws", [{ ...publicImages, ...changes }], [weighed(home)]);
  expect(preflightOf([], verdicts({ waits: true, limitFrom: "fixed" }), []).clear).toBe(true);
  expect(verdicts({ waits: true })[0]).toMatchObject({ retire: [], next: "Nothing: 5 at a time, the others wait." });
  expect(preflightOf([], verdicts({}), []).clear).toBe(true);
  expect(preflightOf([], verdicts({ limitFrom: "account" }), []).clear).toBe(false);
  const error = { target: "aws", severity: "error", subject: "x", message: "is forbidden" } as const;
  expect(preflightOf([], [], [error]).clear).toBe(false);
});
