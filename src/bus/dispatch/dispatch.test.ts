import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Database } from "../../database/index.ts";
import { testDatabase } from "../../database/testing/postgres.ts";
import { hours, minutes, seconds } from "../../lib/units.ts";
import { compileRule, type Rule, type RuleSettings } from "../../rules/index.ts";
import { acceptDeliveries } from "../inbox.ts";
import { BUS_MIGRATIONS } from "../schema.ts";
import { judgeEvents, replayEvent } from "./judge.ts";
import type { DispatchTables } from "./schema.ts";
import { lockHolders, markEnded, markStarted, nextDue, takeDue } from "./take.ts";

let database: Database;
let clock = 0;
beforeAll(async () => {
  database = await testDatabase();
  await database.migrate("bus", BUS_MIGRATIONS);
});
beforeEach(async () => {
  clock = Date.UTC(2026, 0, 1);
  await database.pool.query("truncate inbox, quarantine, dispatches, rule_pauses");
});
afterAll(() => database?.close());

const db = () => database.kysely<DispatchTables>();
const now = () => new Date(clock);

function rule(name: string, settings: Partial<RuleSettings> = {}): Rule {
  const base = { name, topic: "org.example.#", enabled: true, during_freeze: "hold" as const, action: null };
  const compiled = compileRule({ ...base, ...settings });
  if ("problems" in compiled) throw new Error(JSON.stringify(compiled.problems));
  return compiled;
}

/** An event arrives and is judged. */
async function come(
  id: string,
  body: object,
  rules: readonly Rule[],
  more: { topic?: string; priority?: number } = {},
) {
  const { topic = "org.example.thing", priority } = more;
  const content = Buffer.from(JSON.stringify(body));
  await acceptDeliveries(db(), "broker", [{ routingKey: topic, content, messageId: id, priority }]);
  await judgeEvents(db(), { rules, now: now() });
}

/** What may start now, as `event rule`; it starts. */
async function starts(rules: readonly Rule[], options: { frozen?: string; limit?: number } = {}): Promise<string[]> {
  const { frozen, limit } = options;
  const orders = await takeDue(db(), {
    ...{ rules, now: now() },
    ...(limit === undefined ? {} : { limit }),
    frozen: () => frozen,
  });
  await markStarted(db(), orders);
  return orders.map((order) => `${order.eventId} ${order.rule}${order.generation > 1 ? ` ${order.generation}` : ""}`);
}

async function states(): Promise<Record<string, string>> {
  const rows = await db().selectFrom("dispatches").selectAll().orderBy("sequence").execute();
  return Object.fromEntries(
    rows.map((row) => [
      `${row.event_id} ${row.rule}${row.generation > 1 ? ` ${row.generation}` : ""}`,
      row.why === null ? row.state : `${row.state}: ${row.why}`,
    ]),
  );
}

