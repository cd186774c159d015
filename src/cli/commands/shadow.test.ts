import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import type { Expectation, Shadowed } from "../../bus/shadow.ts";
import { selectImages } from "../../compose/index.ts";
import { fixture, releasesOf } from "../../compose/testing/composes.ts";
import { type Config, loadConfig, planTargets } from "../../config/index.ts";
import { hours } from "../../lib/units.ts";
import type { Json } from "../../model.ts";
import { type ExpectedMessage, expectedMessages } from "../../workflows/shadow/expected.ts";
import { reportOf } from "../../workflows/shadow/report.ts";
import type { Paint } from "../output.ts";
import type { Session } from "../session.ts";
import { serve } from "./serve.ts";
import { describeShadow, report as reportCommand } from "./shadow.ts";

const ROOT = join(import.meta.dirname, "../../..");
const NOW = new Date("2025-10-22T06:00:00Z");
const plain = (text: string) => text;
const paint: Paint = { good: plain, bad: plain, warn: plain, dim: plain, bold: plain };

/** As another service wrote them, in the form of the bus. */
const messages: Shadowed[] = (
  JSON.parse(readFileSync(join(ROOT, "src/workflows/shadow/testdata/old-service.json"), "utf8")) as {
    id: string;
    topic: string;
    headers: Record<string, Json>;
    body: Record<string, Json>;
  }[]
).map(({ id, topic, headers, body }) => ({
  ...{ id, topic, body, severity: Number(headers.fedora_messaging_severity) },
  schema: String(headers.fedora_messaging_schema),
  composeId: typeof body.compose_id === "string" ? body.compose_id : undefined,
  receivedAt: new Date(String(headers["sent-at"])),
}));

let config: Config;
beforeAll(async () => {
  config = await loadConfig(join(ROOT, "examples/fedora.yaml"), { env: {} });
});

/** Of Fedora's own metadata, by the configuration Fedora would have. */
function expectation(composeId: string, finished: string): Expectation<ExpectedMessage> {
  const system = config.systems["fedora-cloud"]!;
  const selection = selectImages(fixture(composeId), system, releasesOf(composeId), planTargets(config));
  const facts = (name: string) => {
    const target = config.targets[name]!;
    return { audience: { to: "public" } as const, address: target.cloud === "registry" ? target.url : name };
  };
  return withTimes(composeId, finished, { system: system.name, expected: expectedMessages(selection, { facts }) });
}

function withTimes(
  composeId: string,
  finished: string,
  what: Pick<Expectation<ExpectedMessage>, "system" | "expected" | "why">,
): Expectation<ExpectedMessage> {
  const finishedAt = new Date(finished);
  const closesAt = new Date(finishedAt.getTime() + hours(12));
  return { composeId, eventId: `event-${composeId}`, compared: true, finishedAt, closesAt, ...what };
}

function report() {
  const expectations = [
    expectation("Fedora-Rawhide-20230502.n.0", "2023-05-02T10:00:00Z"),
    expectation("Fedora-43-20251021.0", "2025-10-21T08:00:00Z"),
    expectation("Fedora-28-20180425.0", "2025-10-22T05:00:00Z"),
    withTimes("Fedora-ELN-20251021.n.0", "2025-10-21T08:00:00Z", {
      ...{ system: "", expected: [], why: "no system takes Fedora-ELN-20251021.n.0" },
    }),
  ];
  return reportOf({ expectations, messages, unreadable: 0 }, { now: NOW, within: hours(12) });
}

test("the report: counts on top, then every difference in words", async () => {
  await expect(`${describeShadow(report(), paint)}\n`).toMatchFileSnapshot("../testdata/shadow-report.txt");
});

test("the same for programs", () => {
  const { counts, composes } = JSON.parse(JSON.stringify(report()));
  expect(counts.composes).toEqual({ agreed: 1, differs: 2, waiting: 1, silent: 1, "left-out": 0 });
  expect(counts.messages).toEqual({ theirs: 17, ours: 18, agreed: 8 });
  expect(composes.map((one: { verdict: string }) => one.verdict)).toEqual(["differs", "differs", "waiting", "agreed"]);
  expect(composes[0].differences[0]).toMatchObject({ kind: "topic", about: "aws Cloud_Base aarch64", field: "topic" });
});

test("text that a sender chose neither acts on the terminal nor looks like a line of ours", () => {
  const hostile = messages.map((one) => ({ ...one, body: { ...one.body, repository: "\u001b[2Jfedora\n✔ agreed" } }));
  const said = describeShadow(
    reportOf({ expectations: [], messages: hostile, unreadable: 0 }, { now: NOW, within: 0 }),
    paint,
  );
  expect(said).not.toContain("\u001b");
  expect(said).not.toMatch(/^✔/m);
});

test("nothing has come yet", () => {
  const empty = reportOf({ expectations: [], messages: [], unreadable: 0 }, { now: NOW, within: 0 });
  expect(describeShadow(empty, paint)).toContain("Nothing to compare yet.");
});

test("serve heals nothing: it does not even ask what there is", async () => {
  const session = {
    ...{ signal: AbortSignal.abort(), engine: async () => ({}), events: async () => ({ state: () => ({}) }) },
    config: async () => ({ shadow: {}, console: { listen: "off" }, freeze: [{}], lifecycle: { heal_every: 1 } }),
    services: async () => expect.unreachable(),
    output: { say() {} },
  };
  expect(await serve(session as unknown as Session, {})).toBe(0);
});

test("without a shadow there is nothing to report, and how to begin", async () => {
  const session = { services: async () => ({ automation: {} }) } as unknown as Session;
  await expect(reportCommand(session, {})).rejects.toMatchObject({
    code: "invalid",
    next: expect.stringContaining("docs/"),
  });
});
