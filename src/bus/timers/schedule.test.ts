import { describe, expect, test } from "vitest";
import { minutes } from "../../lib/units.ts";
import { latestFiring, parseSchedule, scheduleProblem } from "./schedule.ts";

/** The firings after a moment, without the seconds that are always nought. */
function firings(cron: string, zone: string, after: string, many: number): string[] {
  const schedule = parseSchedule(cron, zone);
  const found: string[] = [];
  for (let at = schedule.next(new Date(after)); at !== undefined && found.length < many; at = schedule.next(at)) {
    found.push(at.toISOString().slice(0, 16));
  }
  return found;
}

describe("Europe/Prague, where clocks go from 2:00 to 3:00 on 2026-03-29 and from 3:00 to 2:00 on 2026-10-25", () => {
  const spring = "2026-03-28T12:00:00Z";
  const autumn = "2026-10-24T12:00:00Z";
  test.each([
    ["an hour far from it moves along", "0 12 * * *", spring, ["2026-03-29T10:00", "2026-03-30T10:00"]],
    [
      "a time that does not exist fires once, after the gap",
      "30 2 * * *",
      spring,
      ["2026-03-29T01:00", "2026-03-30T00:30"],
    ],
    ["one in a list too", "30 2,14 * * *", spring, ["2026-03-28T13:30", "2026-03-29T01:00", "2026-03-29T12:30"]],
    [
      "a time that exists twice fires once, the first time",
      "30 2 * * *",
      autumn,
      ["2026-10-25T00:30", "2026-10-26T01:30"],
    ],
    ["one in a list too", "30 2,14 * * *", autumn, ["2026-10-24T12:30", "2026-10-25T00:30", "2026-10-25T13:30"]],
    ["the hours go on, none left out", "0 * * * *", "2026-03-28T23:30:00Z", ["2026-03-29T00:00", "2026-03-29T01:00"]],
    [
      "nor any taken twice",
      "0 * * * *",
      "2026-10-24T23:30:00Z",
      ["2026-10-25T00:00", "2026-10-25T01:00", "2026-10-25T02:00"],
    ],
  ])("%s: %s", (_, cron, after, expected) => {
    expect(firings(cron, "Europe/Prague", after, expected.length)).toEqual(expected);
  });

  test("asked between the two, the second is not another firing", () => {
    expect(firings("30 2 * * *", "Europe/Prague", "2026-10-25T00:45:00Z", 1)).toEqual(["2026-10-26T01:30"]);
  });
});

test.each([
  ["0 3 * * *", "UTC", ["2026-01-01T03:00", "2026-01-02T03:00"]],
  ["*/15 9-10 * * MON-FRI", "UTC", ["2026-01-01T09:00", "2026-01-01T09:15"]],
  ["0 0 29 2 *", "UTC", ["2028-02-29T00:00", "2032-02-29T00:00"]],
  ["0 0 L * *", "UTC", ["2026-01-31T00:00", "2026-02-28T00:00"]],
  ["@daily", "Asia/Kolkata", ["2026-01-01T18:30", "2026-01-02T18:30"]],
  ["  0\t3 * * * ", "America/New_York", ["2026-01-01T08:00", "2026-01-02T08:00"]],
])("%s in %s", (cron, zone, expected) => {
  expect(firings(cron, zone, "2026-01-01T00:00:00Z", 2)).toEqual(expected);
});

test("a moment is not its own next, nor is any of its milliseconds", () => {
  const { next } = parseSchedule("0 3 * * *", "UTC");
  for (const [after, expected] of [
    ["2026-01-01T02:59:59.999Z", "2026-01-01T03:00:00.000Z"],
    ["2026-01-01T03:00:00.000Z", "2026-01-02T03:00:00.000Z"],
    ["2026-01-01T03:00:00.001Z", "2026-01-02T03:00:00.000Z"],
  ] as const) {
    expect(next(new Date(after))!.toISOString()).toBe(expected);
  }
});

test.each([
  ["", "UTC", "five fields"],
  ["0 3 * *", "UTC", "five fields"],
  ["0 0 3 * * *", "UTC", "five fields"],
  ["2026-01-01T03:00:00", "UTC", "five fields"],
  ["? 3 * * *", "UTC", "five fields"],
  ["@reboot", "UTC", "five fields"],
  ["61 * * * *", "UTC", "Invalid value for minute"],
  ["x * * * *", "UTC", "illegal characters"],
  ["0 0 30 2 *", "UTC", "never fires"],
  ["0 3 * * *", "Europe/Praha", "no time zone"],
  ["0 3 * * *", "+02:00", "no time zone"],
  ["0 3 * * *", "", "no time zone"],
])("%j in %j is none", (cron, zone, problem) => {
  expect(scheduleProblem(cron, zone)).toContain(problem);
  expect(() => parseSchedule(cron, zone)).toThrow(expect.objectContaining({ code: "invalid" }));
});

test("nothing is wrong with a good one", () => {
  expect(scheduleProblem("0 3 * * *", "Europe/Prague")).toBeUndefined();
});

describe("the latest of what was missed", () => {
  test.each([
    ["of many", "* * * * *", "2026-01-01T00:00:00Z", "2026-01-02T00:00:30Z", "2026-01-02T00:00"],
    ["of few", "0 3 * * *", "2026-01-01T00:00:00Z", "2026-01-08T02:00:00Z", "2026-01-07T03:00"],
    ["the end counts", "0 3 * * *", "2026-01-01T00:00:00Z", "2026-01-01T03:00:00Z", "2026-01-01T03:00"],
    ["the beginning does not", "0 3 * * *", "2026-01-01T03:00:00Z", "2026-01-02T02:59:59Z", undefined],
    ["nothing lies between the same moment", "* * * * *", "2026-01-01T03:00:00Z", "2026-01-01T03:00:00Z", undefined],
    ["nothing lies before the beginning", "* * * * *", "2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z", undefined],
  ])("%s", (_, cron, after, until, expected) => {
    const found = latestFiring(parseSchedule(cron, "UTC"), new Date(after), new Date(until));
    expect(found?.toISOString().slice(0, 16)).toBe(expected);
  });

  test("a year of minutes is not walked through", () => {
    let asked = 0;
    const minutely = {
      next(after: Date) {
        asked++;
        return new Date((Math.floor(after.getTime() / minutes(1)) + 1) * minutes(1));
      },
    };
    latestFiring(minutely, new Date("2025-01-01T00:00:00Z"), new Date("2026-01-01T00:00:00Z"));
    expect(asked).toBeLessThan(10);
  });
});
