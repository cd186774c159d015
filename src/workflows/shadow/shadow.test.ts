import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { replayEvent } from "../../bus/dispatch/judge.ts";
import { acceptDeliveries } from "../../bus/inbox.ts";
import { listMessages } from "../../bus/outbox.ts";
import { readShadow, sourceOf } from "../../bus/shadow.ts";
import { parseConfig } from "../../config/index.ts";
import { compiledRules } from "../../config/rules.ts";
import { silent } from "../../lib/call.ts";
import { hours } from "../../lib/units.ts";
import { dispatchEvents, handleEvent, inspectCompose } from "../index.ts";
import { COMPOSE, openStage, type Play, type Stage } from "../testing/stage.ts";
import { compareMessages } from "./compare.ts";
import { NOT_DONE } from "./expect-release.ts";
import { type ExpectedMessage, expectedMessages } from "./expected.ts";
import { reportShadow } from "./report.ts";
import type { TheirMessage } from "./subject.ts";
import { agreeing } from "./testing/theirs.ts";

const TOPIC = "org.fedoraproject.prod.pungi.compose.status.change";
const THEIRS = "org.fedoraproject.prod.fedora_image_uploader.published.v1";
const within = hours(12);

let stage: Stage;
const webs: Server[] = [];
beforeAll(async () => {
  stage = await openStage();
});
afterAll(async () => {
  for (const web of webs) {
    web.closeAllConnections();
    web.close();
  }
  await stage?.close();
});
beforeEach(async () => {
  stage.automation.rules = [];
  stage.automation.shadow = {
    topics: [`${THEIRS}.#`],
    within,
  };
  stage.opened.splice(0);
  await stage.database.pool.query(
    "truncate inbox, quarantine, dispatches, rule_pauses, outbox, shadow_composes, shadow_messages",
  );
});

/** The play's compose over http, as a message has to name it; `missing` answers that it is not there. */
async function served(play: Play, hidden = { missing: false }): Promise<string> {
  const web = createServer((request, response) => {
    const path = join(play.location, decodeURIComponent(request.url ?? "/"));
    const content = hidden.missing ? Promise.reject(new Error("hidden")) : readFile(path);
    content.then(
      (found) => response.end(found),
      () => response.writeHead(404).end(),
    );
  });
  webs.push(web);
  await new Promise<void>((resolve) => web.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(web.address() as AddressInfo).port}`;
}

function rules(text: string, system?: string): void {
  stage.automation.rules = compiledRules(parseConfig(text)).map((rule) =>
    system !== undefined && rule.action.kind === "release" ? { ...rule, action: { ...rule.action, system } } : rule,
  );
}

const RELEASE = `rules: [{ topic: ${TOPIC} }]`;

/** As the broker delivers: what becomes of it is the topic's to say. */
async function come(id: string, topic: string, body: object, headers: Record<string, unknown> = {}): Promise<void> {
  const content = Buffer.from(JSON.stringify(body));
  await acceptDeliveries(stage.services.db, sourceOf("broker", stage.automation.shadow), [
    { routingKey: topic, content, messageId: id, headers },
  ]);
}

/** Runs are called after their events, and outlive a test. */
let told = 0;
const finished = (location: string, headers?: Record<string, unknown>, id = `finished-${++told}`) =>
  come(id, TOPIC, { status: "FINISHED", compose_id: COMPOSE, location }, headers);

const publish = ({ id, topic, schema, severity, body }: TheirMessage) =>
  come(id, topic, body, {
    fedora_messaging_severity: severity,
    ...(schema === undefined ? {} : { fedora_messaging_schema: schema }),
  });

/** Dispatches, and waits for every run that events started. */
async function act(): Promise<unknown[]> {
  await dispatchEvents(stage.engine, stage.services);
  const rows = await stage.services.db.selectFrom("dispatches").selectAll().orderBy("sequence").execute();
  return Promise.all(
    rows.map(({ run_id, why, state }) =>
      run_id === null
        ? (why ?? state)
        : stage.engine.result(run_id).catch((error: Error) => `failed: ${error.message}`),
    ),
  );
}

/** What we expect of a play's compose, worked out beside the story. */
async function expectedOf(play: Play): Promise<ExpectedMessage[]> {
  const call = { signal: AbortSignal.timeout(10_000), log: silent };
  const { selections } = await inspectCompose(`file://${play.location}`, stage.services, call, play.system);
  return selections.flatMap((one) => expectedMessages(one, { facts: (name) => stage.services.targets.facts(name) }));
}

const SOON = hours(1);
const LATER = within + hours(1);

function report(after: number) {
  return reportShadow(stage.services.db, { now: new Date(Date.now() + after), within });
}

