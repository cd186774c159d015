import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { type Selection, selectImages } from "../../compose/index.ts";
import { fixture, releasesOf } from "../../compose/testing/composes.ts";
import { type Config, loadConfig, planTargets } from "../../config/index.ts";
import type { Audience } from "../../model.ts";
import { expectedMessages } from "./expected.ts";

const ROOT = join(import.meta.dirname, "../../..");
const COMPOSE = "Fedora-43-20251021.0";

let config: Config;
let selection: Selection;
beforeAll(async () => {
  config = await loadConfig(join(ROOT, "examples/fedora.yaml"), { env: {} });
  const system = config.systems["fedora-cloud"]!;
  selection = selectImages(fixture(COMPOSE), system, releasesOf(COMPOSE), planTargets(config));
});

/** As wiring makes them of targets. */
function factsOf(audience: Audience = { to: "public" }) {
  return (name: string) => {
    const target = config.targets[name]!;
    return { audience, address: target.cloud === "registry" ? target.url : name };
  };
}

test("Fedora's compose gives one message an AMI, a gallery version, a GCP image and a repository", async () => {
  const said = expectedMessages(selection, { facts: factsOf() });
  await expect(`${JSON.stringify(said, null, 2)}\n`).toMatchFileSnapshot("testdata/expected.golden.json");
});

describe("what is announced to nobody gives no message", () => {
  const clouds = (said: ReturnType<typeof expectedMessages>) => [
    ...new Set(said.map(({ topic }) => topic.split(".")[3])),
  ];
  test("candidates are announced on Azure only, and repositories without floating tags", () => {
    const said = expectedMessages(selection, { facts: factsOf(), as: "candidate" });
    expect(clouds(said)).toEqual(["azure", "container"]);
    expect(said.filter(({ body }) => "tags" in body).map(({ body }) => body.tags)).toEqual([[], []]);
  });
  test("an offer to nobody leaves a candidate", () => {
    expect(clouds(expectedMessages(selection, { facts: factsOf({ to: "nobody" }) }))).toEqual(["azure", "container"]);
  });
});

test("regions that only the cloud can name are marked", () => {
  const targets = { ...planTargets(config) };
  targets.aws = { ...targets.aws!, regions: "all" };
  const all = selectImages(fixture(COMPOSE), config.systems["fedora-cloud"]!, releasesOf(COMPOSE), targets);
  const [ami] = expectedMessages(all, { facts: factsOf() });
  expect(ami).toMatchObject({ allRegions: true, body: { regions: { "us-east-1": null } } });
});