describe("looking at events", () => {
  test("each is looked at once, by as many as there are, and every rule that means it starts one run", async () => {
    const rules = [rule("all"), rule("even", { when: "int(body.n) % 2 == 0" }), rule("off", { enabled: false })];
    const content = (n: number) => Buffer.from(JSON.stringify({ n }));
    const deliveries = Array.from({ length: 40 }, (_, n) => ({
      ...{ routingKey: "org.example.thing", messageId: `e${n}`, content: content(n) },
    }));
    await acceptDeliveries(db(), "broker", deliveries);
    const looked = await Promise.all([1, 2, 3].map(() => judgeEvents(db(), { rules, now: now() })));
    expect(looked.reduce((sum, count) => sum + count)).toBe(40);
    const taken = await Promise.all([1, 2, 3].map(() => takeDue(db(), { rules, now: now(), limit: 100 })));
    const runs = taken.flat().map(({ runId }) => runId);
    expect(runs).toHaveLength(60);
    expect(new Set(runs).size).toBe(60);
  });

  test("oldest first, urgent before that", async () => {
    const rules = [rule("all")];
    await come("a", {}, rules);
    await come("b", {}, rules, { priority: 5 });
    await come("c", {}, rules);
    expect(await starts(rules)).toEqual(["b all", "a all", "c all"]);
  });

  test("a rule that cannot be applied tells so, and the event is kept", async () => {
    const rules = [rule("bad", { when: "body.n > 1" }), rule("good")];
    await come("a", { n: "text" }, rules);
    expect(await starts(rules)).toEqual(["a good"]);
    expect(await states()).toMatchObject({ "a bad": expect.stringMatching(/^failed: when: /), "a good": "started" });
  });

  test("whoever dies between taking and starting is followed by somebody who starts the same run", async () => {
    const rules = [rule("all")];
    await come("a", {}, rules);
    const [order] = await takeDue(db(), { rules, now: now() });
    expect(await takeDue(db(), { rules, now: now() })).toEqual([]);
    await database.pool.query("update dispatches set changed_at = changed_at - interval '1 minute'");
    expect(await takeDue(db(), { rules, now: now() })).toEqual([order]);
  });

  test("a rule that is gone or switched off starts nothing any more", async () => {
    await come("a", {}, [rule("one"), rule("two")]);
    expect(await starts([rule("one", { enabled: false })])).toEqual([]);
    expect(await states()).toEqual({
      "a one": "skipped: the rule is switched off",
      "a two": "skipped: the rule is gone",
    });
  });

  test("what only the caller knows may take events from a rule", async () => {
    await acceptDeliveries(db(), "broker", [
      { routingKey: "org.example.x", messageId: "a", content: Buffer.from("{}") },
    ]);
    await judgeEvents(db(), { rules: [rule("by-topic")], now: now(), meant: async (_, topic) => topic.endsWith(".y") });
    expect(await states()).toEqual({});
  });
});

describe("what other events have to do with it", () => {
  test("once: the first of a key, until the time is over", async () => {
    const rules = [rule("one", { once: { per: "body.compose", within: hours(1) } })];
    await come("a", { compose: "x" }, rules);
    await come("b", { compose: "x" }, rules);
    await come("c", { compose: "y" }, rules);
    expect(await starts(rules)).toEqual(["a one", "c one"]);
    expect(await states()).toMatchObject({ "b one": "skipped: done once already for x: a" });
    clock += hours(2);
    await come("d", { compose: "x" }, rules);
    expect(await starts(rules)).toEqual(["d one"]);
  });

  test("throttle: so many in so much time", async () => {
    const rules = [rule("one", { throttle: { most: 2, per: minutes(10) } })];
    for (const id of ["a", "b", "c"]) await come(id, {}, rules);
    expect(await starts(rules)).toEqual(["a one", "b one"]);
    expect(await states()).toMatchObject({ "c one": "skipped: throttled: 2 in the time given" });
    clock += minutes(11);
    await come("d", {}, rules);
    expect(await starts(rules)).toEqual(["d one"]);
  });

  test("debounce: the last, when it is quiet; but the first does not wait for ever", async () => {
    const rules = [rule("one", { debounce: { quiet: minutes(5), at_most: minutes(12), by: "body.k" } })];
    await come("a", { k: 1 }, rules);
    clock += minutes(4);
    await come("b", { k: 1 }, rules);
    await come("other", { k: 2 }, rules);
    expect(await starts(rules)).toEqual([]);
    expect(await nextDue(db(), now(), hours(1))).toBe(minutes(5));
    clock += minutes(5);
    expect(await starts(rules)).toEqual(["b one", "other one"]);
    expect(await states()).toMatchObject({ "a one": "skipped: a later one came: b" });
    for (const id of ["c", "d", "e", "f"]) {
      clock += minutes(4);
      await come(id, { k: 1 }, rules);
    }
    expect(await starts(rules)).toEqual(["f one"]);
  });

  test("join: both, in whichever order, about the one; alone it is given up", async () => {
    const rules = [
      rule("pair", {
        topic: "org.example.compose",
        join: { topic: "org.example.signed", by: "body.id", within: hours(1) },
      }),
    ];
    await come("c1", { id: "x" }, rules, { topic: "org.example.compose" });
    await come("s2", { id: "y" }, rules, { topic: "org.example.signed" });
    expect(await starts(rules)).toEqual([]);
    await come("s1", { id: "x" }, rules, { topic: "org.example.signed" });
    await come("c2", { id: "y" }, rules, { topic: "org.example.compose" });
    const orders = await takeDue(db(), { rules, now: now() });
    expect(orders.map(({ eventId, otherEvent }) => [eventId, otherEvent])).toEqual([
      ["c1", "s1"],
      ["c2", "s2"],
    ]);
    await come("c3", { id: "z" }, rules, { topic: "org.example.compose" });
    clock += hours(2);
    await come("s3", { id: "z" }, rules, { topic: "org.example.signed" });
    expect(await starts(rules)).toEqual([]);
    expect(await states()).toMatchObject({
      "c3 pair": "skipped: the other event of the pair did not come in time",
      "s3 pair": "waiting",
    });
  });

  test("lock: one after another, whichever rule; others go by", async () => {
    const rules = [rule("one", { lock: "body.k" }), rule("two", { lock: "body.k", topic: "org.example.b" })];
    await come("a", { k: "x" }, rules);
    await come("b", { k: "x" }, rules, { topic: "org.example.b" });
    await come("c", { k: "y" }, rules);
    expect(await starts(rules)).toEqual(["a one", "c one"]);
    expect(await starts(rules)).toEqual([]);
    const holders = await lockHolders(db());
    expect(holders).toHaveLength(2);
    await markEnded(db(), holders);
    expect(await starts(rules)).toEqual(["b one"]);
    await markEnded(db(), await lockHolders(db()));
    expect(await starts(rules)).toEqual(["b two"]);
  });
});

