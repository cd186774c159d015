import { afterAll, beforeAll, expect, test } from "vitest";
import { ALARM_KINDS, type AlarmTables } from "../alarms/index.ts";
import { alarmDatabase } from "../alarms/testing/database.ts";
import { parseConfig } from "../config/index.ts";
import type { Database } from "../database/index.ts";
import { quietCall, silent } from "../lib/call.ts";
import { hours, minutes } from "../lib/units.ts";
import { alarmSettings, openChannels } from "./alarms.ts";
import { brokerSettings } from "./broker.ts";

let database: Database;
beforeAll(async () => {
  database = await alarmDatabase();
});
afterAll(() => database?.close());

const settings = async (yaml: string) => {
  const config = parseConfig(yaml);
  return alarmSettings(config, await brokerSettings(config, {}, silent));
};
const channels = (yaml: string, environment: Record<string, string> = {}) =>
  openChannels(parseConfig(`notifications:\n  channels:\n${yaml}`), environment, database.kysely<AlarmTables>());

test("by default everything is watched, and nobody is told", async () => {
  const found = await settings("");
  expect(Object.keys(found.after).sort()).toEqual([...ALARM_KINDS].sort());
  expect(found).toMatchObject({ failures: 3, settle: minutes(5), remind: undefined, certificates: [], peers: [] });
  expect(ALARM_KINDS.map((kind) => found.channels(kind))).toEqual(ALARM_KINDS.map(() => []));
});

test("what is switched off is not looked at, and a kind is told to those it names, else to all", async () => {
  const found = await settings(`
notifications:
  channels: { a: { kind: bus }, b: { kind: bus } }
  alarms: { quarantine: { enabled: false }, broker: { channels: [b], after: 3m }, run-failed: { channels: [] } }
  remind: 4h
`);
  expect(found.after.quarantine).toBeUndefined();
  expect(found.after.broker).toBe(minutes(3));
  expect(found.channels("broker")).toEqual(["b"]);
  expect(found.channels("run-failed")).toEqual([]);
  expect(found.channels("queue-age")).toEqual(["a", "b"]);
  expect(found.remind).toBe(hours(4));
});

test("systems that expect something, rules that are on, certificates and servers that are named", async () => {
  const found = await settings(`
bus: { url: "amqps://user@[::1]/%2Fpubsub", ca_file: /ca.pem, cert_file: /cert.pem, key_file: /key.pem, topics: [a] }
systems:
  fedora: { expect: { every: 26h } }
  off: { enabled: false, expect: { every: 26h } }
  quiet: {}
rules:
  - { topic: a.b, name: one }
  - { topic: a.b, name: two, enabled: false }
`);
  expect(found.expected).toEqual([{ system: "fedora", every: hours(26) }]);
  expect(found.rules).toEqual(["one"]);
  expect(found.certificates.map(({ file, use }) => `${file} ${use}`)).toEqual(["/cert.pem own", "/ca.pem authority"]);
  expect(found.peers).toMatchObject([{ host: "::1", port: 5671 }]);
  expect((await settings("bus: { url: amqp://broker.example.org }")).peers).toEqual([]);
});

test("each kind of channel is opened by name; secrets are read when something is sent", async () => {
  const opened = await channels(`
    room: { kind: matrix, homeserver: "https://m.example.org", room: "!a:b", token: { env: TOKEN } }
    chat: { kind: slack, url: { env: CHAT } }
    hook: { kind: webhook, url: "https://example.org", secret: { env: KEY } }
    post: { kind: mail, host: mail.example.org, username: u, password: { env: PASSWORD }, from: a@b.c, to: [a@b.c] }
    wire: { kind: bus }
`);
  expect(opened.map(({ name, kind }) => `${name} ${kind}`)).toEqual([
    ...["room matrix", "chat slack", "hook webhook", "post mail", "wire bus"],
  ]);
  const notice = { id: "x", what: "test", key: "k", kind: "test", severity: "error", subject: "s" } as const;
  const whole = { ...notice, message: "m", next: "n", since: "2026-04-20T03:00:00Z", at: "2026-04-20T03:00:00Z" };
  for (const [name, variable] of [
    ["room", "TOKEN"],
    ["chat", "CHAT"],
    ["hook", "KEY"],
    ["post", "PASSWORD"],
  ]) {
    const sending = opened.find((one) => one.name === name)!.send(whole, quietCall());
    await expect(sending).rejects.toMatchObject({
      code: "unauthenticated",
      subject: `environment variable ${variable}`,
    });
  }
});

test("an authority that cannot be read", async () => {
  const opening = channels("    hook: { kind: webhook, url: 'https://example.org', ca_file: /nowhere/ca.pem }\n");
  await expect(opening).rejects.toMatchObject({ code: "invalid", subject: "/nowhere/ca.pem" });
});
