import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { quietCall } from "../lib/call.ts";
import { mergeSchedule, openReleases, scheduleOf } from "./release-schedule.ts";

/** As Bodhi answers, shortened. */
const BODHI = {
  releases: [
    release("41", "archived", "f41", "2025-11-19"),
    release("42", "current", "f42", "2026-05-13"),
    release("43", "current", "f43", "2026-12-02"),
    release("44", "frozen", "f44", "2027-05-19"),
    release("45", "pending", "rawhide", null),
    { ...release("9", "current", "epel9", "2032-05-31"), id_prefix: "FEDORA-EPEL" },
    { ...release("43", "current", "f43", "2026-12-02"), id_prefix: "FEDORA-FLATPAK" },
    { ...release("eln", "pending", "eln", null) },
  ],
  page: 1,
  pages: 1,
  total: 8,
};

function release(version: string, state: string, branch: string, eol: string | null) {
  return { name: `F${version}`, version, id_prefix: "FEDORA", branch, state, eol, composed_by_bodhi: true };
}

const NOTHING = { stable: [], branched: [], end_of_life: {}, unknown_end_of_life_months: 13 };
const SCHEDULE = {
  stable: [42, 43],
  branched: [44],
  rawhide: 45,
  end_of_life: { 41: "2025-11-19", 42: "2026-05-13", 43: "2026-12-02", 44: "2027-05-19" },
};

let directory: string;
const closing: (() => Promise<unknown>)[] = [];
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "slipway-schedule-"));
});
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
  await rm(directory, { recursive: true, force: true });
});

async function serving(listener: RequestListener): Promise<{ url: string; asked: () => number }> {
  let asked = 0;
  const server = createServer((request, response) => {
    asked++;
    listener(request, response);
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  closing.push(async () => {
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/releases/`, asked: () => asked };
}

const says =
  (body: unknown, status = 200): RequestListener =>
  (_request, response) => {
    response.writeHead(status).end(typeof body === "string" ? body : JSON.stringify(body));
  };

function settings(url: string, releases: object = {}) {
  return { data_dir: directory, releases: { ...NOTHING, ...releases, schedule: { url, cache: 3_600_000 } } };
}

test("Bodhi's answer says what is out, what is branched, Rawhide's number, and when each ends", () => {
  expect(scheduleOf(BODHI, "x")).toEqual(SCHEDULE);
});

test("what is configured wins", () => {
  const configured = { ...NOTHING, stable: [40], end_of_life: { 43: "2026-01-01" } };
  expect(mergeSchedule(configured, SCHEDULE)).toMatchObject({
    stable: [40],
    branched: [44],
    rawhide: 45,
    end_of_life: { 42: "2026-05-13", 43: "2026-01-01" },
  });
});

test("an answer is kept: it is asked for once an hour, and used while nobody answers", async () => {
  let listener = says(BODHI);
  const { url, asked } = await serving((request, response) => listener(request, response));
  let now = 1_000_000;
  const open = () => openReleases(settings(url), quietCall(), () => now);
  expect((await open()).current()).toMatchObject(SCHEDULE);
  const again = await open();
  expect(asked()).toBe(1);
  listener = says("", 503);
  now += 3_600_001;
  // In the same process the old one goes on while a new one is asked for.
  expect(again.current()).toMatchObject(SCHEDULE);
  expect((await open()).current()).toMatchObject(SCHEDULE);
  expect(asked()).toBeGreaterThan(1);
});

test("without a schedule the configuration is all there is", async () => {
  const releases = { ...NOTHING, stable: [43] };
  const opened = await openReleases({ data_dir: directory, releases } as never, quietCall());
  expect(opened.current()).toEqual(releases);
});

test.each<[string, RequestListener, string]>([
  ["an error", says("", 500), "unavailable"],
  ["no JSON", says("<html>"), "invalid"],
  ["no list", says({ releases: "many" }), "invalid"],
  ["several pages", says({ ...BODHI, pages: 3 }), "invalid"],
  ["a date that is none", says({ releases: [release("43", "current", "f43", "soon")] }), "invalid"],
  ["a deep hole", says("[".repeat(100_000)), "invalid"],
  ["two megabytes", says(`"${"a".repeat(2_000_000)}"`), "invalid"],
])(
  "%s stops what would be named wrongly, and is a warning where the configuration says enough",
  async (_, answer, code) => {
    const { url } = await serving(answer);
    await expect(openReleases(settings(url), quietCall())).rejects.toMatchObject({ code, subject: url });
    const enough = await openReleases(settings(url, { stable: [43] }), quietCall());
    expect(enough.current()).toMatchObject({ stable: [43], branched: [] });
  },
);

test("a kept answer that is damaged, or another address's, is none", async () => {
  const { url, asked } = await serving(says(BODHI));
  await writeFile(join(directory, "release-schedule.json"), "{");
  expect((await openReleases(settings(url), quietCall())).current()).toMatchObject(SCHEDULE);
  const other = await serving(says(BODHI));
  await openReleases(settings(other.url), quietCall());
  expect([asked(), other.asked()]).toEqual([1, 1]);
});