describe("standing still", () => {
  test("a pause holds or drops, one rule or all", async () => {
    const rules = [rule("one"), rule("two")];
    const pause = (name: string, mode: "hold" | "drop") =>
      db().insertInto("rule_pauses").values({ rule: name, mode, reason: "mass rebuild" }).execute();
    await pause("one", "hold");
    await come("a", {}, rules);
    expect(await starts(rules)).toEqual(["a two"]);
    await db().deleteFrom("rule_pauses").execute();
    expect(await starts(rules)).toEqual(["a one"]);
    await pause("*", "drop");
    await come("b", {}, rules);
    expect(await starts(rules)).toEqual([]);
    expect(await states()).toMatchObject({
      "b one": "skipped: paused: mass rebuild",
      "b two": "skipped: paused: mass rebuild",
    });
  });

  test("a freeze does as each rule says", async () => {
    const rules = [rule("hold"), rule("drop", { during_freeze: "drop" }), rule("run", { during_freeze: "run" })];
    await come("a", {}, rules);
    expect(await starts(rules, { frozen: "final" })).toEqual(["a run"]);
    expect(await states()).toMatchObject({ "a drop": "skipped: frozen: final", "a hold": "waiting" });
    expect(await starts(rules)).toEqual(["a hold"]);
  });

  test("what is held does not stand in the way of the rest", async () => {
    const rules = [rule("held"), rule("free")];
    for (let n = 0; n < 5; n++) await come(`e${n}`, {}, rules);
    await db().insertInto("rule_pauses").values({ rule: "held", mode: "hold", reason: "x" }).execute();
    expect(await starts(rules, { limit: 5 })).toHaveLength(5);
  });
});

test("a replay does it again, whatever held it back, and its run is another one", async () => {
  const rules = [
    rule("one", { once: { per: "body.k", within: hours(1) } }),
    rule("two", { topic: "org.example.other" }),
  ];
  await come("a", { k: 1 }, rules);
  expect(await starts(rules)).toEqual(["a one"]);
  expect(await replayEvent(db(), "a", { rules, now: now() })).toEqual({ one: 2 });
  expect(await replayEvent(db(), "a", { rules, now: now(), only: "two" })).toEqual({});
  expect(await replayEvent(db(), "nobody", { rules, now: now() })).toEqual({});
  expect(await starts(rules)).toEqual(["a one 2"]);
  const runs = await db().selectFrom("dispatches").select("run_id").execute();
  expect(new Set(runs.map(({ run_id }) => run_id)).size).toBe(2);
});

test("nothing due is a wait of the longest time", async () => {
  expect(await nextDue(db(), now(), seconds(30))).toBe(seconds(30));
});