/** Nobody has opened a cloud, started a release or written a message. */
async function nothingWasDone(system: string): Promise<void> {
  expect(stage.opened).toEqual([]);
  expect(await stage.engine.list({ labels: { system } })).toEqual([]);
  expect(await listMessages(stage.services.db, { limit: 10 })).toEqual([]);
}

test("a compose that both know: events in, expectations, their messages, a report; over a restart and redeliveries", async () => {
  const play = await stage.play({ to: ["one"], containers: true });
  rules(RELEASE, play.system);
  const location = await served(play);
  const [first, ...others] = (await expectedOf(play)).map((one, at) => agreeing(one, `theirs-${at}`));
  expect(others).toHaveLength(1);

  // Theirs comes before anybody has told us of the compose.
  await publish(first!);
  await act();
  expect(await report(SOON)).toMatchObject({
    counts: { composes: { waiting: 1, differs: 0 }, differences: {} },
    composes: [{ compose: COMPOSE, waitingFor: ["our event about it"], theirs: 1, ours: 0 }],
  });

  for (let n = 0; n < 3; n++) await finished(location, {}, "the same");
  await dispatchEvents(stage.engine, stage.services);
  await stage.restart();
  expect(await act()).toEqual([{ result: "expected", runs: [], why: "shadow: 2 message(s) expected" }]);
  expect(await report(SOON)).toMatchObject({
    composes: [{ verdict: "waiting", systems: [play.system], theirs: 1, ours: 2, agreed: 1, differences: [] }],
  });

  // The rest arrives, everything once more, and another message about the same compose.
  for (const message of [...others, first!, ...others]) await publish(message);
  await finished(location);
  await act();
  const said = await report(LATER);
  expect(said.counts).toMatchObject({ messages: { theirs: 2, ours: 2, agreed: 2 }, differences: {} });
  expect(said.composes).toMatchObject([{ verdict: "agreed", notes: [] }]);
  await nothingWasDone(play.system);
});

test("a compose that they never announce is waited for, and then missing there", async () => {
  const play = await stage.play({ to: ["one"] });
  rules(RELEASE, play.system);
  await finished(await served(play));
  await act();
  expect((await report(SOON)).composes).toMatchObject([{ verdict: "waiting", differences: [] }]);
  expect((await report(LATER)).composes).toMatchObject([
    { verdict: "differs", differences: [{ kind: "missing-there", about: expect.stringMatching(/^aws .* x86_64$/) }] },
  ]);
});

test("a message that comes after the time to wait still counts, and is said to be late", async () => {
  const play = await stage.play({ to: ["one"] });
  rules(RELEASE, play.system);
  await finished(await served(play), { "sent-at": "2025-10-21T12:00:00+00:00" });
  await act();
  expect((await report(0)).composes).toMatchObject([{ verdict: "differs" }]);
  for (const one of await expectedOf(play)) await publish(agreeing(one));
  expect((await report(0)).composes).toMatchObject([
    { verdict: "agreed", notes: ["1 of their messages came after the time to wait had ended"] },
  ]);
});

test("a compose that only they announce is missing here, with the reason if there is one", async () => {
  const play = await stage.play({ to: ["one"] });
  rules(RELEASE, play.system);
  const [ours] = await expectedOf(play);
  const theirs = agreeing({ ...ours!, body: { ...ours!.body, compose_id: "Fedora-IoT-43-20251021.0" } });
  await publish(theirs);
  expect((await report(SOON)).composes).toMatchObject([{ verdict: "waiting" }]);
  const unheardOf = (await report(LATER)).composes;
  expect(unheardOf).toMatchObject([{ verdict: "differs", differences: [{ kind: "missing-here" }] }]);
  expect(unheardOf[0]!.notes).toEqual(["no event has told us that it is finished, or no rule meant it"]);

  // A system that takes something else: known, and still not ours.
  const system = stage.services.systems.find(({ name }) => name === play.system)!;
  Object.assign(system, { composes: { short: ["Fedora-Other"] } });
  await publish({ ...agreeing(ours!), id: "theirs-too" });
  await finished(await served(play));
  expect(await act()).toMatchObject([{ result: "nothing", runs: [] }]);
  const refused = (await report(SOON)).composes.find(({ compose }) => compose === COMPOSE);
  expect(refused).toMatchObject({ verdict: "differs", differences: [{ kind: "missing-here" }] });
  expect(refused!.notes[0]).toContain(`no system takes ${COMPOSE}`);
});

