import { expect, test } from "vitest";
import { type Log, silent } from "../../lib/call.ts";
import { hours, minutes } from "../../lib/units.ts";
import type { Accepted } from "../inbox.ts";
import { type Delivery, readDelivery } from "../message.ts";
import { parseSchedule } from "./schedule.ts";
import { firing, runTimers, type Timer, type TimersOptions } from "./timers.ts";

/** What the database is to timers: one event for each id, for as many services as there are. */
function inbox() {
  const events: { id: string; scheduled: string; timer: string; late: boolean }[] = [];
  const state = { away: false, calls: 0, repeated: 0 };
  return {
    events,
    state,
    fired: () => events.map(({ timer, scheduled, late }) => `${timer} ${scheduled.slice(0, 16)}${late ? " late" : ""}`),
    async accept(deliveries: readonly Delivery[]): Promise<Accepted> {
      state.calls++;
      if (state.away) throw new Error("connection refused");
      const fresh: string[] = [];
      for (const delivery of deliveries) {
        const said = readDelivery(delivery);
        if ("reason" in said) throw new Error(said.detail);
        if (events.some(({ id }) => id === said.id)) continue;
        const { scheduled, timer } = said.body as { scheduled: string; timer: string };
        events.push({ id: said.id, scheduled, timer, late: said.headers.late === true });
        fresh.push(said.id);
      }
      state.repeated += deliveries.length - fresh.length;
      return { fresh, repeated: deliveries.length - fresh.length, quarantined: 0 };
    },
    async lastFired(name: string): Promise<Date | undefined> {
      if (state.away) throw new Error("connection refused");
      const last = events.filter(({ timer }) => timer === name).at(-1);
      return last && new Date(last.scheduled);
    },
  };
}

const timer = (name: string, cron: string, rest: Partial<Timer> = {}): Timer => ({
  ...{ name, topic: `slipway.timer.${name}`, body: {}, schedule: parseSchedule(cron, "Europe/Prague") },
  ...rest,
});
const nightly = timer("nightly", "0 3 * * *");

/** One service from `from` to `to`; it sleeps by turning its clock forward. */
async function serve(
  world: ReturnType<typeof inbox>,
  timers: readonly Timer[],
  from: string,
  to: string,
  rest: Partial<TimersOptions> & { during?: (now: Date) => Date | undefined } = {},
): Promise<void> {
  const stop = new AbortController();
  const end = new Date(to);
  let clock = new Date(from);
  await runTimers({
    ...{ timers, accept: world.accept, lastFired: world.lastFired, log: silent, signal: stop.signal },
    now: () => clock,
    async sleep(ms) {
      clock = new Date(clock.getTime() + ms);
      clock = rest.during?.(clock) ?? clock;
      if (clock >= end) stop.abort();
    },
    ...rest,
  });
}

test("a timer fires at its times, each once", async () => {
  const world = inbox();
  await serve(world, [nightly, timer("noon", "0 12 * * *")], "2026-11-01T00:30:00Z", "2026-11-02T12:00:00Z");
  expect(world.fired()).toEqual([
    "nightly 2026-11-01T02:00",
    "noon 2026-11-01T11:00",
    "nightly 2026-11-02T02:00",
    "noon 2026-11-02T11:00",
  ]);
  expect(world.state.repeated).toBe(0);
});

test("every minute is every minute", async () => {
  const world = inbox();
  await serve(world, [timer("minutely", "* * * * *")], "2026-11-01T00:00:30Z", "2026-11-01T00:10:30Z");
  expect(world.fired()).toHaveLength(10);
});

test("through both changes of the clocks a nightly timer fires once a night", async () => {
  for (const [from, to, expected] of [
    ["2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z", ["2026-03-29T01:00", "2026-03-30T00:30"]],
    ["2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z", ["2026-10-25T00:30", "2026-10-26T01:30"]],
  ] as const) {
    const world = inbox();
    await serve(world, [timer("night", "30 2 * * *")], from, to);
    expect(world.fired()).toEqual(expected.map((at) => `night ${at}`));
  }
});

test("ten services over one database fire it once, though their clocks differ", async () => {
  const world = inbox();
  const services = Array.from({ length: 10 }, (_, nth) => {
    const from = new Date(Date.parse("2026-11-01T01:00:00Z") + nth * 1234).toISOString();
    return serve(world, [nightly], from, "2026-11-01T04:00:00Z");
  });
  await Promise.all(services);
  expect(world.fired()).toEqual(["nightly 2026-11-01T02:00"]);
  expect(world.state.repeated).toBe(9);
});

test("one firing is the same bytes and the same id from every service, in time or late", () => {
  const at = new Date("2026-11-01T02:00:00Z");
  const bodied = timer("nightly", "0 3 * * *", { body: { what: "heal", timer: "somebody else's" } });
  const [one, other] = [firing(bodied, at, false), firing(bodied, at, true)];
  expect(one.messageId).toBe(other.messageId);
  expect(one.content).toEqual(other.content);
  expect(readDelivery(other)).toMatchObject({
    topic: "slipway.timer.nightly",
    body: { what: "heal", timer: "nightly", scheduled: "2026-11-01T02:00:00.000Z" },
    headers: { late: true },
  });
  expect(firing(bodied, new Date(at.getTime() + minutes(1)), false).messageId).not.toBe(one.messageId);
  expect(firing({ ...bodied, name: "other" }, at, false).messageId).not.toBe(one.messageId);
});

test("a new timer does not fire for the time before it was there", async () => {
  const world = inbox();
  await serve(world, [nightly], "2026-11-01T03:00:00Z", "2026-11-01T20:00:00Z");
  expect(world.fired()).toEqual([]);
});

