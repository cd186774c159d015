import { expect, test } from "vitest";
import type { Plan } from "../compose/index.ts";
import { readPlan, whatMoved, writePlan } from "./plan-file.ts";

const item: Plan["items"][number] = {
  ...{ artifact: "a.raw.xz", cloud: "aws", target: "aws", arch: "x86_64", name: "Fedora-43", sha256: "1" },
  regions: { "us-east-1": "create", "eu-west-1": "copy" },
};
const plan: Plan = { compose: "Fedora-43-20251021.0", system: "cloud", items: [item], skipped: [] };

function moved(now: Partial<Plan>): string[] {
  const file = readPlan(writePlan("https://example.org/compose", [plan], new Date(0)), "p.json");
  return whatMoved(file.plans[0]!, { ...plan, ...now });
}

const cases: { name: string; now: Partial<Plan>; moved: string[] }[] = [
  { name: "nothing", now: {}, moved: [] },
  {
    name: "an image was made meanwhile",
    now: { items: [{ ...item, regions: { "us-east-1": "exists", "eu-west-1": "copy" } }] },
    moved: ["Fedora-43 (x86_64) in aws, us-east-1: create then, exists now"],
  },
  {
    name: "a region came and one went",
    now: { items: [{ ...item, regions: { "us-east-1": "create", "ap-south-1": "copy" } }] },
    moved: [
      "Fedora-43 (x86_64) in aws, ap-south-1: not planned then, copy now",
      "Fedora-43 (x86_64) in aws, eu-west-1: copy then, not planned now",
    ],
  },
  {
    name: "the bytes are others",
    now: { items: [{ ...item, sha256: "2" }] },
    moved: ["Fedora-43 (x86_64) in aws is made from other bytes: a.raw.xz was 1, a.raw.xz is 2"],
  },
  {
    name: "a name is taken by somebody else",
    now: { items: [{ ...item, reason: "us-east-1: is not this image (ami-9)" }] },
    moved: ["Fedora-43 (x86_64) in aws: us-east-1: is not this image (ami-9)"],
  },
  {
    name: "the configuration names it differently",
    now: { items: [{ ...item, name: "Fedora-44" }] },
    moved: ["Fedora-44 (x86_64) in aws is new", "Fedora-43 (x86_64) in aws is not planned any more"],
  },
  { name: "another compose", now: { compose: "X" }, moved: ["the compose there is X, not Fedora-43-20251021.0"] },
];

test.each(cases)("$name", ({ now, moved: expected }) => {
  expect(moved(now)).toEqual(expected);
});

test.each(["", "{}", '{"slipway_plan":2}', '{"slipway_plan":1,"location":"x","made_at":"y","plans":[]}'])(
  "%j is no plan",
  (text) => {
    expect(() => readPlan(text, "p.json")).toThrow(expect.objectContaining({ code: "invalid", subject: "p.json" }));
  },
);