test("a compose that cannot be read says so, and a replay makes up for it", async () => {
  const play = await stage.play({ to: ["one"] });
  rules(RELEASE, play.system);
  const hidden = { missing: true };
  await finished(await served(play, hidden));
  expect(await act()).toEqual(["failed: there is no compose at that place"]);
  const { expectations } = await readShadow(stage.services.db, {});
  expect(expectations).toMatchObject([
    { system: "", why: "it could not be planned: there is no compose at that place" },
  ]);

  hidden.missing = false;
  const { rules: all } = stage.automation;
  expect(await replayEvent(stage.services.db, `finished-${told}`, { rules: all, now: stage.services.now() })).toEqual({
    release: 2,
  });
  await act();
  expect((await report(SOON)).composes).toMatchObject([{ systems: [play.system], ours: 1, notes: [] }]);
});

test("systems that are left out are neither missed nor held against anybody", async () => {
  const [play, other] = [await stage.play({ to: ["one"] }), await stage.play({ to: ["two"], containers: true })];
  const shadow = stage.automation.shadow!;
  stage.automation.shadow = { ...shadow, systems: [play.system] };
  const location = await served(play);
  rules(RELEASE, other.system);
  await finished(location);
  for (const [at, one] of (await expectedOf(other)).entries()) await publish(agreeing(one, `other-${at}`));
  await act();
  expect((await report(LATER)).counts).toMatchObject({ composes: { "left-out": 1, differs: 0 }, differences: {} });

  stage.automation.shadow = { ...shadow, systems: [other.system] };
  await finished(location);
  await act();
  expect((await report(LATER)).counts).toMatchObject({ composes: { agreed: 1 }, messages: { agreed: 2 } });
});

describe("nothing else that an event asks for is done", () => {
  const OTHERS = `
automation: { playbooks: /nowhere }
rules:
  - { topic: org.example.x, do: { promote: { what: body.what } } }
  - { topic: org.example.x, do: { rollback: { what: body.what } } }
  - { topic: org.example.x, do: { attest: { what: body.what } } }
  - { topic: org.example.x, do: { heal: {} } }
  - { topic: org.example.x, do: { playbook: {} } }`;

  test("rules say so, and start no run", async () => {
    rules(OTHERS);
    await come("x", "org.example.x", { what: COMPOSE });
    expect(await act()).toEqual([NOT_DONE, NOT_DONE, NOT_DONE, NOT_DONE, NOT_DONE]);
  });

  test("neither does a run that was begun before this was a shadow", async () => {
    rules(OTHERS);
    await come("x", "org.example.x", { what: COMPOSE });
    const outcomes: unknown[] = [];
    for (const { name } of stage.automation.rules) {
      const handle = await stage.engine.start(
        handleEvent,
        { eventId: "x", rule: name, generation: 1 },
        { runId: `begun-before.${name}`, queue: "events" },
      );
      outcomes.push(await handle.result().catch((error: Error) => error.message));
    }
    const nothing = { result: "nothing", runs: [], why: NOT_DONE };
    expect(outcomes).toEqual([nothing, nothing, nothing, nothing, NOT_DONE]);
    expect(stage.opened).toEqual([]);
  });

  test("their messages are judged by no rule, at first or when they are replayed", async () => {
    rules('rules: [{ topic: "#", when: "true", do: { heal: {} } }]');
    await publish({
      id: "theirs",
      topic: `${THEIRS}.aws.x`,
      severity: 20,
      body: {},
    });
    expect(await act()).toEqual([]);
    const options = { rules: stage.automation.rules, now: stage.services.now() };
    expect(await replayEvent(stage.services.db, "theirs", options)).toEqual({});
    // It names no compose; another cannot be read at all. Neither is lost.
    await come("unreadable", `${THEIRS}.aws.x`, {}, { fedora_messaging_schema: 5 });
    expect(await report(0)).toMatchObject({
      ...{ unplaced: [{ id: "theirs" }], unreadable: 1 },
      counts: { differences: { schema: 2 }, messages: { theirs: 2 } },
    });
  });
});

test("what a release announces is what a shadow would have expected of it", async () => {
  stage.automation.shadow = undefined;
  const play = await stage.play({ to: ["one", "two"], containers: true });
  const { outcome } = await play.release();
  expect(outcome.result).toBe("done");
  const announced = (await play.messages()).map(
    ({ id, topic, headers, body }): TheirMessage => ({
      ...{ id, topic, body, severity: Number(headers.fedora_messaging_severity) },
      schema: String(headers.fedora_messaging_schema),
    }),
  );
  const { differences, notes } = compareMessages(await expectedOf(play), announced);
  // A cloud in a directory has ids of its own form.
  expect(differences.filter(({ kind }) => kind !== "id")).toEqual([]);
  expect(announced).toHaveLength(3);
  expect(notes).toEqual([]);
});