test.each([
  ["the latest of several nights, marked as late", nightly, "2026-11-05T10:00:00Z", ["nightly 2026-11-05T02:00 late"]],
  ["in time, if it was only just missed", nightly, "2026-11-05T02:05:00Z", ["nightly 2026-11-05T02:00"]],
  ["nothing that is a day old", timer("weekly", "0 3 * * MON"), "2026-11-10T02:00:01Z", []],
  [
    "a firing of the last day",
    timer("weekly", "0 3 * * MON"),
    "2026-11-10T01:59:00Z",
    ["weekly 2026-11-09T02:00 late"],
  ],
  ["nothing, if that is wanted", timer("nightly", "0 3 * * *", { catchUp: "none" }), "2026-11-05T02:05:01Z", []],
  [
    "what a restart nearly missed, even then",
    timer("nightly", "0 3 * * *", { catchUp: "none" }),
    "2026-11-05T02:00:10Z",
    ["nightly 2026-11-05T02:00"],
  ],
])("after a downtime: %s", async (_, one, back, expected) => {
  const world = inbox();
  await world.accept([firing(one, new Date("2026-11-02T02:00:00Z"), false)]);
  await serve(world, [one], back, new Date(Date.parse(back) + minutes(1)).toISOString());
  expect(world.fired().slice(1)).toEqual(expected);
});

test("the bound is the caller's", async () => {
  const world = inbox();
  const weekly = timer("weekly", "0 3 * * MON");
  await world.accept([firing(weekly, new Date("2026-11-02T02:00:00Z"), false)]);
  await serve(world, [weekly], "2026-11-11T02:00:00Z", "2026-11-11T02:01:00Z", { catchUpMs: hours(72) });
  expect(world.fired()[1]).toBe("weekly 2026-11-09T02:00 late");
});

test("while the database is away nothing is lost but what a later firing makes up for, and it is said once", async () => {
  const world = inbox();
  const warnings: string[] = [];
  const log: Log = { ...silent, warn: (message) => warnings.push(message) };
  world.state.away = true;
  await serve(world, [nightly, timer("minutely", "* * * * *")], "2026-11-01T01:50:00Z", "2026-11-01T02:20:00Z", {
    log,
    during(now) {
      if (now >= new Date("2026-11-01T02:18:00Z")) world.state.away = false;
      return undefined;
    },
  });
  expect(world.fired().slice(0, 2)).toEqual(["nightly 2026-11-01T02:00 late", "minutely 2026-11-01T02:18"]);
  expect(warnings).toEqual(["timers cannot fire for now"]);
  expect(world.state.calls).toBeLessThan(10);
});

test("a clock that was far ahead and is set back fires again at the next time, and nothing twice", async () => {
  const world = inbox();
  const jumps: [when: string, to: string][] = [
    ["2026-11-01T01:10:00Z", "2026-11-01T04:10:00Z"],
    ["2026-11-01T04:10:00Z", "2026-11-01T01:12:00Z"],
  ];
  await serve(world, [timer("hourly", "0 * * * *")], "2026-11-01T00:30:00Z", "2026-11-01T04:30:00Z", {
    during(now) {
      const [when, to] = jumps[0] ?? [];
      if (when === undefined || now < new Date(when)) return undefined;
      jumps.shift();
      return new Date(to!);
    },
  });
  expect(world.fired()).toEqual(
    [1, 4, 2, 3].map((hour) => `hourly 2026-11-01T0${hour}:00${hour === 4 ? " late" : ""}`),
  );
});

test("a machine that slept fires the latest when it wakes", async () => {
  const world = inbox();
  let slept = false;
  await serve(world, [timer("hourly", "0 * * * *")], "2026-11-01T00:30:00Z", "2026-11-01T09:40:00Z", {
    during(now) {
      if (slept || now < new Date("2026-11-01T01:10:00Z")) return undefined;
      slept = true;
      return new Date("2026-11-01T09:30:00Z");
    },
  });
  expect(world.fired()).toEqual(["hourly 2026-11-01T01:00", "hourly 2026-11-01T09:00 late"]);
});

test("services of two configurations are told apart", async () => {
  const warnings: string[] = [];
  const log: Log = { ...silent, warn: (message) => warnings.push(message) };
  const accept = async () => ({ fresh: [], repeated: 0, quarantined: 1 });
  await serve(inbox(), [nightly], "2026-11-01T01:59:00Z", "2026-11-01T02:01:00Z", { log, accept });
  expect(warnings).toEqual(["timers differ between services"]);
});

test("it ends with its signal, and without timers at once", async () => {
  const world = inbox();
  const ended = AbortSignal.abort();
  const options = { accept: world.accept, lastFired: world.lastFired, log: silent };
  await runTimers({ ...options, timers: [nightly], signal: ended });
  await runTimers({ ...options, timers: [], signal: new AbortController().signal });
  const stop = new AbortController();
  const running = runTimers({ ...options, timers: [nightly], signal: stop.signal });
  stop.abort();
  await running;
  expect(world.events).toEqual([]);
});

test.each([
  ["two of one name", [nightly, nightly]],
  ["no topic", [timer("nightly", "0 3 * * *", { topic: "" })]],
  ["a topic no broker would take", [timer("nightly", "0 3 * * *", { topic: "ž".repeat(128) })]],
])("%s is refused", async (_, timers) => {
  await expect(serve(inbox(), timers, "2026-11-01T00:00:00Z", "2026-11-01T00:01:00Z")).rejects.toMatchObject({
    ...{ code: "invalid", subject: "timers.nightly" },
  });
});
