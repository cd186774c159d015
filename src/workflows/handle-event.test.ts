import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { acceptDeliveries } from "../bus/inbox.ts";
import { parseConfig } from "../config/index.ts";
import { compiledRules } from "../config/rules.ts";
import { silent } from "../lib/call.ts";
import { dispatchEvents, dispatchUntilClosed } from "./index.ts";
import { COMPOSE, IMAGE, openStage, type Play, type Stage } from "./testing/stage.ts";

const TOPIC = "org.fedoraproject.prod.pungi.compose.status.change";

let stage: Stage;
let web: Server;
beforeAll(async () => {
  stage = await openStage();
});
afterAll(async () => {
  web?.closeAllConnections();
  web?.close();
  await stage?.close();
});
beforeEach(async () => {
  stage.automation.rules = [];
  stage.automation.freeze = [];
  await stage.database.pool.query("truncate inbox, quarantine, dispatches, rule_pauses");
});

/** The play's compose over http, as a message has to name it. */
async function served(play: Play): Promise<string> {
  web?.close();
  web = createServer((request, response) => {
    readFile(join(play.location, decodeURIComponent(request.url ?? "/"))).then(
      (content) => response.end(content),
      () => response.writeHead(404).end(),
    );
  });
  await new Promise<void>((resolve) => web.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(web.address() as AddressInfo).port}`;
}

function rules(text: string, system?: string): void {
  const config = parseConfig(text);
  stage.automation.rules = compiledRules(config).map((rule) =>
    system !== undefined && rule.action.kind === "release" ? { ...rule, action: { ...rule.action, system } } : rule,
  );
}

async function come(id: string, body: object, topic = TOPIC): Promise<void> {
  const content = Buffer.from(JSON.stringify(body));
  await acceptDeliveries(stage.services.db, "broker", [{ routingKey: topic, content, messageId: id }]);
}

const dispatch = () => dispatchEvents(stage.engine, stage.services);

/** The outcome of every run that events started, by event and rule. */
async function outcomes(): Promise<Record<string, unknown>> {
  const rows = await stage.services.db.selectFrom("dispatches").selectAll().orderBy("sequence").execute();
  const said: Record<string, unknown> = {};
  for (const row of rows) {
    said[`${row.event_id} ${row.rule} ${row.generation}`] =
      row.run_id === null
        ? (row.why ?? row.state)
        : await stage.engine.result(row.run_id).catch((error: Error) => `failed: ${error.message}`);
  }
  return said;
}

test("a compose that is finished is released, however often it is told", async () => {
  const play = await stage.play({ to: ["one"] });
  rules("rules: [{ topic: org.fedoraproject.*.pungi.compose.status.change }]", play.system);
  const location = await served(play);
  await come("started", { status: "STARTED", compose_id: COMPOSE, location });
  await come("finished", { status: "FINISHED", compose_id: COMPOSE, location });
  for (let n = 0; n < 50; n++) await come("finished", { status: "FINISHED", compose_id: COMPOSE, location });
  expect(await dispatch()).toEqual({ judged: 2, started: 1 });
  expect(await dispatch()).toEqual({ judged: 0, started: 0 });
  const said = await outcomes();
  expect(said).toEqual({
    "finished release 1": { result: "started", runs: [`${COMPOSE}.${play.system}.1`] },
  });
  expect(await stage.engine.result(`${COMPOSE}.${play.system}.1`)).toMatchObject({ result: "done" });
  expect((await play.images()).map(({ name, state }) => [name, state])).toContainEqual([IMAGE, "active"]);

  // Another message about the same compose: known, nothing is done twice.
  await come("again", { status: "FINISHED", compose_id: COMPOSE, location });
  await dispatch();
  expect(await outcomes()).toMatchObject({ "again release 1": { runs: [`${COMPOSE}.${play.system}.1`] } });
  const releases = await stage.engine.list({ labels: { system: play.system }, workflow: "release-compose" });
  expect(releases).toHaveLength(1);
});

test("what is released as a candidate is promoted by a later event", async () => {
  const play = await stage.play({ to: ["one"] });
  rules(
    `rules:
      - { topic: ${TOPIC}, do: { release: { as: candidate } } }
      - { topic: org.example.tests, when: body.passed == true, do: { promote: { what: body.compose } } }`,
    play.system,
  );
  const location = await served(play);
  await come("incomplete", { status: "FINISHED_INCOMPLETE", location });
  await dispatch();
  await outcomes();
  await stage.engine.result(`${COMPOSE}.${play.system}.1`);
  expect((await play.images()).map(({ state }) => state)).not.toContain("active");
  await come("failed", { passed: false, compose: COMPOSE }, "org.example.tests");
  await come("passed", { passed: true, compose: COMPOSE }, "org.example.tests");
  expect(await dispatch()).toEqual({ judged: 2, started: 1 });
  const { "passed promote-tests 1": promoted } = (await outcomes()) as Record<string, { runs: string[] }>;
  await stage.engine.result(promoted!.runs[0]!);
  expect((await play.images()).map(({ state }) => state)).toContain("active");
});

test("what a message may not name, and what cannot be read from it, fails the run and says so", async () => {
  const play = await stage.play({ to: ["one"] });
  rules(
    `rules:
      - { topic: "org.example.compose", when: "true" }
      - { topic: org.example.promote, do: { promote: { what: body.compose } } }`,
    play.system,
  );
  await come("file", { status: "FINISHED", location: pathToFileURL(play.location).href }, "org.example.compose");
  await come("doomed", { status: "DOOMED" }, "org.example.compose");
  await come("nameless", {}, "org.example.promote");
  await come("unknown", { compose: "Fedora-99-20990101.0" }, "org.example.promote");
  await dispatch();
  expect(await outcomes()).toEqual({
    "file release 1": "failed: the message does not say where the compose is",
    "doomed release 1": { result: "nothing", runs: [], why: "the compose is DOOMED" },
    "nameless promote-promote 1": expect.stringContaining("the event has no compose"),
    "unknown promote-promote 1": expect.stringMatching(/^failed: /),
  });
});

test("a lock is held until what the run has started has ended", async () => {
  const play = await stage.play({ to: ["one"] });
  rules(`rules: [{ topic: ${TOPIC}, lock: "'releases'" }]`, play.system);
  const location = await served(play);
  for (const id of ["first", "second"]) await come(id, { status: "FINISHED", location });
  expect(await dispatch()).toMatchObject({ started: 1 });
  await outcomes();
  await stage.engine.result(`${COMPOSE}.${play.system}.1`);
  await expect.poll(async () => (await dispatch()).started, { timeout: 10_000 }).toBe(1);
});

test("a rule for a system is held in that system's freeze windows only", async () => {
  const at = stage.services.now().getTime();
  const window = { from: at - 1000, until: at + 1000, reason: "final freeze" };
  rules("rules: [{ topic: org.example.x, do: { heal: {} } }]");
  stage.automation.freeze = [window];
  await come("a", {}, "org.example.x");
  expect(await dispatch()).toEqual({ judged: 1, started: 0 });
  stage.automation.freeze = [{ ...window, until: at - 1 }];
  expect(await dispatch()).toEqual({ judged: 0, started: 1 });
  expect(await outcomes()).toMatchObject({ "a heal-x 1": { result: "nothing" } });
});

test("a service dispatches by itself, and goes on after the database was away", async () => {
  rules("rules: [{ topic: org.example.x, do: { heal: {} } }]");
  const loop = dispatchUntilClosed(stage.engine, stage.services, silent);
  await come("a", {}, "org.example.x");
  loop.wake();
  await expect.poll(async () => Object.keys(await outcomes()), { timeout: 10_000 }).toEqual(["a heal-x 1"]);
  await loop.close();
});
