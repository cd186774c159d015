import { expect, test } from "vitest";
import type { OfferWhen } from "../compose/index.ts";
import type { ErrorLike } from "../model.ts";
import { meetsPolicy } from "./barrier.ts";
import type { Prepared } from "./groups.ts";

const down: ErrorLike = { code: "unavailable", message: "is down", region: "x" };
const refused: ErrorLike = { code: "forbidden", message: "may not register" };

function target(there: readonly string[], missing: readonly string[] = []): Prepared {
  return {
    target: "aws",
    spec: { homeRegion: "home" } as Prepared["spec"],
    images: there.map((region) => ({ key: "k", region, id: `ami-${region}`, name: "n", state: "candidate" })),
    missing: missing.map((region) => ({ region, error: down })),
    sentBytes: 0,
  };
}

const quorum = (share: number): OfferWhen => ({ quorum: share });

const cases: {
  name: string;
  policy: OfferWhen;
  prepared: (Prepared | ErrorLike)[];
  met?: true;
  says?: string;
  code?: string;
}[] = [
  { name: "all regions of all targets", policy: "all", prepared: [target(["home", "a"]), target(["home"])], met: true },
  {
    name: "a region is missing and all are asked for",
    policy: "all",
    prepared: [target(["home"], ["a", "b"]), target(["home"])],
    says: "not offered: 2 of 4 regions are there and all are asked for; missing a, b: is down",
    code: "unavailable",
  },
  { name: "exactly the quorum", policy: quorum(0.5), prepared: [target(["home"], ["a"])], met: true },
  {
    name: "less than the quorum",
    policy: quorum(0.6),
    prepared: [target(["home"], ["a"])],
    says: "1 of 2 regions are there and 2 are asked for",
    code: "unavailable",
  },
  {
    name: "the quorum counts over all targets of the group",
    policy: quorum(0.75),
    prepared: [target(["home"], ["a"]), target(["home", "b"])],
    met: true,
  },
  {
    name: "a quorum without the home region is none",
    policy: quorum(0.5),
    prepared: [target(["a", "b"], ["home"])],
    says: "2 of 3 regions are there and the home region is not among them",
    code: "unavailable",
  },
  {
    name: "no quorum makes up for a target that failed",
    policy: quorum(0.1),
    prepared: [target(["home", "a", "b"]), refused],
    says: "may not register: the others of its group wait for it",
    code: "forbidden",
  },
  { name: "the only target failed", policy: "all", prepared: [refused], says: "may not register", code: "forbidden" },
  { name: "nothing to offer", policy: "all", prepared: [], says: "the group has no target", code: "invalid" },
];

test.each(cases)("$name", ({ policy, prepared, met, says, code }) => {
  const verdict = meetsPolicy(policy, prepared);
  if (met) return expect(verdict).toEqual({ met });
  expect(verdict).toMatchObject({ met: false, error: { code, message: expect.stringContaining(says ?? "") } });
});

test("the error says where and what to do next", () => {
  expect(meetsPolicy("all", [target(["home"], ["a"])])).toMatchObject({
    error: { region: "x", next: expect.stringContaining("slipway runs retry") },
  });
});
